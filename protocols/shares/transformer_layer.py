"""One transformer layer over a system's primitives, for prefill (causal) and decode (with a cache).

    gpt2, llama    h = x + A(n₁(x))             y = h + F(n₂(h))
    glm            a = n₁(x), h = a + A(a)      b = n₂(h), y = b + F(b)
    bert           h = n₁(x + A(x))             y = n₂(h + F(h))

    A(x) = W_out·softmax(q·kᵀ)·v        F(x) = W_down·f(W_up·x), or W_down·(f(gate)∘up)

What each step costs and who learns what stands with the primitives.
"""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Generic

from torch import Tensor

from protocols.shares.primitives import Primitives, S, SharedLayer, Tables, Which
from protocols.transformer.forward import visible
from protocols.transformer.spec import TransformerSpec


@dataclass(frozen=True)
class NewTokens:
    """What is public about the new tokens: `tables`, cos and sin of their rotary positions; `prefix`,
    how many leading keys every token may see."""

    tables: Tables | None = None
    prefix: int = 0


class TransformerLayer(Generic[S]):
    """One layer of one sequence: its weights and its cache."""

    def __init__(self, ops: Primitives[S], spec: TransformerSpec, weights: SharedLayer[S]) -> None:
        self._ops, self._spec, self._own = ops, spec, weights
        self.cache = ops.cache(spec)

    def __call__(self, x: S, tokens: NewTokens) -> S:
        """x (n, d_model) → the same."""
        own = self._own
        if not self._spec.norm_first:
            n1 = self._normed(1, self._attention(x, x, tokens))
            n2 = self._normed(2, self._feed_forward(n1, own.gained(1, n1)))
            return own.gained(2, n2)
        n1 = self._normed(1, x)
        h = self._attention(n1, self._residual(1, x, n1), tokens)
        n2 = self._normed(2, h)
        return self._feed_forward(n2, self._residual(2, h, n2))

    def _step(self, name: str) -> AbstractContextManager[None]:
        return self._ops.step(name)

    def _normed(self, which: Which, x: S) -> S:
        with self._step(f"norm{which}"):
            return self._own.normed(which, x)

    def _residual(self, which: Which, x: S, normed: S) -> S:
        return self._own.gained(which, normed) if self._spec.family == "glm" else x

    def _attention(self, x: S, residual: S, tokens: NewTokens) -> S:
        """The attention block of x, plus the residual."""
        ops, spec, n = self._ops, self._spec, x.shape[0]
        q, k, v = self._own.projected(x, tokens.tables)  # (heads, n, d_head)
        seen = partial(visible, spec, n, prefix=tokens.prefix)
        with self._step("scores"):
            scores = self.cache.scores(q, k, v, seen)  # (heads, n, L)
        with self._step("softmax"):
            p = ops.softmax(scores, seen(scores.shape[-1]))
        with self._step("sum"):
            o = self.cache.weighted(p)  # (heads, n, d_head)
        merged = ops.each(o, lambda part: part.transpose(0, 1).reshape(n, spec.d_model))
        with self._step("out"):
            return self._own.added("out", merged, residual)

    def _feed_forward(self, x: S, residual: S) -> S:
        """The feed-forward block of x, plus the residual."""
        with self._step("up"):
            inner = self._own.up(x)
        with self._step("activation"):
            hidden = self._activated(inner)
        with self._step("down"):
            return self._own.added("down", hidden, residual)

    def _activated(self, inner: S) -> S:
        if not self._spec.gated:
            return self._ops.activation(self._spec, inner)
        gate, up = (self._ops.each(inner, half) for half in (_first, _second))
        return self._ops.product(self._ops.activation(self._spec, gate), up)


def _first(inner: Tensor) -> Tensor:
    return inner.chunk(2, dim=-1)[0]


def _second(inner: Tensor) -> Tensor:
    return inner.chunk(2, dim=-1)[1]
