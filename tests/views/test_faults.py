"""What the tests of views find: mistakes that leave every answer right, planted one by one.

Each row plants one mistake and names the check that must see it: the rank test (how many relations a
role may learn in that session, of which it then learns more), the ledger, or the uniformity of messages.
"""

import re
from functools import partial

import pytest
import torch
from torch import Tensor

from baselines.mpcformer.beaver import multiply
from baselines.mpcformer.options import Settings
from baselines.mpcformer.truncate import truncate
from baselines.puma.context import Context as PumaContext
from baselines.puma.multiply import multiply as puma_multiply
from baselines.puma.truncate import multiply_truncate
from harness.registry import system_class
from protocols.arith.prg import Prg, Stream
from protocols.party import P0, P1, P2, ROLES, Role
from protocols.permllm import permuted_functions
from protocols.permllm.options import PermLLMOptions
from protocols.permllm.system import PermLLM
from protocols.workload import Argmax, Layer, Linear, Nonlinear, Workload
from tests.views.correlation import low_bits_of_p0_and_the_dealer
from tests.views.ledger import KEYS, complaints, draws
from tests.views.rank import Affine, relations
from tests.views.sessions import (
    attention,
    beaver,
    each_time,
    opened_matrix,
    replicated,
    tiny,
    whole,
)
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
            draws[second].copy_(draws[first])

    return Fault(draw=repeat)


def kept(stream: str = "") -> Fault:
    """A pad that is not drawn anew: streams whose names end so are those of the first step of the first
    evaluation."""

    def first(name: str) -> str:
        if not name.endswith(stream):
            return name
        return re.sub(r"^1/\d+/p", "1/0/p", re.sub(r"^(evaluation/)?\d+", r"\g<1>1", name))

    return Fault(name=first)


def short(bits: int) -> Fault:
    """Masks and pads of some bits alone."""
    return Fault(draw=lambda name, draws: draws[-1].bitwise_and_((1 << bits) - 1))


LINEAR = whole(PermLLM, Linear(1, FEW, FEW), evaluations=2)
GELU = whole(PermLLM, Nonlinear("gelu", (FEW,)), evaluations=2)
ARGMAX = whole(PermLLM, Argmax(FEW), evaluations=2)
SWAPPED = whole(PermLLM, Linear(1, FEW, FEW), PermLLMOptions(mask_holder="dealer"), evaluations=2)
ATTENTION = attention(Affine(), torch.arange(6.0).reshape(2, 3, 1))

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
}


@pytest.mark.usefixtures("affine")
@pytest.mark.parametrize("mistake", PERMLLM)
def test_rank_of_permllm(mistake: str) -> None:
    walk, role, allowed, fault = PERMLLM[mistake]
    assert relations(walk, role, fault=fault) > allowed


@pytest.mark.usefixtures("affine")
def test_rank_without_a_mistake() -> None:
    for walk, allowed in ((LINEAR, 1), (GELU, 2 * FEW), (ARGMAX, 2 * FEW), (ATTENTION, 3)):
        assert [relations(walk, role) for role in (P0, P1)] == [0, allowed]


MASKS = (torch.arange(FEW) * 7,) * 2
PRODUCT = beaver(each_time(multiply), [(FEW,)] * 2, Settings(), times=2)
TRUNCATION = beaver(
    each_time(partial(truncate, bits=16)), [(FEW,)], Settings(truncation="exact"), times=2
)
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


SYSTEMS = ("permllm", "mpcformer", "puma")
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
    own, common = Prg.key, (*ROLES, "pair")
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
