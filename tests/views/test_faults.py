"""What the tests of views find: mistakes that leave every answer right, planted one by one.

Each row plants one mistake and names the check that must see it: the rank test (how many relations a
role may learn in that session, of which it then learns more), the ledger, or the uniformity of messages.
"""

import re
from functools import partial

import pytest
import torch
from torch import Tensor

from baselines.additive import fourier_gelu
from baselines.additive.beaver import multiply
from baselines.additive.truncate import truncate
from baselines.mpcformer.options import Settings
from baselines.puma.context import Context as PumaContext
from baselines.puma.multiply import multiply as puma_multiply
from baselines.puma.truncate import multiply_truncate
from baselines.shaft.one_hot import one_hot
from harness.registry import system_class
from protocols.arith.prg import Prg, Stream
from protocols.party import P0, P1, P2, ROLES, Role
from protocols.permllm import permuted_functions, slot_softmax
from protocols.permllm.options import PermLLMOptions
from protocols.permllm.system import PermLLM
from protocols.workload import Argmax, Layer, Linear, Nonlinear, Workload
from tests.views.conftest import IdealTrees
from tests.views.correlation import low_bits_of_p0_and_the_dealer
from tests.views.ledger import KEYS, complaints, draws
from tests.views.rank import Affine, relations
from tests.views.sessions import (
    asked_in_lookups,
    attention,
    beaver,
    chosen_tokens,
    each_time,
    lookups,
    masked,
    opened_by_lookups,
    opened_matrix,
    replicated,
    slot_attention,
    squares,
    tiny,
    whole,
    words_of,
)
from tests.views.test_rank import fss_relations, shifted
from tests.views.uniform import nothing, public_to_permllm, uneven
from tests.views.watch import RIGHT, Fault, Walk, watch

FEW = 2  # elements


def absent(stream: str, draw: int) -> Fault:
    """A pad that nobody adds: draw number `draw` of the streams whose names end so is 0."""

    def erase(name: str, draws: list[Tensor]) -> None:
        if name.endswith(stream) and len(draws) == draw + 1:
            draws[draw].zero_()

    return Fault(draw=erase)


def doubled(stream: str, first: int, second: int) -> Fault:
    """One pad for two things: draw `second` of a stream repeats draw `first`."""

    def repeat(name: str, draws: list[Tensor]) -> None:
        if name.endswith(stream) and len(draws) == second + 1:
            size = min(draws[first].numel(), draws[second].numel())
            draws[second].view(-1)[:size] = draws[first].reshape(-1)[:size]

    return Fault(draw=repeat)


def kept(stream: str = "") -> Fault:
    """A pad that is not drawn anew: streams whose names end so are those of the first step of the first
    evaluation."""

    def first(name: str) -> str:
        if not name.endswith(stream):
            return name
        return re.sub(r"^1/\d+/p", "1/0/p", re.sub(r"^(evaluation/)?\d+", r"\g<1>1", name))

    return Fault(name=first)


def draw_kept(stream: str, draw: int) -> Fault:
    """One of a stream's pads is not drawn anew: draw number `draw` begins as in the first step."""
    first: list[Tensor] = []

    def repeat(name: str, draws: list[Tensor]) -> None:
        if not name.endswith(stream) or len(draws) != draw + 1:
            return
        own = draws[draw].view(-1)
        if re.match(r"\d+/0/", name):
            first[:] = [own.clone()]  # the same at every role
        else:
            own[: len(first[0])] = first[0]

    return Fault(draw=repeat)


def alike_in_pairs(stream: str, draw: int) -> Fault:
    """One pad for both of a pair, which are neighbours in a draw's last dimension but one."""

    def repeat(name: str, draws: list[Tensor]) -> None:
        if name.endswith(stream) and len(draws) == draw + 1:
            draws[draw][..., 1, :] = draws[draw][..., 0, :]

    return Fault(draw=repeat)


def short(bits: int) -> Fault:
    """Masks and pads of some bits alone."""
    return Fault(draw=lambda name, draws: draws[-1].bitwise_and_((1 << bits) - 1))


LINEAR = whole(PermLLM, Linear(1, FEW, FEW), evaluations=2)
GELU = whole(PermLLM, Nonlinear("gelu", (FEW,)), evaluations=2)
ARGMAX = whole(PermLLM, Argmax(FEW), evaluations=2)
SWAPPED = whole(PermLLM, Linear(1, FEW, FEW), PermLLMOptions(mask_holder="dealer"), evaluations=2)
CHOICES = chosen_tokens(FEW, (0, 1))
ATTENTION = attention(Affine(), torch.arange(6.0).reshape(2, 3, 1))

