"""Each role learns as many relations as it is meant to see values: the rank test (`rank`)."""

from functools import partial
from typing import Any

import pytest
import torch

from baselines.mpcformer import compare, tournament, truncate, wide
from baselines.mpcformer.beaver import matmul, multiply
from baselines.mpcformer.settings import Settings
from baselines.puma import compare as puma_compare
from baselines.puma import inject, lookup, summands
from baselines.puma import multiply as puma_multiply
from baselines.puma.context import Context as PumaContext
from baselines.puma.give import reveal
from baselines.puma.share import Share
from baselines.puma.truncate import multiply_truncate
from protocols.party import P0, P1, P2, ROLES
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
from tests.views.watch import watch


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
    "llama": (Generation(tiny("llama"), 1, 2), 1, True),
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


def test_permllm_attention_over_three_tokens() -> None:
    walk = attention(Affine(), torch.arange(18.0).reshape(3, 3, 2))
    assert relations(walk, P0) == 0
    assert relations(walk, P1) == 1 + 2 + 3  # the scores of each token


ARITHMETIC = {
    "product",
    "matrix product",
    "matrix",
    "matrix, reused",
    "cache",
    "cache, reused",
    "reveal",
}
PLAIN, EXACT, REUSED = Settings(), Settings(truncation="exact"), Settings(reuse_weight_masks=True)
N = (2,)
ROW = (1, 1, 2)
# Primitive, shapes of its operands, settings, and what P1 is meant to learn in two runs. Of a wide mask
# it is sent a low word that it drew itself: one relation an element, with its own stream.
MPCFORMER: dict[str, tuple[Any, list[tuple[int, ...]], Settings, int]] = {
    "product": (each_time(multiply), [N, N], PLAIN, 0),
    "matrix product": (each_time(matmul), [ROW, ROW], PLAIN, 0),
    "wide product": (each_time(partial(wide.product, shift=16)), [N, N], PLAIN, 8),
    "wide product, exact": (each_time(partial(wide.product, shift=16)), [N, N], EXACT, 8),
    "square": (each_time(partial(wide.quadratic, shift=16)), [N], PLAIN, 4),
    "sum of squares": (each_time(partial(wide.square_sum, shift=16)), [N], PLAIN, 4),
    "truncation": (each_time(partial(truncate.truncate, bits=16)), [N], EXACT, 0),
    "sign": (each_time(compare.less_than_zero), [(1,)], PLAIN, 0),
    "zero test": (each_time(compare.is_zero), [(1,)], PLAIN, 0),
    "reveal": (each_time(tournament.reveal_to_user), [N], PLAIN, 4),
    "matrix": (opened_matrix, [(1, 3)], PLAIN, 0),
    "matrix, reused": (opened_matrix, [(1, 3)], REUSED, 0),
    "cache": (cached_products, [ROW, ROW], PLAIN, 0),
    "cache, reused": (cached_products, [ROW, ROW], REUSED, 0),
}


@pytest.mark.parametrize("name", MPCFORMER)
def test_mpcformer(name: str) -> None:
    primitive, shapes, chosen, learnt = MPCFORMER[name]
    walk = beaver(primitive, shapes, chosen, times=1 if name == "sign" else 2)
    assert watch(walk).view(P2) == []
    nudged = name in ARITHMETIC
    assert [relations(walk, role, nudged=nudged) for role in (P0, P1)] == [0, learnt]


async def sign_in_ring(ctx: PumaContext, x: Share) -> None:
    await inject.to_ring(ctx, await puma_compare.sign(ctx, x))


async def gated(ctx: PumaContext, x: Share) -> None:
    await inject.times_bit(ctx, x, await puma_compare.sign(ctx, x))


async def looked_up(ctx: PumaContext, x: Share) -> None:
    await lookup.one_hot(ctx, torch.tensor([1]) if ctx.role == P1 else None, 1, 5)


# Primitive, numbers of operands and of elements, and what P1 is meant to learn in two runs.
PUMA: dict[str, tuple[Any, int, int, int]] = {
    "product": (puma_multiply.multiply, 2, 2, 0),
    "truncated product": (partial(multiply_truncate, bits=18), 2, 2, 0),
    "bits": (summands.to_bits, 1, 1, 0),
    "sign to the ring": (sign_in_ring, 1, 1, 0),
    "times a sign": (gated, 1, 1, 0),
    "one-hot": (looked_up, 1, 1, 0),
    "reveal": (reveal, 1, 2, 4),
}


@pytest.mark.parametrize("name", PUMA)
def test_puma(name: str) -> None:
    primitive, operands, count, learnt = PUMA[name]
    walk = replicated(primitive, *[torch.arange(count) * 7] * operands, times=2)
    nudged = name in ARITHMETIC
    assert [relations(walk, role, nudged=nudged) for role in ROLES] == [0, learnt, 0]
