"""Each role learns as many relations as it is meant to see values: the rank test (`rank`)."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch

from baselines.mpcformer import maximum, product_truncation
from baselines.mpcformer.beaver import matmul, multiply
from baselines.mpcformer.compare import is_zero, less_than_zero
from baselines.mpcformer.context import Shape
from baselines.mpcformer.options import Settings
from baselines.mpcformer.truncate import truncate
from baselines.puma.a2b_summands import to_bits
from baselines.puma.bit_injection import times_bit, to_ring
from baselines.puma.compare import sign
from baselines.puma.context import Context as PumaContext
from baselines.puma.embedding import one_hot
from baselines.puma.multiply import multiply as puma_multiply
from baselines.puma.share import Share
from baselines.puma.share_and_reveal import reveal
from baselines.puma.truncate import multiply_truncate
from protocols.party import P0, P1, P2, ROLES
from protocols.permllm.options import PermLLMOptions
from protocols.permllm.system import PermLLM
from protocols.workload import Argmax, Generation, Layer, Linear, Nonlinear, Workload, steps
from tests.views.rank import Affine, relations
from tests.views.sessions import (
    attention,
    beaver,
    cached_products,
    each_time,
    opened_matrix,
    replicated,
    tiny,
    whole,
)
from tests.views.watch import Walk, watch

PLAIN, EXACT, REUSED = Settings(), Settings(truncation="exact"), Settings(reuse_weight_masks=True)


def seen(work: Workload) -> int:
    """The values that P1 is meant to see in one evaluation: permuted ones, logits, hidden states."""
    match work:
        case Argmax(n):
            return n
        case Nonlinear(_, shape):
            return torch.Size(shape).numel()
        case Linear():
            return 0
        case Layer(spec, n, length):
            scores = spec.n_heads * n * length
            return 2 * n * spec.d_model + scores + n * spec.d_ff * (2 if spec.gated else 1)
        case Generation(spec):
            bert = spec.family == "bert"
            total = length = 0
            for step in steps(work):
                length += step.tokens
                total += spec.n_layers * seen(Layer(spec, step.tokens, length))
                total += 2 * step.tokens * spec.d_model if bert else spec.d_model + spec.vocab
            return total


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


@pytest.mark.usefixtures("affine")
@pytest.mark.parametrize("name", PERMLLM)
def test_permllm(name: str) -> None:
    work, evaluations, given = PERMLLM[name]
    walk, public = whole(PermLLM, work, None, evaluations), exponents(work)
    session = watch(walk)
    assert sum(tensor.numel() for tensor in session.view(P2)) == public
    assert relations(walk, P0) == 0
    prepared = [r.tensor for r in session.received if r.to == P1 and r.phase == "prepare"]
    weights = sum(t.numel() for t in prepared if not session.is_key(t)) - public if given else 0
    learnt = relations(walk, P1, known=("model/",) if given else ())
    assert learnt == weights + public + evaluations * seen(work)


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