SLOTS = slot_attention(Affine(), torch.arange(6.0).reshape(2, 3, 1))
FEW_SLOTS = slot_attention(Affine(), torch.arange(9.0).reshape(3, 3, 1), slots=2)
SQUARES = squares(Affine(), torch.arange(4.0).reshape(2, 2))

# The session, who looks, the relations it may learn, and the mistake.
PERMLLM: dict[str, tuple[Walk, Role, int, Fault]] = {
    "x: mask λ kept over tokens": (GELU, P0, 0, kept("p1p2/input")),
    "one-hot: mask kept over tokens": (ARGMAX, P0, 0, kept("p1p2/input")),
    "W: U absent": (LINEAR, P1, 1, absent("model/linear", 0)),
    "Wx: w0 absent": (LINEAR, P1, 1, absent("p0p2/linear", 0)),
    "Wx: w0 kept over tokens": (LINEAR, P1, 1, kept("p0p2/linear")),
    "Wx: λy absent": (LINEAR, P0, 0, absent("p1p2/linear", 0)),
    "Wx: λy kept over tokens": (LINEAR, P0, 0, kept("p1p2/linear")),
    "W: V absent, the dealer has W": (SWAPPED, P2, 1, absent("model/linear", 0)),
    "Wx: w0 kept over tokens, W at the dealer": (SWAPPED, P1, 1, kept("p0p2/linear")),
    "f(x): t absent, P1 has λ and π(λ)": (GELU, P1, 2 * FEW, absent("p0p2/gelu", 0)),
    "f(x): t kept over tokens": (GELU, P1, 2 * FEW, kept("p0p2/gelu")),
    "f(x): μ absent": (GELU, P0, 0, absent("p1p2/gelu", 0)),
    "f(x): λ' absent": (GELU, P0, 0, absent("p1p2/gelu", 1)),
    "f(x): λ' = μ": (GELU, P0, 0, doubled("p1p2/gelu", 0, 1)),
    "f(x): μ and λ' kept over tokens": (GELU, P0, 0, kept("p1p2/gelu")),
    "logits: t kept over tokens": (ARGMAX, P1, 2 * FEW, kept("p0p2/select")),
    "slot: μ absent": (CHOICES, P0, 0, absent("p1p2/choice", 0)),
    "slot: μ and λ' kept over tokens": (CHOICES, P0, 0, kept("p1p2/choice")),
    "slot: λ' absent": (CHOICES, P0, 0, absent("p1p2/choice", 1)),
    "slot: λ' = μ": (CHOICES, P0, 0, doubled("p1p2/choice", 0, 1)),
    "q·k: r_q absent": (ATTENTION, P1, 3, absent("p0p2/scores", 0)),
    "q·k: r_k = r_q": (ATTENTION, P1, 3, doubled("p0p2/scores", 0, 1)),
    "q·k: r_v = r_k": (ATTENTION, P1, 3, doubled("p0p2/scores", 1, 2)),
    "q·k: τ0 absent from the dealer's τ1": (ATTENTION, P1, 3, absent("p0p2/scores", 3)),
    "q·k: r and τ0 kept over tokens": (ATTENTION, P1, 3, kept("p0p2/scores")),
    "q·k: μ absent": (ATTENTION, P0, 0, absent("p1p2/scores", 0)),
    "q·k: μ kept over tokens": (ATTENTION, P0, 0, kept("p1p2/scores")),
    "q: mask a kept over tokens": (ATTENTION, P0, 0, kept("p1p2/q")),
    "k: mask b kept over rows": (ATTENTION, P0, 0, kept("p1p2/k")),
    "p: mask e kept over tokens": (ATTENTION, P0, 0, kept("p1p2/softmax")),
    "p·v: r_p absent": (ATTENTION, P1, 3, absent("p0p2/sum", 0)),
    "p·v: r_p and τ0 kept over tokens": (ATTENTION, P1, 3, kept("p0p2/sum")),
    "p·v: τ0 absent from the dealer's τ1": (ATTENTION, P1, 3, absent("p0p2/sum", 1)),
    "p·v: μ' absent": (ATTENTION, P0, 0, absent("p1p2/sum", 0)),
    "p·v: μ' kept over tokens": (ATTENTION, P0, 0, kept("p1p2/sum")),
    "slots: R kept over tokens": (SLOTS, P0, 0, draw_kept("p1p2/scores", 0)),
    "slots: m absent": (SLOTS, P0, 0, absent("p1p2/scores", 1)),
    "slots: μ absent": (SLOTS, P0, 0, absent("p1p2/scores", 2)),
    "slots: e kept over tokens": (SLOTS, P0, 0, draw_kept("p1p2/scores", 3)),
    "slots: Z kept over tokens": (SLOTS, P0, 0, draw_kept("p1p2/scores", 4)),
    "slots: r^q kept over tokens": (SLOTS, P1, 6, draw_kept("p0p2/scores", 0)),
    "slots: r^f = r^k": (SLOTS, P1, 6, doubled("p0p2/scores", 1, 2)),
    "slots: t absent": (SLOTS, P1, 6, absent("p0p2/scores", 4)),
    "slots: γ0 absent": (SLOTS, P1, 6, absent("p0p2/scores", 5)),
    "slots: B kept over tokens": (SLOTS, P0, 0, draw_kept("p1p2/sum", 0)),
    "slots: ν absent": (SLOTS, P0, 0, absent("p1p2/sum", 1)),
    "slots: μo absent": (SLOTS, P0, 0, absent("p1p2/sum/out", 0)),
    "slots: o0 absent": (SLOTS, P1, 6, absent("p0p2/sum", 0)),
    "few slots: R kept where it is dealt anew": (FEW_SLOTS, P0, 0, draw_kept("p1p2/scores", 0)),
    "few slots: t kept over tokens": (FEW_SLOTS, P1, 14, draw_kept("p0p2/scores", 4)),
    "squares: ℓ kept over tokens": (SQUARES, P0, 0, draw_kept("p1p2/squares", 0)),
    "squares: r absent": (SQUARES, P1, 2, absent("p0p2/squares", 1)),
    "squares: r kept over tokens": (SQUARES, P1, 2, draw_kept("p0p2/squares", 1)),
    "squares: τ absent": (SQUARES, P1, 2, absent("p0p2/squares", 2)),
}


