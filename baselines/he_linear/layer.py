"""One transformer layer: P0 multiplies its four matrices, P1 computes everything between them in the clear.

    norm                                              P1
    W_qkv                                             `linear`    2 hops
    rotary positions, scores, softmax, weighted sum   P1
    W_out                                             `linear`    2 hops
    residual, norm                                    P1
    W_up                                              `linear`    2 hops
    GeLU, or SwiGLU                                   P1
    W_down                                            `linear`    2 hops
    residual                                          P1

8 hops a layer. Norm gains and biases are folded into the matrix that follows, so that P1 does without them.
Where the residual needs the normed tensor itself (GLM, BERT) P0 gives them to P1:

| phase | from | to | what | payload | hop |
|---|---|---|---|---|---|
| prepare | P0 | P1 | gain and bias of both norms, GLM and BERT alone | 2·2·4·d_model | 1 |

**shuffle.** P0 draws an order π of the d_ff inner values, fresh for each token, layer and step. It multiplies
by W_up with its rows, and by W_down with its columns, in that order; both are encoded anew in the offline
phase. P1 sees π(W_up·x) and computes the activation, which is elementwise and does not mind the order. No
byte and no hop changes. It applies to this block alone: norms and residuals need x itself, which P1 holds
from the start; scores need queries, keys and values of many tokens in one order. What it hides: which inner
value belongs to which row of W_up. P1 still sees the values, and the whole input and output of the block.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from baselines.he_linear.context import Context
from baselines.he_linear.linear import matrix
from baselines.he_linear.parameters import affine
from protocols.party import P0, P1
from protocols.shares.primitives import Seen, SharedCache, SharedLayer, Tables, Which
from protocols.transformer.forward import EXACT
from protocols.transformer.rotary import rotate_half
from protocols.transformer.spec import TransformerSpec
from protocols.transformer.weights import LayerWeights, Norm, folded_matrices, layer_shapes

NORMS = 2
SHUFFLED = ("up", "down")


class Gains:
    """Gains and biases of norms, which P0 gives to P1, float32 (norms, 2, d_model)."""

    def __init__(self, ctx: Context, name: str, count: int, width: int) -> None:
        self._ctx, self._name, self._shape = ctx, name, (count, 2, width)
        self._values = torch.empty(0)

    def prepare(self, norms: Sequence[Norm]) -> None:
        """norms: at P0 alone; LayerNorms, which have a bias."""
        if self._ctx.party.role == P0:
            pairs = [
                torch.stack([norm.gain, bias]) for norm in norms if (bias := norm.bias) is not None
            ]
            self._ctx.party.send(P1, torch.stack(pairs))
        if self._ctx.party.role == P1:
            expected = (torch.float32, self._shape)
            (self._values,) = self._ctx.receive(self._name, P0, expected)

    def __call__(self, which: int, normed: Tensor) -> Tensor:
        """The normed rows of norm number `which`, with gain and bias."""
        if normed.is_meta:
            return normed
        gain, bias = self._values[which].double().unbind()
        return normed * gain + bias


class HeLayer(SharedLayer[Tensor]):
    """The four matrices of one layer; own: at P0 alone."""

    def __init__(
        self,
        ctx: Context,
        name: str,
        spec: TransformerSpec,
        own: Callable[[], LayerWeights] | None,
        shuffle: bool,
    ) -> None:
        self._ctx, self._spec, self._own, self._shuffle = ctx, spec, own, shuffle
        self._matrices = {
            key: matrix(ctx, f"{name}/{key}", affine(*shape), kept=shuffle and key in SHUFFLED)
            for key, shape in layer_shapes(spec).items()
        }
        self._gains = Gains(ctx, f"{name}/norms", NORMS, spec.d_model)

    def prepare(self) -> None:
        """P0 encodes one matrix after the other."""
        if self._own is None:
            for matrix in self._matrices.values():
                matrix.take(None)
            norms: Sequence[Norm] = ()
        else:
            weights = self._own()
            for key, folded in folded_matrices(self._spec, weights):
                self._matrices[key].take(folded)
            norms = weights.attn_norm, weights.ffn_norm
        if gives_gains(self._spec):
            self._gains.prepare(norms)

    def normed(self, which: Which, x: Tensor) -> Tensor:
        """Without gain and bias."""
        return EXACT.normalize(x, self._spec.norm_eps, self._spec.rms_norm)

    def gained(self, which: Which, normed: Tensor) -> Tensor:
        """See the base class; times GLM's factor of the residual."""
        return self._gains(which - 1, normed) * self._spec.residual_scale

    def projected(self, x: Tensor, tables: Tables | None) -> tuple[Tensor, Tensor, Tensor]:
        """See the base class."""
        spec = self._spec
        with self._ctx.party.step("qkv"):
            rows = self._matrices["qkv"](x)
        heads = rows.reshape(len(x), -1, spec.d_head).transpose(0, 1)
        q, k, v = heads.split_with_sizes([spec.n_heads, spec.kv_heads, spec.kv_heads])
        if tables is not None and not q.is_meta:
            cos, sin = tables
            q, k = (part * cos + rotate_half(part, spec) * sin for part in (q, k))
        return q / spec.d_head**0.5, k, v

    def up(self, x: Tensor) -> Tensor:
        """See the base class; the inner values in an order of P0's, where it shuffles."""
        if self._shuffle and self._ctx.offline_pass:
            self._shuffled(len(x))
        return self._matrices["up"](x)

    def added(self, key: Literal["out", "down"], x: Tensor, residual: Tensor) -> Tensor:
        """See the base class."""
        return residual + self._matrices[key](x)

    def _shuffled(self, n: int) -> None:
        """Offline: both matrices of the block in a fresh order for each of n tokens, at P0."""
        up, down = self._matrices["up"], self._matrices["down"]
        made: tuple[list[Any], list[Any]] = ([], [])
        if self._ctx.party.role == P0:
            for order in self._ctx.orders.permutations(n, self._spec.d_ff):
                halves = 2 if self._spec.gated else 1
                rows = torch.cat([order + half * self._spec.d_ff for half in range(halves)])
                made[0].append(up.in_order(rows, None))
                made[1].append(down.in_order(None, order))
        up.make_ready(n, made[0])
        down.make_ready(n, made[1])


