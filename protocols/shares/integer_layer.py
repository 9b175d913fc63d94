"""A layer of integer weights and its cache, for systems whose products are to be truncated.

Norm gains and biases are folded into the matrix that follows, by P0 and before its weights are brought into
shared form. Where the residual needs the normed tensor itself (GLM, BERT) a diagonal matrix applies them.
1/√d_head is folded into W_q up to the power of two next above √d_head, which the scores' truncation
takes; so P0's integers keep their precision. All values have `frac` fractional bits between steps.
"""

from collections.abc import Callable
from math import ceil, log2
from typing import Literal, Protocol

from torch import Tensor

from protocols.shares.fixed_weight import FixedWeight, fixed, fixed_gains
from protocols.shares.integer_operations import IntegerOperations, SecretMatrix
from protocols.shares.primitives import Seen, SharedCache, SharedLayer, Tables, Which
from protocols.transformer.spec import TransformerSpec
from protocols.transformer.weights import (
    LayerWeights,
    folded_matrices,
    layer_shapes,
    scaled_rows,
)

Truncate = Callable[[Tensor, int], Tensor]  # x, and how many bits go


class Rows(Protocol):
    """Cached keys and values; products are not truncated."""

    def clear(self) -> None:
        """Forget all rows."""

    def fill(self, k: Tensor, v: Tensor) -> None:
        """Take rows (kv_heads, L, d_head)."""

    def scores(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Take rows k, v, and q·kᵀ over all rows."""

    def weighted(self, p: Tensor) -> Tensor:
        """p·v over all rows."""


class IntegerLayer(SharedLayer[Tensor]):
    """The matrices and residual gains of one layer at one role; `own` at P0 alone."""

    def __init__(
        self,
        operations: IntegerOperations,
        name: str,
        spec: TransformerSpec,
        own: Callable[[], LayerWeights] | None,
    ) -> None:
        self._operations, self._spec = operations, spec
        weights = None if own is None else own()
        made = {} if weights is None else _fixed(spec, weights, operations.frac)
        self._matrices = {
            key: operations.matrix(f"{name}/{key}", shape, made.get(key))
            for key, shape in layer_shapes(spec).items()
        }
        self._gains: list[SecretMatrix] = []
        if spec.family in ("glm", "bert"):
            gains = _gains(spec, weights, operations.frac)
            self._gains = [
                operations.diagonal(f"{name}/gain{i}", spec.d_model, gains[i]) for i in (0, 1)
            ]

    def prepare(self) -> None:
        """See `SecretMatrix`."""
        for matrix in (*self._matrices.values(), *self._gains):
            matrix.prepare()

    def normed(self, which: Which, x: Tensor) -> Tensor:
        """Without gain and bias."""
        return self._operations.normed(self._spec, x)

    def gained(self, which: Which, normed: Tensor) -> Tensor:
        """See the base class; times GLM's factor of the residual."""
        with self._operations.step(f"gain{which - 1}"):
            return self._truncated(self._gains[which - 1](normed))

    def projected(self, x: Tensor, tables: Tables | None) -> tuple[Tensor, Tensor, Tensor]:
        """Scores are then to be divided by 2^`score_bits`."""
        spec, n = self._spec, x.shape[0]
        with self._operations.step("qkv"):
            rows = self._product("qkv", x)
        heads = rows.reshape(n, -1, spec.d_head).transpose(0, 1)
        q, k, v = heads.split_with_sizes([spec.n_heads, spec.kv_heads, spec.kv_heads])
        if tables is not None:
            turning = heads[: spec.n_heads + spec.kv_heads]
            with self._operations.step("rotary"):
                turned = self._operations.rotated(spec, turning, tables)
            q, k = turned.split_with_sizes([spec.n_heads, spec.kv_heads])
        return q, k, v

    def up(self, x: Tensor) -> Tensor:
        """See the base class."""
        return self._product("up", x)

    def added(self, key: Literal["out", "down"], x: Tensor, residual: Tensor) -> Tensor:
        """See the base class."""
        return residual + self._product(key, x)

    def _product(self, key: str, x: Tensor) -> Tensor:
        return self._truncated(self._matrices[key](x))

    def _truncated(self, x: Tensor) -> Tensor:
        return self._operations.truncated(x, self._operations.frac)


class IntegerCache(SharedCache[Tensor]):
    """`rows`, truncated. weight_frac: fractional bits of the softmax's weights."""

    def __init__(
        self, rows: Rows, spec: TransformerSpec, truncate: Truncate, frac: int, weight_frac: int
    ) -> None:
        self._rows, self._spec, self._truncate = rows, spec, truncate
        self._frac, self._weight_frac = frac, weight_frac

    def clear(self) -> None:
        """See the base class."""
        self._rows.clear()

    def fill(self, k: Tensor, v: Tensor) -> None:
        """See the base class."""
        self._rows.fill(k, v)

    def scores(self, q: Tensor, k: Tensor, v: Tensor, seen: Seen) -> Tensor:
        """See the base class; what counts is the softmax's business."""
        heads, n, width = q.shape
        scores = self._rows.scores(q.reshape(self._spec.kv_heads, -1, width), k, v)
        scores = self._truncate(scores, self._frac + score_bits(self._spec))
        return scores.reshape(heads, n, -1)

    def weighted(self, p: Tensor) -> Tensor:
        """See the base class."""
        heads, n, length = p.shape
        mixed = self._rows.weighted(p.reshape(self._spec.kv_heads, -1, length))
        return self._truncate(mixed, self._weight_frac).reshape(heads, n, -1)


def score_bits(spec: TransformerSpec) -> int:
    """k, where 2^k is the power of two next above √d_head."""
    return ceil(log2(spec.d_head) / 2)


def _fixed(spec: TransformerSpec, weights: LayerWeights, frac: int) -> dict[str, FixedWeight]:
    """P0's integer matrices, norms and the scores' factor folded in."""
    factor = 2.0 ** score_bits(spec) / spec.d_head**0.5
    made = {}
    for key, matrix in folded_matrices(spec, weights):
        scaled = scaled_rows(matrix, spec.d_model, factor) if key == "qkv" else matrix
        made[key] = fixed(scaled, frac)
    return made


def _gains(
    spec: TransformerSpec, weights: LayerWeights | None, frac: int
) -> list[FixedWeight | None]:
    if weights is None:
        return [None, None]
    norms = (weights.attn_norm, weights.ffn_norm)
    return [fixed_gains(norm, frac, spec.residual_scale) for norm in norms]