@pytest.mark.usefixtures("affine")
@pytest.mark.parametrize("mistake", PERMLLM)
def test_rank_of_permllm(mistake: str) -> None:
    walk, role, allowed, fault = PERMLLM[mistake]
    assert relations(walk, role, fault=fault) > allowed


@pytest.mark.usefixtures("affine")
def test_rank_without_a_mistake() -> None:
    right = [(LINEAR, 1), (GELU, 2 * FEW), (ARGMAX, 2 * FEW), (ATTENTION, 3)]
    for walk, allowed in (*right, (SLOTS, 6), (FEW_SLOTS, 14), (SQUARES, 2)):
        assert [relations(walk, role) for role in (P0, P1)] == [0, allowed]


# Mistakes with oblivious transfers: who looks, and the mistake. P1 may learn an entry a lookup.
LOOKUPS: dict[str, tuple[Role, Fault]] = {
    "j: coins absent": (P0, absent("p1p2/lookup/coins", 0)),
    "j: coins kept over tokens": (P0, kept("p1p2/lookup/coins")),
    "T: keys absent": (P1, absent("p0p2/lookup/keys", 0)),
    "T: keys and pads kept over tokens": (P1, kept("p0p2/lookup/keys")),
    "k: pads absent": (P1, absent("p0p2/lookup/keys", 1)),
    "k: pads = keys": (P1, doubled("p0p2/lookup/keys", 0, 1)),
    "k: one pad for both keys of a bit": (P1, alike_in_pairs("p0p2/lookup/keys", 1)),
}


@pytest.mark.parametrize("mistake", LOOKUPS)
def test_rank_of_lookups(mistake: str) -> None:
    role, fault = LOOKUPS[mistake]
    walk = lookups(3, 2, times=2)
    view = partial(opened_by_lookups if role == P1 else asked_in_lookups, size=3)
    allowed = 2 if role == P1 else 0
    assert relations(walk, role, nudged=False, fault=fault, view=view) > allowed


def test_rank_of_lookups_with_narrow_pads(monkeypatch: pytest.MonkeyPatch) -> None:
    """The high bits of entries stay as they are: bytes of P1's tables are not uniform."""
    narrow = Stream.int32
    walk = whole(PermLLM, Argmax(256), PermLLMOptions(selection="ot"))
    assert uneven(walk, 6, nothing) == []
    monkeypatch.setattr(Stream, "int32", lambda self, *shape: narrow(self, *shape) & 15)
    assert any("'P2', 'P1', 'offline'" in place for place in uneven(walk, 6, nothing))


