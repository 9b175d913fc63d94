"""A model in the clear with its functions as parameters: exact or approximate, float64 or float32.

A private system that approximates norm, softmax and activation is held to the same model with the same
approximations; and the plaintext system computes with it. With exact functions in float64 it agrees with
`protocols.transformer.reference` and `plain_model`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from protocols.transformer.model import ModelWeights, positions, visible_prefix
from protocols.transformer.plain_sequence import PlainSequence
from protocols.transformer.reference import apply_linear, gelu, layer_norm, rms_norm
from protocols.transformer.rotary import rotary_tables, rotate_half
from protocols.transformer.spec import TransformerSpec
from protocols.transformer.weights import LayerWeights, Linear, Norm

Cache = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Functions:
    """What may be approximated.

    normalize: rows, eps, whether RMSNorm → normed rows, before gain and bias. softmax: scores
    (..., n, L) and which of them count, bool (n, L) or None → weights. activate: spec and the inner
    values of the feed-forward block (two halves where it is gated) → the hidden ones.
    """

    normalize: Callable[[Tensor, float, bool], Tensor]
    softmax: Callable[[Tensor, Tensor | None], Tensor]
    activate: Callable[[TransformerSpec, Tensor], Tensor]


def exact_normalize(x: Tensor, eps: float, rms: bool) -> Tensor:
    """See `Functions`."""
    return rms_norm(x, eps) if rms else layer_norm(x, eps)


def exact_softmax(x: Tensor, visible: Tensor | None) -> Tensor:
    """See `Functions`."""
    return torch.softmax(x if visible is None else x.masked_fill(~visible, -torch.inf), dim=-1)


def exact_activate(spec: TransformerSpec, inner: Tensor) -> Tensor:
    """See `Functions`."""
    if spec.gated:
        gate, up = inner.chunk(2, dim=-1)
        return gate * torch.sigmoid(gate) * up
    return gelu(inner, "erf" if spec.family == "bert" else "tanh")


EXACT = Functions(exact_normalize, exact_softmax, exact_activate)


def functions_of(
    normalize: Callable[[Tensor, float, bool], Tensor],
    softmax: Callable[[Tensor, Tensor | None], Tensor],
    gelu: Callable[[Tensor], Tensor],
    silu: Callable[[Tensor], Tensor],
) -> Functions:
    """Those of a system: GeLU, or SiLU of the gate times the other half where it is gated."""

    def activate(spec: TransformerSpec, inner: Tensor) -> Tensor:
        if not spec.gated:
            return gelu(inner)
        gate, up = inner.chunk(2, dim=-1)
        return silu(gate) * up

    return Functions(normalize, softmax, activate)


def visible(spec: TransformerSpec, n: int, length: int, prefix: int) -> Tensor | None:
    """Which of `length` keys each of the last n tokens sees, bool (n, length); None: all."""
    if not spec.causal or n == 1:
        return None
    seen = torch.ones(n, length, dtype=torch.bool).tril(length - n)
    seen[:, :prefix] = True
    return seen


def linear(layer: Linear, x: Tensor) -> Tensor:
    """x·Wᵀ + bias in x's type."""
    if x.dtype == torch.float64:
        return apply_linear(layer, x)
    return torch.nn.functional.linear(x, layer.weight, layer.bias)


