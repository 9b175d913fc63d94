"""Each role learns as many relations as it is meant to see values: the rank test (`rank`)."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from baselines.additive import maximum, product_truncation
from baselines.additive.beaver import matmul, multiply
from baselines.additive.compare import is_zero, less_than_zero
from baselines.additive.context import Shape
from baselines.additive.fourier_gelu import GELU, sines
from baselines.additive.truncate import truncate
from baselines.fss.attention import Cache as FssCache
from baselines.fss.context import Context as FssContext
from baselines.fss.drelu import drelu, select
from baselines.fss.float_lut import normalised
from baselines.fss.linear import Matrix as FssMatrix
from baselines.fss.lut import Table, look_up
from baselines.fss.multiply import multiply as fss_multiply
from baselines.fss.truncation import truncate as fss_truncate
from baselines.mpcformer.options import Settings
from baselines.puma.a2b_summands import to_bits
from baselines.puma.bit_injection import times_bit, to_ring
from baselines.puma.compare import sign
from baselines.puma.context import Context as PumaContext
from baselines.puma.embedding import one_hot
from baselines.puma.multiply import multiply as puma_multiply
from baselines.puma.share import Share
from baselines.puma.share_and_reveal import reveal
from baselines.puma.truncate import multiply_truncate
from baselines.shaft.one_hot import one_hot as dealt_one_hot
from protocols.party import P0, P1, P2, ROLES, Role
from protocols.permllm import attention_tiles
from protocols.permllm.options import PermLLMOptions, slots_dealt
from protocols.permllm.sizes import rows_of
from protocols.permllm.slots import dealt_anew
from protocols.permllm.system import PermLLM
from protocols.shares.fixed_weight import FixedWeight
from protocols.workload import (
    Argmax,
    Attention,
    Bootstrapping,
    Generation,
    Layer,
    Linear,
    Nonlinear,
    Workload,
    steps,
)
from tests.views.rank import Affine, relations
from tests.views.sessions import (
    Begin,
    asked_in_lookups,
    attention,
    beaver,
    cached_products,
    chosen_tokens,
    each_time,
    lookups,
    masked,
    opened_by_lookups,
    opened_matrix,
    opened_to,
    replicated,
    slot_attention,
    squares,
    tiny,
    whole,
    words_of,
)
from tests.views.watch import RIGHT, Fault, Walk, watch

PLAIN, EXACT, REUSED = Settings(), Settings(truncation="exact"), Settings(reuse_weight_masks=True)


def seen(work: Workload) -> int:
    """The values that P1 is meant to see in one evaluation: permuted ones, logits, hidden states."""
    match work:
        case Argmax(n):
            return n
        case Nonlinear(_, shape):
            return torch.Size(shape).numel()
        case Linear() | Attention():
            return 0
        case Layer(spec, n, length):
            scores = attention_tiles.score_count(spec, n, length)
            return 2 * n * spec.d_model + scores + n * spec.d_ff * (2 if spec.gated else 1)
        case Generation(spec):
            bert = spec.family == "bert"
            total = length = 0
            for step in steps(work):
                length += step.tokens
                total += spec.n_layers * seen(Layer(spec, step.tokens, length))
                total += 2 * step.tokens * spec.d_model if bert else spec.d_model + spec.vocab
            return total
        case Bootstrapping():
            return 0


def exponents(work: Workload) -> int:
    """The public exponents of the weights, which P0 tells both others."""
    tables = {Linear: 1, Generation: 2}.get(type(work), 0)
    return tables + (4 if isinstance(work, Layer | Generation) else 0)


# Sessions of one evaluation or two. `given`: P1 is taken to know the weights (W − U and U), and must
# learn no more for it; the words W − U, which it then knows as well, are counted as given.
PERMLLM: dict[str, tuple[Workload, int, bool]] = {
    "linear": (Linear(2, 3, 2), 2, False),
    "gelu": (Nonlinear("gelu", (3,)), 2, False),
    "softmax": (Nonlinear("softmax", (2, 2)), 2, False),
    "argmax": (Argmax(3), 2, False),
    "layer": (Layer(tiny("llama", 1), 1, 3), 1, True),
    "gpt2": (Generation(tiny("gpt2"), 2, 1), 1, True),
    "llama": (Generation(tiny("llama"), 1, 3), 1, True),  # two steps dealt at once
    "glm": (Generation(tiny("glm"), 1, 1), 1, True),
    "bert": (Generation(tiny("bert"), 1, 0), 1, False),
}


FULL = PermLLMOptions(variant="fused")
MODES = {
    "full": FULL,
    "bounded": replace(FULL, refresh="bounded", refresh_slots=2),
    "scores": replace(FULL, refresh="scores"),
}
FUSED: list[tuple[str, Workload]] = [
    ("full", Layer(tiny("llama", 1), 1, 3)),
    ("scores", Layer(tiny("llama", 1), 1, 3)),
    ("full", Generation(tiny("gpt2"), 2, 2)),
    ("bounded", Generation(tiny("llama"), 1, 3)),  # the last step leaves a slot as it is
]


def seen_fused(work: Workload) -> int:
    """The same with variant=fused: of a family with RMSNorm, of a step with one new row, the sum of
    squares instead of the row at norm 2, and so at the last norm."""
    total = seen(work)
    if not isinstance(work, Layer | Generation) or not work.spec.rms_norm:
        return total
    saved = work.spec.d_model - 1
    if isinstance(work, Layer):
        return total - saved
    return total - sum(saved * (1 + work.spec.n_layers * (s.tokens == 1)) for s in steps(work))


def positions_told(work: Workload, options: PermLLMOptions) -> int:
    """Which slots are dealt anew, where not all are: public."""
    every = rows_of(work) if isinstance(work, Generation) else []
    dealt = [(dealt_anew(r.length, r.dealt, slots_dealt(options)), r) for r in every if r.n == 1]
    return sum(count for count, r in dealt if count < r.length)


@pytest.mark.usefixtures("affine")
@pytest.mark.parametrize(("mode", "work"), FUSED, ids=lambda value: type(value).__name__)
def test_permllm_fused(mode: str, work: Workload) -> None:
    told = positions_told(work, MODES[mode])
    assert (told > 0) == (mode == "bounded")
    check_permllm(work, MODES[mode], 1, True, exponents(work) + told, seen_fused(work))


@pytest.mark.usefixtures("affine")
def test_fused_steps_over_three_tokens() -> None:
    """P1 sees the scores of two heads, and sums of squares."""
    rows = torch.arange(9.0).reshape(3, 3, 1)
    for slots, told in ((None, 0), (2, 2)):
        walk = slot_attention(Affine(), rows, slots)
        assert [relations(walk, role) for role in ROLES] == [0, 2 * (1 + 2 + 3) + told, 0]
    assert [relations(squares(Affine(), rows[:, :, 0]), role) for role in ROLES] == [0, 3, 0]


@pytest.mark.usefixtures("affine")
@pytest.mark.parametrize("name", PERMLLM)
def test_permllm(name: str) -> None:
    work, evaluations, given = PERMLLM[name]
    check_permllm(work, None, evaluations, given, exponents(work), seen(work))


def check_permllm(
    work: Workload,
    options: PermLLMOptions | None,
    evaluations: int,
    given: bool,
    public: int,
    shown: int,
) -> None:
    """P0 and P2 learn nothing; P1 what is public to it and what it is shown in an evaluation."""
    walk = whole(PermLLM, work, options, evaluations)
    session = watch(walk)
    assert sum(tensor.numel() for tensor in session.view(P2)) == exponents(work)
    assert relations(walk, P0) == 0
    prepared = [r.tensor for r in session.received if r.to == P1 and r.phase == "prepare"]
    known = sum(t.numel() for t in prepared if not session.is_key(t)) - exponents(work)
    weights = known if given else 0
    learnt = relations(walk, P1, known=("model/",) if given else ())
    assert learnt == weights + public + evaluations * shown


@pytest.mark.usefixtures("affine")
@pytest.mark.parametrize("work", [Layer(tiny("gpt2"), 3, 4), Generation(tiny("llama", 1), 3, 1)])
def test_permllm_in_tiles(work: Workload, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row a tile, each under masks, pads and an order of its own."""
    monkeypatch.setattr(attention_tiles, "TILE_SCORES", 1)
    check_permllm(work, None, 1, True, exponents(work), seen(work))


