"""One transformer layer on Shamir shares, for prefill and decode.

    norm              28 hops (26 for RMSNorm)      `norm`
    W_qkv, rotary      2                            `linear`, `attention`
    scores             2
    softmax          14·⌈log2 L⌉ + 38               `softmax`
    weighted sum       2
    W_out, residual    2
    norm              28 (26)
    W_up               2
    GeLU              14, or SiLU 14 and its product 2   `piecewise`
    W_down, residual   2

for t < n/2. The steps are those of `protocols.shares.transformer_layer`. The residual is added to a linear
layer's term before its truncation; GLM's residual scale is a public factor there (√(2·layers) at 16
bits). Every value between steps is shared at FRAC; nobody learns anything. Values must stay below 2^26,
the product of a gated activation with its other half below 2^27.
"""

from collections.abc import Callable
from typing import Literal

from baselines.shamir.attention import attention_cost, positioned, positioned_cost
from baselines.shamir.context import Context
from baselines.shamir.cost import Cost
from baselines.shamir.functions import FUNCTIONS, SILU_FUNCTION
from baselines.shamir.group import Group
from baselines.shamir.linear import (
    Weights,
    share_linear,
    share_linear_cost,
    share_norm,
    share_norm_cost,
    weights_cost,
)
from baselines.shamir.norm import Affine, norm, norm_cost
from baselines.shamir.openings import drive
from baselines.shamir.share import FRAC, Share
from baselines.shamir.truncate import multiply_truncate_cost, truncate, truncate_cost
from protocols.shares.primitives import SharedLayer, Tables, Which
from protocols.transformer.spec import TransformerSpec
from protocols.transformer.weights import LayerWeights, layer_shapes, scaled_rows


class ShamirLayer(SharedLayer[Share]):
    """One layer's weights, shared once and for all; P0 passes `own`."""

    def __init__(
        self,
        ctx: Context,
        name: str,
        spec: TransformerSpec,
        own: Callable[[], LayerWeights] | None,
    ) -> None:
        self._ctx, self._name, self._spec, self._load = ctx, name, spec, own
        self._norms: list[Affine] = []
        self._linears: dict[str, Weights] = {}

    def prepare(self) -> None:
        """Norms, then matrices."""
        with self._ctx.step(self._name):
            self._prepare()

    def _prepare(self) -> None:
        ctx, spec, own = self._ctx, self._spec, None if self._load is None else self._load()
        self._load = None
        norms = (None, None) if own is None else (own.attn_norm, own.ffn_norm)
        for which, plain_norm in enumerate(norms, 1):
            shared = share_norm(ctx, f"norm{which}", spec.d_model, plain_norm, not spec.rms_norm)
            self._norms.append(shared)
        plain = {}
        if own is not None:
            queries = scaled_rows(own.qkv, spec.d_model, spec.d_head**-0.5)
            plain = {"qkv": queries, "out": own.out, "up": own.up, "down": own.down}
        for key, shape in layer_shapes(spec).items():
            biased = spec.family != "llama"
            self._linears[key] = share_linear(ctx, key, shape, plain.get(key), biased)

    def normed(self, which: Which, x: Share) -> Share:
        """With gain and bias."""
        spec, affine = self._spec, self._norms[which - 1]
        return drive(self._ctx, norm(self._ctx, x, spec.norm_eps, not spec.rms_norm, affine))

    def projected(self, x: Share, tables: Tables | None) -> tuple[Share, Share, Share]:
        """See the base class; positions cost nothing."""
        with self._ctx.step("qkv"):
            return drive(self._ctx, self._projected(x, tables))

    async def _projected(self, x: Share, tables: Tables | None) -> tuple[Share, Share, Share]:
        terms = await self._linears["qkv"](self._ctx, x)
        return await positioned(self._ctx, self._spec, terms, tables)

    def up(self, x: Share) -> Share:
        """See the base class."""
        return drive(self._ctx, self._truncated("up", x, None))

    def added(self, key: Literal["out", "down"], x: Share, residual: Share) -> Share:
        """See the base class."""
        return drive(self._ctx, self._truncated(key, x, residual))

    async def _truncated(self, key: str, x: Share, residual: Share | None) -> Share:
        term = await self._linears[key](self._ctx, x)
        if residual is not None:
            factor = round(self._spec.residual_scale * 2**FRAC)
            term = term + residual.times(factor, FRAC).term()
        return await truncate(self._ctx, term, FRAC)


def share_layer_cost(group: Group, spec: TransformerSpec) -> Cost:
    """Weights, biases, gains."""
    biased = spec.family != "llama"
    matrices = [share_linear_cost(group, m, k, biased) for m, k in layer_shapes(spec).values()]
    return sum(matrices, share_norm_cost(group, spec.d_model, not spec.rms_norm) * 2)


def layer_cost(group: Group, spec: TransformerSpec, n: int, length: int) -> Cost:
    """n new tokens, `length` in all."""
    shapes = layer_shapes(spec)

    def applied(key: str) -> Cost:
        return weights_cost(group, n, *shapes[key])

    d, inner = n * spec.d_model, n * spec.d_ff
    normed = norm_cost(group, n, spec.d_model, not spec.rms_norm)
    attention = applied("qkv") + positioned_cost(spec, n) + attention_cost(group, spec, n, length)
    attention += applied("out") + truncate_cost(d)
    activation = SILU_FUNCTION if spec.gated else FUNCTIONS["gelu"]
    active = activation.cost(group, (inner,))
    if spec.gated:
        active += multiply_truncate_cost(group, inner)
    feed_forward = applied("up") + truncate_cost(n * shapes["up"][0]) + active
    feed_forward += applied("down") + truncate_cost(d)
    if not spec.norm_first:
        return attention + normed + feed_forward + normed
    return normed + attention + normed + feed_forward
