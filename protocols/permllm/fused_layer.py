"""A decode layer in fewer hops than the paper's 12 (`layer`): system.variant=fused, with one new row a
step. A step of more rows, the prefill, is the paper's.

    hops 1-2  norm 1 under permutation, and beside its reply P1's part of q·k    P0 → P1 → P0
    (local)   W_qkv, truncation, rotary positions
    hops 3-4  scores in the order of slots, softmax, sum of the values           P0 → P1 → P0
    (local)   truncation, W_out, residual
    hops 5-6  norm 2 under permutation                                           P0 → P1 → P0
    hops 7-8  W_up, GeLU under permutation                                       P0 → P1 → P0
    (local)   W_down, residual

That is 8 hops (`slot_softmax`, `slot_sum`); with refresh=scores 10, for the sum of the values is then the
paper's, hops 5 and 6. A family with RMSNorm (LLaMA) needs no hops for norm 2: P0 multiplies the residual as
it is, P1 learns the sum of its squares beside the products and scales them (`square_sum`). That leaves 6
hops, and 8 with refresh=scores.

Rounds of BERT, whose norms stand after the sums, are the same; a layer of it that stands alone has 1 hop
more, for P1's part of q·k.

q and k have 12 fractional bits instead of 14, in the prefill too: scores are then right modulo 2^40.

What P1 sees beyond the paper's variant: with refresh=bounded which scores belong to the same head and key
as those of an earlier token. It sees less at norm 2 of LLaMA: the norm of the residual row instead of its
elements in random order, and products before they are scaled, which it could compute from what the paper's
shows.
"""

import torch
from torch import Tensor

from protocols.permllm.attention import Cache
from protocols.permllm.context import Context
from protocols.permllm.domain import LINEAR_FRAC, VALUE_FRAC
from protocols.permllm.layer import LayerLinears, TransformerLayer, probability_frac
from protocols.permllm.masked_value import Masked
from protocols.permllm.options import PermLLMOptions, slots_dealt
from protocols.permllm.permuted_functions import Permuted
from protocols.permllm.slot_softmax import SCORE_VALUE_FRAC, SlotCache, SlotSoftmax
from protocols.permllm.slot_sum import SlotSum
from protocols.permllm.square_sum import SquareSum
from protocols.transformer.spec import TransformerSpec

RAW_WINDOW_FRAC = 18  # products before they are scaled: up to 2^12


def fuses_norms(spec: TransformerSpec, options: PermLLMOptions) -> bool:
    """Whether norms are fused with what follows them: then the residual must be right modulo 2^64."""
    return options.variant == "fused" and spec.rms_norm


class FusedNorm:
    """r of RMSNorm(x) = r·x, at P1, for one row a step."""

    def __init__(self, ctx: Context, name: str, eps: float) -> None:
        self._squares, self._eps = SquareSum(ctx, name), eps
        self.scale = torch.ones(1, dtype=torch.float64)  # r, at P1 in the online pass

    def __call__(self, x: Masked) -> None:
        """x (n, d). Raises OutOfRange."""
        square = self._squares(x)
        if square is not None:
            self.scale = (square / x.shape[1] + self._eps).rsqrt()


class FusedLayer(TransformerLayer):
    """One layer's steps at one role."""

    def __init__(
        self,
        ctx: Context,
        name: str,
        spec: TransformerSpec,
        linears: LayerLinears,
        options: PermLLMOptions,
    ) -> None:
        self._options = options
        super().__init__(ctx, name, spec, linears)
        self._scale2 = FusedNorm(ctx, f"{name}/norm2", spec.norm_eps)
        self._activate_raw = Permuted(
            ctx, f"{name}/activation", self._raw_activation, RAW_WINDOW_FRAC
        )
        self._slot_softmax = SlotSoftmax(
            ctx, f"{name}/scores", self._slot_cache, self._probabilities
        )
        self._slot_sum = SlotSum(ctx, f"{name}/sum", self._slot_cache)

    def _new_cache(self) -> Cache:
        spec, slots = self._spec, slots_dealt(self._options)
        width = spec.d_head
        self._slot_cache = SlotCache(spec.kv_heads, width, self._ctx.domain.dtype, slots)
        return self._slot_cache

    def _projected(self, x: Masked) -> tuple[Masked, Masked]:
        """q and k lose the bits that they have too many here, or where they are rotated."""
        if self._spec.rotary:
            return super()._projected(x)
        ctx, extra = self._ctx, LINEAR_FRAC - VALUE_FRAC
        more = extra + VALUE_FRAC - SCORE_VALUE_FRAC
        d, d_kv = self._spec.d_model, self._spec.d_kv
        bits = torch.tensor([more] * (d + d_kv) + [extra] * d_kv)
        q_k, v = self._split(self._linears.qkv(x, bits))
        return ctx.truncate(q_k, more), ctx.truncate(v, extra)

    def _attend(self, q: Masked, k: Masked, v: Masked, prefix: int) -> Masked:
        heads, n, width = q.shape
        if n > 1:
            return super()._attend(q, k, v, prefix)
        weights = self._slot_softmax(q, k, v, probability_frac)
        surplus = self._surplus(weights.p.frac)
        if self._options.refresh != "scores":
            return self._merged(self._slot_sum(weights, VALUE_FRAC, surplus))
        grouped = weights.p.reshape(k.shape[0], heads // k.shape[0], weights.p.shape[2])
        return self._merged(self._sum(grouped, VALUE_FRAC, surplus).reshape(heads, 1, width))

    def _after_attention(self, h: Masked) -> Masked:
        if not self._spec.rms_norm or h.shape[0] > len(self._ctx.steps):
            return super()._after_attention(h)
        lin = self._linears
        self._scale2(h)
        products = lin.up.raw(h).split(2)
        return h + lin.down(self._activate_raw(products, lin.down.in_frac))

    def _raw_activation(self, gate: Tensor, up: Tensor) -> Tensor:
        return self._activation(gate * self._scale2.scale, up * self._scale2.scale)


def transformer_layer(
    ctx: Context,
    name: str,
    spec: TransformerSpec,
    linears: LayerLinears,
    options: PermLLMOptions,
) -> TransformerLayer:
    """The layer of the variant that the options ask for."""
    if options.variant == "fused":
        return FusedLayer(ctx, name, spec, linears, options)
    return TransformerLayer(ctx, name, spec, linears)