@pytest.mark.usefixtures("affine")
def test_permllm_with_masked_weights_at_the_dealer() -> None:
    """P2 has W − V and P1 has V: neither learns more than the exponent."""
    chosen = PermLLMOptions(mask_holder="dealer")
    walk = whole(PermLLM, Linear(2, 3, 2), chosen, evaluations=2)
    assert [relations(walk, role) for role in ROLES] == [0, 1, 1]


def test_permllm_attention_over_three_tokens() -> None:
    walk = attention(Affine(), torch.arange(18.0).reshape(3, 3, 2))
    assert relations(walk, P0) == 0
    assert relations(walk, P1) == 1 + 2 + 3  # the scores of each token


@pytest.mark.usefixtures("affine")
def test_tokens_that_overlap() -> None:
    """Three tokens: P0 has nothing of the slots, P1 what it sees without it."""
    assert relations(chosen_tokens(5, (2, 0, 2)), P0) == 0
    walk = whole(PermLLM, Generation(tiny("gpt2"), 1, 2), PermLLMOptions(variant="fused"))
    assert relations(walk, P0) == 0


@pytest.mark.parametrize("at_once", [1, 2])
def test_lookups_by_oblivious_transfer(at_once: int) -> None:
    """P1 opens one entry a lookup, whatever else it computes from its keys; P0's bits are pads."""
    for position in range(3):
        walk = lookups(3, position, times=2, at_once=at_once)
        opened = partial(opened_by_lookups, size=3)
        assert relations(walk, P0, nudged=False, view=partial(asked_in_lookups, size=3)) == 0
        assert relations(walk, P1, nudged=False, view=opened) == 2