@pytest.mark.usefixtures("affine")
def test_rank_of_a_tree_with_the_new_key_s_value(monkeypatch: pytest.MonkeyPatch) -> None:
    """P0 would have a, and with it q."""

    class Leaky(IdealTrees):
        @staticmethod
        def key_shape(trees: int, count: int, width: int) -> tuple[int, ...]:
            return (trees, count, width)

        @staticmethod
        def puncture(roots: Tensor, count: int, at: Tensor, width: int) -> tuple[Tensor, Tensor]:
            return roots, roots[torch.arange(len(at)), at]

        @staticmethod
        def punctured_values(keys: Tensor, count: int, at: Tensor, width: int) -> Tensor:
            values = keys.clone()
            values[torch.arange(len(at)), at] = 0
            return values

    monkeypatch.setattr(slot_softmax, "Trees", Leaky)
    assert relations(SLOTS, P0) > 0


MASKS = (torch.arange(FEW) * 7,) * 2
PRODUCT = beaver(each_time(multiply), [(FEW,)] * 2, Settings(), times=2)
TRUNCATION = beaver(
    each_time(partial(truncate, bits=16)), [(FEW,)], Settings(truncation="exact"), times=2
)
SERIES = partial(fourier_gelu.sines, series=fourier_gelu.GELU)
SINES = beaver(each_time(SERIES), [(FEW,)], Settings(), times=2)
CHOICE = beaver(each_time(partial(one_hot, size=3)), [(FEW,)], Settings(), times=2)
MATRIX = beaver(opened_matrix, [(1, 3)], Settings(reuse_weight_masks=True), times=2)
REPLICATED = replicated(puma_multiply, *MASKS, times=1)
CUT = replicated(partial(multiply_truncate, bits=18), *MASKS, times=1)


def row_absent(rows: int, row: int) -> Fault:
    """The same where several pads are the rows of one draw."""

    def erase(name: str, draws: list[Tensor]) -> None:
        if draws[-1].shape == (rows, FEW):
            draws[-1][row].zero_()

    return Fault(draw=erase)


# The session, whether it is arithmetic alone (`rank`), who looks, and the mistake; nothing may be learnt.
# Not found: Puma's truncation without h0 or z2, which give away a value behind a shift, no sum of words.
OTHERS: dict[str, tuple[Walk, bool, Role, Fault]] = {
    "mpcformer: a triple for two products, at P0": (PRODUCT, True, P0, kept()),
    "mpcformer: a triple for two products, at P1": (PRODUCT, True, P1, kept()),
    "mpcformer: a absent": (PRODUCT, True, P0, absent("/1", 0)),
    "mpcformer: a = b": (PRODUCT, True, P0, doubled("/1", 0, 1)),
    "mpcformer: P0's half of c absent": (PRODUCT, True, P1, absent("/1", 2)),
    "mpcformer: r for two truncations": (TRUNCATION, False, P0, kept()),
    "mpcformer: weights' mask absent": (MATRIX, True, P1, absent("model/matrix", 0)),
    "mpcformer: a for two products with W": (MATRIX, True, P0, kept()),
    "shaft: t for two rows of sines": (SINES, False, P0, kept()),
    "shaft: t absent": (SINES, False, P0, absent("/1", 0)),
    "shaft: r for two one-hots": (CHOICE, False, P0, kept()),
    "shaft: P0's row absent": (CHOICE, False, P1, absent("/1", 1)),
    "puma: truncation without w0": (CUT, False, P1, row_absent(4, 0)),
    "puma: truncation without z0": (CUT, False, P1, row_absent(4, 3)),
    "puma: truncation without w1": (CUT, False, P0, row_absent(2, 0)),
}


@pytest.mark.parametrize("mistake", OTHERS)
def test_rank_of_others(mistake: str) -> None:
    walk, nudged, role, fault = OTHERS[mistake]
    assert relations(walk, role, nudged=nudged) == 0
    assert relations(walk, role, fault=fault, nudged=nudged) > 0


def test_rank_of_puma_without_sharings_of_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PumaContext, "draw_zero", lambda self, *shape: torch.zeros(shape).long())
    assert all(relations(REPLICATED, role) > 0 for role in ROLES)