class PlainCache(SharedCache[Tensor]):
    """Keys and values in the clear at P1."""

    def __init__(self, spec: TransformerSpec) -> None:
        self._spec = spec
        self.clear()

    def clear(self) -> None:
        """See the base class."""
        self._rows: tuple[Tensor, ...] = ()

    def fill(self, k: Tensor, v: Tensor) -> None:
        """Nothing travels."""
        if not k.is_meta:
            old = self._rows or (k[:, :0], v[:, :0])
            self._rows = tuple(torch.cat(pair, dim=1) for pair in zip(old, (k, v), strict=True))

    def scores(self, q: Tensor, k: Tensor, v: Tensor, seen: Seen) -> Tensor:
        """See the base class; without data there are as many keys as queries."""
        self.fill(k, v)
        keys = k if k.is_meta else self._rows[0]
        return q @ self._of_queries(keys).transpose(1, 2)

    def weighted(self, p: Tensor) -> Tensor:
        """See the base class."""
        if p.is_meta:
            return p.new_empty(*p.shape[:2], self._spec.d_head)
        return p @ self._of_queries(self._rows[1])

    def _of_queries(self, rows: Tensor) -> Tensor:
        """Those of each query's head, (heads, L, d_head)."""
        return rows.repeat_interleave(self._spec.n_heads // self._spec.kv_heads, dim=0)


def gives_gains(spec: TransformerSpec) -> bool:
    """Whether the residual needs the normed tensor itself."""
    return spec.family in ("glm", "bert")