async def sign_in_ring(ctx: PumaContext, x: Share) -> None:
    await to_ring(ctx, await sign(ctx, x))


async def gated(ctx: PumaContext, x: Share) -> None:
    await times_bit(ctx, x, await sign(ctx, x))


async def looked_up(ctx: PumaContext, x: Share) -> None:
    await one_hot(ctx, torch.tensor([1]) if ctx.role == P1 else None, 1, 5)


def mpcformer(
    primitive: Callable[..., Any], shape: Shape, operands: int = 1, chosen: Settings = PLAIN
) -> Walk:
    """A primitive that keeps nothing, twice in a session."""
    return beaver(each_time(primitive), [shape] * operands, chosen, times=2)


def puma(primitive: Callable[..., Any], count: int, operands: int = 1) -> Walk:
    """A primitive on vectors of `count` elements, twice in a session."""
    return replicated(primitive, *[torch.arange(count) * 7] * operands, times=2)


MATRIX, ROW = [(1, 3)], (1, 1, 2)
WIDE = partial(product_truncation.product, shift=16)
# The session, whether it is arithmetic mod 2^64 alone (`rank`: nudged), and what P1 is meant to learn. Of
# MPCFormer's wide masks it is sent a low word that it drew itself: one relation an element.
PRIMITIVES: dict[str, tuple[Walk, bool, int]] = {
    "mpcformer product": (mpcformer(multiply, (2,), 2), True, 0),
    "mpcformer matrix product": (mpcformer(matmul, ROW, 2), True, 0),
    "mpcformer reveal": (mpcformer(maximum.reveal_to_user, (2,)), True, 4),
    "mpcformer weights": (beaver(opened_matrix, MATRIX, PLAIN, 2), True, 0),
    "mpcformer weights, reused": (beaver(opened_matrix, MATRIX, REUSED, 2), True, 0),
    "mpcformer cache": (beaver(cached_products, [ROW] * 2, PLAIN, 2), True, 0),
    "mpcformer cache, reused": (beaver(cached_products, [ROW] * 2, REUSED, 2), True, 0),
    "mpcformer wide product": (mpcformer(WIDE, (2,), 2), False, 8),
    "mpcformer wide product, exact": (mpcformer(WIDE, (2,), 2, EXACT), False, 8),
    "mpcformer square": (
        mpcformer(partial(product_truncation.quadratic, shift=16), (2,)),
        False,
        4,
    ),
    "mpcformer sum of squares": (
        mpcformer(partial(product_truncation.square_sum, shift=16), (2,)),
        False,
        4,
    ),
    "mpcformer truncation": (mpcformer(partial(truncate, bits=16), (2,), 1, EXACT), False, 0),
    "mpcformer sign": (beaver(each_time(less_than_zero), [(1,)], PLAIN, 1), False, 0),
    "mpcformer zero test": (mpcformer(is_zero, (1,)), False, 0),
    "shaft sines": (mpcformer(partial(sines, series=GELU), (1,)), False, 0),
    "shaft one-hot": (
        beaver(each_time(partial(dealt_one_hot, size=3)), [(1,)], PLAIN, 2),
        False,
        0,
    ),
    "puma product": (puma(puma_multiply, 2, 2), True, 0),
    "puma reveal": (puma(reveal, 2), True, 4),
    "puma truncated product": (puma(partial(multiply_truncate, bits=18), 2, 2), False, 0),
    "puma bits": (puma(to_bits, 1), False, 0),
    "puma sign to the ring": (puma(sign_in_ring, 1), False, 0),
    "puma times a sign": (puma(gated, 1), False, 0),
    "puma one-hot": (puma(looked_up, 1), False, 0),
}