# The gate (`test_rank`), who looks, and the mistake; streams are numbered in the order of the gate.
GATES: dict[str, tuple[str, Role, Fault]] = {
    "drelu: mask of the bit absent": ("drelu", P1, absent("1/2", 0)),
    "drelu: seeds of both roots absent": ("drelu", P0, absent("1/3", 0)),
    "drelu: P0's half of the correction absent": ("drelu", P1, absent("1/4", 0)),
    "select: mask of the product absent": ("select", P0, absent("1/5", 0)),
    "select: P0's half of r absent": ("select", P1, absent("1/7", 0)),
    "truncate: mask of the result absent": ("truncate", P0, absent("1/2", 0)),
    "truncate: mask of the borrow absent": ("truncate", P0, absent("1/4", 0)),
    "multiply: mask of the product absent": ("multiply", P0, absent("1/3", 0)),
    "multiply: P0's half of a absent": ("multiply", P1, absent("1/4", 0)),
    "look_up: the point absent": ("look_up", P0, absent("1/2", 0)),
    "look_up: q absent": ("look_up", P0, absent("1/3", 0)),
    "look_up: mask of the entry absent": ("look_up", P1, absent("1/4", 0)),
    "exponents: masks of the bits absent": ("exponents", P0, absent("1/2", 0)),
    "exponents: mask of F absent": ("exponents", P1, absent("1/3", 0)),
    "exponents: mask of E absent": ("exponents", P0, absent("1/4", 0)),
    "matrix: mask of the weights absent": ("matrix", P1, absent("model/w", 0)),
    "matrix: mask of the second product absent": ("matrix", P0, absent("2/2", 0)),
    "matrix: P0's half of a absent": ("matrix", P1, absent("1/3", 0)),
    "matmul: P0's half of a row's mask absent": ("matmul", P1, absent("1/4", 0)),
    "matmul: mask of the second scores absent": ("matmul", P0, absent("2/6", 0)),
}


@pytest.mark.usefixtures("unpacked")
@pytest.mark.parametrize("mistake", GATES)
def test_rank_of_gates_of_fss(mistake: str) -> None:
    gate, role, fault = GATES[mistake]
    assert fss_relations(gate, role, fault) > 0


@pytest.mark.usefixtures("unpacked")
def test_rank_of_masks_that_fss_keeps() -> None:
    """The masks of the first evaluation in the second: its words repeat."""
    walk = masked(shifted, FEW, times=2)
    for role in (P0, P1):
        view = partial(words_of, role=role)
        assert relations(walk, role, nudged=False, view=view) == 0
        assert relations(walk, role, nudged=False, view=view, fault=kept()) > 0


SYSTEMS = ("permllm", "mpcformer", "puma", "shaft", "fss", "shamir")
SMALL = Nonlinear("gelu", (FEW,))


def ledger(name: str, fault: Fault = RIGHT, work: Workload = SMALL) -> list[str]:
    return complaints(
        watch(whole(system_class(name), work, evaluations=2), fault=fault), KEYS[name]
    )


@pytest.mark.parametrize("name", SYSTEMS)
def test_ledger(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is right; then all streams are those of the first evaluation; then all roles have one key."""
    assert ledger(name) == []
    assert any("times" in complaint for complaint in ledger(name, kept()))
    if name == "fss":  # P1 has no key at all
        return
    own, common = Prg.key, (*ROLES, "pair", "key/1", "key/2")
    monkeypatch.setattr(Prg, "key", lambda self, s: bytes(16) if s in common else own(self, s))
    assert "there is a key k012" in ledger(name)


def test_ledger_of_low_bits_that_p0_could_draw() -> None:
    with low_bits_of_p0_and_the_dealer():
        assert ledger("permllm", work=Layer(tiny("llama"), 1, 1))


def test_draws_of_permutations_that_nobody_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """No answer and no message shows it, the ledger does."""
    before = draws(watch(GELU), P2)

    def none(_: Stream, steps: int, rows: int, cols: int) -> Tensor:
        return torch.arange(rows * cols).repeat(steps, 1)

    monkeypatch.setattr(permuted_functions, "permutation_index", none)
    after = draws(watch(GELU), P2)
    assert {name for name in before if before[name] != after[name]} == {"k02 gelu"}


@pytest.mark.parametrize("name", SYSTEMS)
@pytest.mark.parametrize("bits", [32, 60])
def test_short_masks_are_not_uniform(name: str, bits: int) -> None:
    walk = whole(system_class(name), Nonlinear("gelu", (700,)))
    assert uneven(walk, 2, public_to_permllm if name == "permllm" else nothing, short(bits))


def test_bare_cosines_are_not_uniform() -> None:
    """No sum of words tells a number from its sines, so the rank test sees nothing: P1 has them bare."""
    walk = whole(system_class("shaft"), Nonlinear("gelu", (700,)))
    assert uneven(walk, 2, nothing) == []
    found = uneven(
        walk, 2, nothing, absent("1/6", 1)
    )  # of the offline pass's correlations the sixth
    assert any("'P2', 'P1', 'offline'" in place for place in found)
