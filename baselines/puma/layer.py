"""One transformer layer under Puma, for prefill and decode.

    norm              31 hops (29 for RMSNorm)              `norm`
    W_qkv, rotary      2                                    `linear`, `attention`
    scores             2
    softmax          10·⌈log2 L⌉ + 33 + ⌈log2 log2 2L⌉      `softmax`
    weighted sum       2
    W_out, residual    2
    norm              31 (29)
    W_up               2
    GeLU              12, or SiLU 12 and its product 2      `piecewise`
    W_down, residual   2

The steps are those of `protocols.shares.transformer_layer`. The residual is added to a linear layer's
terms before their truncation. GLM's residual scale is a public factor there (√(2·layers) at 18 bits).
BERT runs the same steps with the norms after the residual sums. Every value between steps is shared at
FRAC; nobody learns anything. Values must stay below 2^26.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from baselines.puma.attention import attention_cost, positioned, positioned_cost
from baselines.puma.context import Context
from baselines.puma.cost import Cost
from baselines.puma.functions import Approximation, Norm
from baselines.puma.linear import (
    WeightShares,
    share_linear,
    share_linear_cost,
    share_norm,
    share_norm_cost,
)
from baselines.puma.norm import Affine
from baselines.puma.round_scheduler import drive
from baselines.puma.share import FRAC, Share, Term
from baselines.puma.truncate import truncate, truncate_cost
from protocols.party import Party
from protocols.shares.primitives import SharedLayer, Tables, Which
from protocols.transformer import weights as plain
from protocols.transformer.spec import TransformerSpec
from protocols.transformer.weights import LayerWeights, Linear, layer_shapes, scaled_rows


@dataclass(frozen=True)
class LayerShares:
    """A role's part of one layer's weights."""

    norms: tuple[Affine, Affine]
    linears: dict[str, WeightShares]


async def share_layer(
    ctx: Context, spec: TransformerSpec, weights: LayerWeights | None
) -> LayerShares:
    """Phase prepare; P0 passes the weights."""
    norms: dict[str, plain.Norm] = {}
    linears: dict[str, Linear] = {}
    if weights is not None:
        norms = {"attn": weights.attn_norm, "ffn": weights.ffn_norm}
        queries = scaled_rows(weights.qkv, spec.d_model, spec.d_head**-0.5)
        linears = {"qkv": queries, "out": weights.out}
        linears |= {"up": weights.up, "down": weights.down}
    biased, shapes = spec.family != "llama", layer_shapes(spec)
    first, second = [
        await share_norm(ctx, spec.d_model, norms.get(key), not spec.rms_norm)
        for key in ("attn", "ffn")
    ]
    shared = {
        key: await share_linear(ctx, shapes[key], linears.pop(key, None), biased) for key in shapes
    }
    return LayerShares((first, second), shared)


class PumaLayer(SharedLayer[Share]):
    """One layer's weights, shared once and for all; P0 passes `own`."""

    def __init__(
        self,
        party: Party,
        ctx: Context,
        spec: TransformerSpec,
        own: Callable[[], LayerWeights] | None,
        norm: Norm,
    ) -> None:
        self._party, self._ctx, self._spec, self._load = party, ctx, spec, own
        self._norm = norm
        self._shares: LayerShares | None = None

    def prepare(self) -> None:
        """See `share_layer`."""
        weights = None if self._load is None else self._load()
        self._load = None
        self._shares = drive(self._party, share_layer(self._ctx, self._spec, weights))

    @property
    def _own(self) -> LayerShares:
        if self._shares is None:
            raise RuntimeError("prepare comes before online")
        return self._shares

    def normed(self, which: Which, x: Share) -> Share:
        """With gain and bias."""
        spec, affine = self._spec, self._own.norms[which - 1]
        protocol = self._norm.run(self._ctx, x, spec.norm_eps, not spec.rms_norm, affine)
        return drive(self._party, protocol)

    def projected(self, x: Share, tables: Tables | None) -> tuple[Share, Share, Share]:
        """See the base class; positions cost nothing."""
        with self._ctx.step("qkv"):
            terms = self._own.linears["qkv"](x)
            return drive(self._party, positioned(self._ctx, self._spec, terms, tables))

    def up(self, x: Share) -> Share:
        """See the base class."""
        return self._truncated(self._own.linears["up"](x))

    def added(self, key: Literal["out", "down"], x: Share, residual: Share) -> Share:
        """See the base class."""
        factor = round(self._spec.residual_scale * 2**FRAC)
        return self._truncated(self._own.linears[key](x) + residual.times(factor, FRAC).term())

    def _truncated(self, terms: Term) -> Share:
        return drive(self._party, truncate(self._ctx, terms, FRAC))


def share_layer_cost(spec: TransformerSpec) -> Cost:
    """Weights, biases, gains."""
    biased = spec.family != "llama"
    matrices = [share_linear_cost(m, k, biased) for m, k in layer_shapes(spec).values()]
    return sum(matrices, share_norm_cost(spec.d_model, not spec.rms_norm) * 2)


def layer_cost(spec: TransformerSpec, n: int, length: int, chosen: Approximation) -> Cost:
    """n new tokens, `length` in all."""
    d, inner = n * spec.d_model, n * layer_shapes(spec)["up"][0]
    normed = chosen.norm.cost(n, spec.d_model, not spec.rms_norm, True)
    attention = positioned_cost(spec, n) + attention_cost(spec, n, length, chosen.softmax)
    attention += truncate_cost(d)
    active = (chosen.silu if spec.gated else chosen.gelu).cost((n, spec.d_ff))
    if spec.gated:
        active += truncate_cost(n * spec.d_ff)
    feed_forward = truncate_cost(inner) + active + truncate_cost(d)
    if not spec.norm_first:
        return attention + normed + feed_forward + normed
    return normed + attention + normed + feed_forward
