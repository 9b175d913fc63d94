"""One transformer layer under PermLLM: 12 hops, for prefill (causal) and decode (KV cache).

    hops 1-2    norm under permutation                     P0 → P1 → P0
    (local)     W_qkv, truncation, rotary positions
    hops 3-4    open q, k, v; scores                       P0 → P1 → P0
    hops 5-6    softmax under permutation                  P0 → P1 → P0
    hops 7-8    weighted sum of the values                 P0 → P1 → P0
    (local)     truncation, W_out, residual
    hops 9-10   norm under permutation                     P0 → P1 → P0
    hops 11-12  W_up, GeLU or SwiGLU under permutation     P0 → P1 → P0
    (local)     W_down, residual

Offline several decode steps go at once, a row each: all steps but attention's take these rows
together, under masks, pads and permutations of their own; attention takes one step after the other,
because each sees one key more.

The residual stream stays at LINEAR_FRAC, where linear layers deliver, so it is never truncated.
Norm gains and biases are folded into the next linear layer by P0, so that P1 never holds them; where
the residual needs the normed tensor itself (GLM, BERT) a diagonal layer applies them. BERT, whose
norms stand after the sums, runs the same steps with the norms moved (12 hops as well), and truncates
its input, so that its masks must allow that.

What each role learns is listed with each step. P1 sees, permuted: the normed inputs, the scores, the
activations.
"""

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from protocols.errors import OutOfRange
from protocols.party import P0, P1
from protocols.permllm.attention import Cache, Scores, WeightedSum
from protocols.permllm.attention_tiles import AttentionTiles, tiles_of
from protocols.permllm.context import Context, agree_exponents
from protocols.permllm.domain import LINEAR_FRAC, VALUE_FRAC, WINDOW_FRAC, Domain, FixedWeight
from protocols.permllm.linear import Diagonal, Linear
from protocols.permllm.masked_value import Masked
from protocols.permllm.permuted_functions import Permuted
from protocols.permllm.rotary import Rotary, Tables
from protocols.transformer.reference import gelu, layer_norm, rms_norm
from protocols.transformer.spec import TransformerSpec
from protocols.transformer.weights import LayerWeights, Norm, folded_matrices, layer_shapes

PROBABILITY_FRAC = 16  # scale of softmax outputs
LONG, LONG_PROBABILITY_FRAC = 256, 22  # and of those over more keys: they are small
NORM_WINDOW_FRAC = 17  # residual values up to 2^13 and seen to be too large up to 3·2^13
HIDDEN = -(2.0 ** (31 - WINDOW_FRAC))  # what P1 sees of the score of a key that a token may not see


@dataclass(frozen=True)
class Tokens:
    """What is public about the tokens of one step: `tables` cos and sin of their rotary positions;
    `prefix`: how many leading keys every token may see."""

    tables: Tables | None
    prefix: int = 0


def normalize(spec: TransformerSpec, x: Tensor) -> Tensor:
    """The family's norm of the rows, without gain and bias."""
    return rms_norm(x, spec.norm_eps) if spec.rms_norm else layer_norm(x, spec.norm_eps)


class LayerLinears:
    """The matrices and residual gains of one layer at one role; `weights` at P0 alone.

    shares: another layer whose weights this one uses as its own.
    """

    def __init__(
        self,
        ctx: Context,
        name: str,
        spec: TransformerSpec,
        weights: LayerWeights | None,
        weight_bits: int,
        shares: "LayerLinears | None" = None,
    ) -> None:
        self._ctx = ctx
        self._spec = spec
        # Of the weights these alone are kept: matrices in float32 are twice what they are as integers.
        self._norms = None if weights is None else (weights.attn_norm, weights.ffn_norm)
        d = spec.d_model
        fixed = {} if weights is None else _quantized(name, spec, weights, ctx.domain, weight_bits)
        self._matrices: dict[str, Linear] = {
            key: Linear(
                ctx,
                f"{name}/{key}",
                shape,
                fixed.get(key),
                None if shares is None else shares._matrices[key],
            )
            for key, shape in layer_shapes(spec).items()
        }
        self.qkv, self.out, self.up, self.down = self._matrices.values()
        self.gains: list[Diagonal] = [
            Diagonal(ctx, f"{name}/gain{i}", d, None, None if shares is None else shares.gains[i])
            for i in range(2 if spec.family in ("glm", "bert") else 0)
        ]

    def prepare(self) -> None:
        """Agree on the public exponents of the weights and give P1 its masked copies."""
        own = [m.frac for m in self._matrices.values()] if self._ctx.role == P0 else None
        exponents = agree_exponents(self._ctx, own, len(self._matrices))
        for matrix, frac in zip(self._matrices.values(), exponents, strict=True):
            matrix.frac = frac
        self._set_gains()
        for step in (*self._matrices.values(), *self.gains):
            step.prepare()
        self._norms = None

    def _set_gains(self) -> None:
        """The residual branch's gains share the input of the linear layer that follows the norm;
        those of BERT's last norm stand alone."""
        before = (self.qkv, self.up) if self._spec.norm_first else (self.up, None)
        norms: tuple[Norm | None, Norm | None] = self._norms or (None, None)
        for gain, linear, norm in zip(self.gains, before, norms, strict=bool(self.gains)):
            gain.frac = VALUE_FRAC if linear is None else linear.frac
            if norm is not None:
                scale = self._spec.residual_scale
                gain.weight = fixed_gains(self._ctx.domain, norm, scale, gain.frac)