@pytest.mark.parametrize("name", PRIMITIVES)
def test_primitives_of_others(name: str) -> None:
    walk, nudged, learnt = PRIMITIVES[name]
    assert [relations(walk, role, nudged=nudged) for role in ROLES] == [0, learnt, 0]


def signs(ctx: FssContext) -> Callable[[Tensor], Tensor]:
    return lambda x: drelu(ctx, x, 10)


def selected(ctx: FssContext) -> Callable[[Tensor], Tensor]:
    return lambda x: ctx.open(select(ctx, drelu(ctx, x, 3), x, 50), 50)


def shifted(ctx: FssContext) -> Callable[[Tensor], Tensor]:
    return lambda x: fss_truncate(ctx, x, 8)


def fss_product(ctx: FssContext) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda x, y: ctx.open(fss_multiply(ctx, x, y, 50), 50)


def entries(ctx: FssContext) -> Callable[[Tensor], Tensor]:
    table = Table(torch.arange(1 << 8))
    return lambda x: ctx.open(look_up(ctx, (x, table), width=50)[0], 50)


def floats(ctx: FssContext) -> Callable[[Tensor], object]:
    ctx.bits = 12  # few exponents
    return lambda x: normalised(ctx, x)


def secret_matrix(ctx: FssContext) -> Callable[[Tensor], Tensor]:
    """Masked once."""
    own = FixedWeight(torch.tensor([[3, 5], [7, 9]], dtype=torch.int16), None)
    matrix = FssMatrix(ctx, "w", (2, 2), own if ctx.role == P0 else None)
    matrix.prepare()
    return lambda x: matrix(x.reshape(1, 2))


def attended(ctx: FssContext) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """Both products with all rows so far: the masks of earlier ones come again."""
    cache = FssCache(ctx, 1, 2)
    return lambda q, k, v: cache.weighted(cache.scores(*(x.reshape(1, 1, 2) for x in (q, k, v))))


@dataclass(frozen=True)
class Gate:
    """A protocol of FSS and the sessions it is looked at in. known: P0 and P1 are taken to know the masks
    of its inputs."""

    begin: Begin
    operands: int = 1
    count: int = 2
    steps: int = 1
    known: bool = True


FSS: dict[str, Gate] = {
    "drelu": Gate(signs),
    "select": Gate(selected),
    "truncate": Gate(shifted),
    "multiply": Gate(fss_product, 2),
    "look_up": Gate(entries),
    "exponents": Gate(floats, count=1),
    "matrix": Gate(secret_matrix, steps=2),
    "matmul": Gate(attended, 3, steps=2, known=False),
}


def fss_relations(name: str, role: Role, fault: Fault = RIGHT) -> int:
    """Those that are not between the inputs and their masks."""
    gate = FSS[name]
    inputs = [f"{step + 1}/{i + 1}" for step in range(gate.steps) for i in range(gate.operands)]
    walk = masked(gate.begin, gate.count, gate.operands, gate.steps)
    known, view = tuple(inputs) if gate.known else (), partial(words_of, role=role)
    with opened_to(role):
        found = relations(walk, role, known=known, fault=fault, nudged=False, view=view)
    return found - gate.count * len(known)


@pytest.mark.usefixtures("unpacked")
@pytest.mark.parametrize("name", FSS)
def test_gates_of_fss(name: str) -> None:
    """Keys and what is opened: no relation between their words, whatever masks of inputs are known."""
    assert [fss_relations(name, role) for role in (P0, P1)] == [0, 0]