class LayerForward:
    """One layer's forward pass; `cache` (heads, L, width) grows with every call."""

    def __init__(
        self,
        spec: TransformerSpec,
        weights: LayerWeights,
        functions: Functions,
        cache: Cache | None = None,
    ) -> None:
        self._spec, self._weights, self._functions = spec, weights, functions
        self._cache = cache

    def __call__(self, x: Tensor, tables: tuple[Tensor, Tensor] | None, prefix: int = 0) -> Tensor:
        """x (n, d_model) of any float type → the same; tables: cos and sin of the new tokens."""
        spec, own = self._spec, self._weights
        if not spec.norm_first:
            h = self._norm(own.attn_norm, x + self._attention(x, tables, prefix))
            return self._norm(own.ffn_norm, h + self._feed_forward(h))
        a = self._norm(own.attn_norm, x)
        h = self._residual(x, a) + self._attention(a, tables, prefix)
        b = self._norm(own.ffn_norm, h)
        return self._residual(h, b) + self._feed_forward(b)

    def _residual(self, x: Tensor, normed: Tensor) -> Tensor:
        return (normed if self._spec.family == "glm" else x) * self._spec.residual_scale

    def _norm(self, norm: Norm, x: Tensor) -> Tensor:
        return apply_norm(self._functions, norm, x)

    def _attention(self, x: Tensor, tables: Cache | None, prefix: int) -> Tensor:
        spec, n = self._spec, len(x)
        rows = torch.split(linear(self._weights.qkv, x), [spec.d_model, spec.d_kv, spec.d_kv], -1)
        q, k, v = (part.reshape(n, -1, spec.d_head).transpose(0, 1) for part in rows)
        if tables is not None:
            cos, sin = (table.to(x.dtype) for table in tables)
            q, k = (t * cos + rotate_half(t, spec) * sin for t in (q, k))
        if self._cache is not None:
            k, v = torch.cat([self._cache[0], k], 1), torch.cat([self._cache[1], v], 1)
        self._cache = k, v
        k, v = (t.repeat_interleave(spec.n_heads // spec.kv_heads, dim=0) for t in (k, v))
        scores = q @ k.transpose(1, 2) / spec.d_head**0.5
        p = self._functions.softmax(scores, visible(spec, n, k.shape[1], prefix))
        return linear(self._weights.out, (p @ v).transpose(0, 1).reshape(n, spec.d_model))

    def _feed_forward(self, x: Tensor) -> Tensor:
        hidden = self._functions.activate(self._spec, linear(self._weights.up, x))
        return linear(self._weights.down, hidden)


def apply_norm(functions: Functions, norm: Norm, x: Tensor) -> Tensor:
    """The norm with its gain and bias, in x's type; RMSNorm where it has no bias."""
    y = functions.normalize(x, norm.eps, norm.bias is None) * norm.gain.to(x.dtype)
    return y if norm.bias is None else y + norm.bias.to(x.dtype)


class ModelForward(PlainSequence):
    """One sequence through one model; layers and tables are held."""

    def __init__(
        self,
        spec: TransformerSpec,
        weights: ModelWeights,
        functions: Functions,
        dtype: torch.dtype = torch.float64,
    ) -> None:
        self._spec, self._dtype = spec, dtype
        self.functions = self._functions = functions
        self._weights = weights
        self._table, self._head = weights.token_embedding, weights.head
        self._layer_weights = list(weights.layers)
        self.reset()

    def reset(self) -> None:
        """Forget the sequence."""
        self._layers = [LayerForward(self._spec, w, self._functions) for w in self._layer_weights]
        self._length = self._prompt_len = 0

    @property
    def _has_head(self) -> bool:
        return self._head is not None

    def _scored(self, x: Tensor) -> Tensor:
        assert self._head is not None
        if self._weights.final_norm is not None:
            x = apply_norm(self._functions, self._weights.final_norm, x)
        return linear(self._head, x)

    def _run(self, tokens: Sequence[int]) -> Tensor:
        """The last layer's output for new tokens: the prompt, then one at a time."""
        spec = self._spec
        self._prompt_len = self._prompt_len or len(tokens)
        span = range(self._length, self._length + len(tokens))
        at = positions(spec, self._prompt_len, span)
        tables = rotary_tables(spec, *at) if spec.rotary else None
        x = self._embed(tokens, at[0])
        for layer in self._layers:
            x = layer(x, tables, visible_prefix(spec, self._prompt_len))
        self._length += len(tokens)
        return x

    def _embed(self, tokens: Sequence[int], at: Tensor) -> Tensor:
        x = self._table[torch.tensor(tokens)].to(self._dtype)
        if self._weights.position_embedding is not None:
            x = x + self._weights.position_embedding[at].to(self._dtype)
        norm = self._weights.embedding_norm
        return x if norm is None else apply_norm(self._functions, norm, x)