def fixed_gains(domain: Domain, norm: Norm, scale: float, frac: int) -> FixedWeight:
    """scale·(g∘n + b) as a diagonal layer."""
    bias = None if norm.bias is None else norm.bias.double() * scale
    return domain.gains(norm.gain.double() * scale, bias, frac)


def probability_frac(length: int) -> int:
    """Scale of the softmax of `length` scores."""
    return LONG_PROBABILITY_FRAC if length > LONG else PROBABILITY_FRAC


class TransformerLayer:
    """One layer's steps at one role."""

    def __init__(
        self, ctx: Context, name: str, spec: TransformerSpec, linears: LayerLinears
    ) -> None:
        self._ctx = ctx
        self._spec = spec
        self._linears = linears
        self.cache = self._new_cache()
        self._norm1 = Permuted(ctx, f"{name}/norm1", self._normalize, NORM_WINDOW_FRAC)
        self._norm2 = Permuted(ctx, f"{name}/norm2", self._normalize, NORM_WINDOW_FRAC)
        self._softmax = Permuted(ctx, f"{name}/softmax", self._probabilities, hidden=HIDDEN)
        self._activate = Permuted(ctx, f"{name}/activation", self._activation)
        dropped = VALUE_FRAC - self.cache.key_frac
        self._rotary = Rotary(ctx, f"{name}/rotary", spec, dropped) if spec.rotary else None
        self._scores = Scores(ctx, f"{name}/scores", self.cache)
        self._sum = WeightedSum(ctx, f"{name}/sum", self.cache)
        self._tiles = AttentionTiles(ctx, f"{name}/tiles", self.cache, self._probabilities, HIDDEN)

    def _new_cache(self) -> Cache:
        return Cache(self._spec.kv_heads, self._spec.d_head, self._ctx.domain.dtype)

    def prepare(self) -> None:
        """The linear layers' part."""
        self._linears.prepare()

    @property
    def truncates(self) -> int:
        """How many bits the layer cuts from its input: the mask must allow that."""
        return 0 if self._spec.norm_first else LINEAR_FRAC - self._linears.qkv.in_frac

    def __call__(self, x: Masked, tokens: Tokens, truncated: int = 0) -> Masked:
        """x (n, d_model) → (n, d_model), both at LINEAR_FRAC. truncated: what the next layer
        `truncates`."""
        lin = self._linears
        if not self._spec.norm_first:
            h = x + self._attention(self._ctx.truncate(x, self.truncates), tokens)
            n1 = self._normed(self._norm1, h, lin.up.in_frac)
            y = lin.gains[0](n1) + self._feed_forward(n1)
            n2 = self._normed(self._norm2, y, lin.gains[1].in_frac)
            return lin.gains[1](n2, truncated)
        n1 = self._normed(self._norm1, x, lin.qkv.in_frac)
        return self._after_attention(self._residual(0, x, n1) + self._attention(n1, tokens))

    def _after_attention(self, h: Masked) -> Masked:
        """Norm 2 and the feed-forward block, of a family whose norms stand first."""
        n2 = self._normed(self._norm2, h, self._linears.up.in_frac)
        return self._residual(1, h, n2) + self._feed_forward(n2)

    def _residual(self, which: int, x: Masked, normed: Masked) -> Masked:
        gains = self._linears.gains
        return gains[which](normed) if gains else x

    def _normed(self, step: Permuted, x: Masked, frac: int) -> Masked:
        return step([x], frac, rows=x.shape[0])

    def _attention(self, x: Masked, tokens: Tokens) -> Masked:
        """Every step sees the keys of its own and earlier steps: so they go one after the other."""
        q, k, v = self._positioned(*self._projected(x), tokens)
        n = x.shape[0] // len(self._ctx.steps)
        rows = []
        for at in self._ctx.each_step():
            own = [part.narrow(1, at * n, n) for part in (q, k, v)]
            rows.append(self._attend(own[0], own[1], own[2], tokens.prefix))
        return self._linears.out(Masked.cat(rows, dim=0))

    def _projected(self, x: Masked) -> tuple[Masked, Masked]:
        """q and k (n, heads + kv heads, d_head), not yet rotated, and v (n, kv heads, d_head)."""
        extra = LINEAR_FRAC - VALUE_FRAC
        return self._split(self._ctx.truncate(self._linears.qkv(x, extra), extra))

    def _split(self, qkv: Masked) -> tuple[Masked, Masked]:
        heads, kv_heads = self._spec.n_heads, self.cache.heads
        rows = qkv.reshape(qkv.shape[0], heads + 2 * kv_heads, self._spec.d_head)
        return rows.narrow(1, 0, heads + kv_heads), rows.narrow(1, heads + kv_heads, kv_heads)

    def _attend(self, q: Masked, k: Masked, v: Masked, prefix: int) -> Masked:
        """One step: q (heads, n, d_head), k and v (kv heads, n, d_head) → o (n, d_model)."""
        heads, n, width = q.shape
        length = self.cache.seen(self._ctx.offline_pass) + n
        tiles = tiles_of(self._spec, n, length, prefix)
        if len(tiles) > 1:
            frac = probability_frac(length)
            hide = partial(self._hide_future, prefix=prefix)
            extra = self._surplus(frac)
            return self._merged(self._tiles((q, k, v), tiles, hide, frac, VALUE_FRAC, extra))
        grouped = (k.shape[0], heads // k.shape[0] * n)  # query heads that share a key head
        scores = self._scores(q.reshape(*grouped, width), k, v)
        scores = self._hide_future(scores.reshape(heads, n, length), prefix)
        frac = probability_frac(length)
        p = self._softmax([scores], frac, rows=heads * n).reshape(*grouped, length)
        return self._merged(self._sum(p, VALUE_FRAC, self._surplus(frac)).reshape(heads, n, width))

    def _surplus(self, frac: int) -> int:
        """Bits that o has too many, where p is at scale `frac`."""
        return frac + VALUE_FRAC - self._linears.out.in_frac

    def _merged(self, o: Masked) -> Masked:
        """(heads, n, d_head) → (n, d_model), truncated to what W_out takes."""
        heads, n, width = o.shape
        merged = o.transpose(0, 1).reshape(n, heads * width)
        return self._ctx.truncate(merged, o.frac - self._linears.out.in_frac)

    def _positioned(self, q_k: Masked, v: Masked, tokens: Tokens) -> list[Masked]:
        """q (heads, n, d_head), k and v (kv heads, n, d_head); q and k rotated where the family
        does."""
        heads, kv_heads = self._spec.n_heads, self.cache.heads
        if self._rotary is not None and tokens.tables is not None:
            q_k = self._rotary(q_k, tokens.tables)
        parts = q_k.narrow(1, 0, heads), q_k.narrow(1, heads, kv_heads), v
        return [part.transpose(0, 1) for part in parts]

    def _hide_future(self, scores: Masked, prefix: int) -> Masked:
        """The scores of keys after each token's own become constant (which they are is public), so
        that P1 does not see products that no token may use: Δ = HIDDEN at P0, λ = 0 at the dealer.

        One less than a multiple of the window's step is shown as that multiple, whatever the dither.
        """
        _, n, length = scores.shape
        if not self._spec.causal or n == 1 or scores.half is None or self._ctx.role == P1:
            return scores
        future = torch.ones(n, length, dtype=torch.bool).triu(length - n + 1)
        future[:, :prefix] = False
        constant = self._ctx.domain.encode(torch.tensor(HIDDEN), scores.frac) - 1
        return scores.overwrite(future, constant if self._ctx.role == P0 else constant * 0)

    def _feed_forward(self, x: Masked) -> Masked:
        hidden = self._linears.up(x)
        inputs = hidden.split(2) if self._spec.gated else [hidden]
        down = self._linears.down
        return down(self._activate(inputs, down.in_frac))

    def _normalize(self, x: Tensor) -> Tensor:
        return normalize(self._spec, x)

    def _probabilities(self, scores: Tensor) -> Tensor:
        return torch.softmax(scores * self._spec.d_head**-0.5, dim=-1)

    def _activation(self, x: Tensor, up: Tensor | None = None) -> Tensor:
        if up is not None:
            return x * torch.sigmoid(x) * up
        return gelu(x, "erf" if self._spec.family == "bert" else "tanh")


def _quantized(
    name: str, spec: TransformerSpec, weights: LayerWeights, domain: Domain, bits: int
) -> dict[str, FixedWeight]:
    """P0's matrices, norms folded into the matrix that follows them. Raises OutOfRange."""
    fixed = {}
    for key, folded in folded_matrices(spec, weights):
        try:
            fixed[key] = domain.quantize(folded.weight, folded.bias, bits)
        except ValueError as error:
            remedy = "; system.weight_bits=32 has room for it" if bits < 32 else ""
            raise OutOfRange(f"{name}/{key}: {error}{remedy}") from None
    return fixed
