"""A whole model under Puma, token by token.

    embedding     P1 shares its token ids, equality tests, table            `lookup`
                  + P0's position embeddings, shared; BERT: norm
    n layers                                                                `layer`
    logits        final norm, W_head: terms at 2·FRAC, re-shared            1 hop
    token         argmax, revealed to P1 alone                              `maximum`

The logits are compared at 36 fractional bits and never truncated. P1 shares the token it got in the next
step. BERT has no head: the last hidden states are revealed to P1 (`give.reveal`, 64 bits an element).
GPT-2's head is the table of its embedding, shared once. Tied layers are shared once.

P1 learns the tokens (BERT: the hidden states), nobody anything else.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from baselines.puma.approx import FRAC
from baselines.puma.context import Context
from baselines.puma.cost import NOTHING, Cost
from baselines.puma.embedding import one_hot, one_hot_cost
from baselines.puma.layer import (
    Layer,
    LayerShares,
    Tokens,
    layer_cost,
    share_layer,
    share_layer_cost,
)
from baselines.puma.linear import (
    OWNER,
    SharedLinear,
    share_linear,
    share_linear_cost,
    share_norm,
    share_norm_cost,
)
from baselines.puma.maximum import argmax, argmax_cost
from baselines.puma.multiply import reshare, reshare_cost
from baselines.puma.norm import Affine, norm, norm_cost
from baselines.puma.share import Share, Term, encode
from baselines.puma.share_and_reveal import give, give_cost, reveal, reveal_cost
from protocols.transformer.model import ModelWeights, positions, visible_prefix
from protocols.transformer.rotary import rotary_tables
from protocols.transformer.spec import TransformerSpec
from protocols.transformer.weights import Linear
from protocols.workload import Generation, steps


@dataclass(frozen=True)
class ModelShares:
    """A role's part of a model. `norm` stands before the head, BERT's after the embedding."""

    table: SharedLinear
    positions: Share | None
    norm: Affine
    layers: tuple[LayerShares, ...]
    head: SharedLinear | None


async def share_model(
    ctx: Context, work: Generation, weights: ModelWeights | None, report: Callable[[str], None]
) -> ModelShares:
    """Phase prepare; P0 passes the weights, of which it makes or reads one layer at a time, and
    reports how far it has come."""
    spec = work.spec
    own = None if weights is None else Linear(weights.token_embedding, None)
    table = await share_linear(ctx, (spec.vocab, spec.d_model), own, biased=False)
    places = None
    if not spec.rotary:
        known = None if weights is None else weights.position_embedding
        encoded = None if known is None else encode(known, FRAC)
        shape = (spec.max_positions, spec.d_model)
        places = await give(ctx, OWNER, encoded, shape, FRAC)
    normed = None if weights is None else weights.embedding_norm or weights.final_norm
    affine = await share_norm(ctx, spec.d_model, normed, not spec.rms_norm)
    layers = await _share_layers(ctx, work, weights, report)
    return ModelShares(table, places, affine, layers, await _share_head(ctx, spec, weights, table))


async def _share_layers(
    ctx: Context, work: Generation, weights: ModelWeights | None, report: Callable[[str], None]
) -> tuple[LayerShares, ...]:
    made: list[LayerShares] = []
    for index in range(work.spec.n_layers):
        if made and work.tie_layers:
            made.append(made[0])
            continue
        own = None if weights is None else weights.layers[index]
        made.append(await share_layer(ctx, work.spec, own))
        if own is not None:
            report(f"sharing layer {index + 1}/{work.spec.n_layers}")
    return tuple(made)


async def _share_head(
    ctx: Context, spec: TransformerSpec, weights: ModelWeights | None, table: SharedLinear
) -> SharedLinear | None:
    if spec.family in ("gpt2", "bert"):
        return table if spec.family == "gpt2" else None
    own = None if weights is None else weights.head
    return await share_linear(ctx, (spec.vocab, spec.d_model), own, biased=False)


class Model:
    """One sequence through a shared model."""

    def __init__(self, ctx: Context, work: Generation, shares: ModelShares) -> None:
        self._ctx, self._work, self._own = ctx, work, shares
        self._layers = [Layer(ctx, work.spec, layer) for layer in shares.layers]
        self._length = 0

    async def __call__(self, ids: Tensor | None, count: int) -> Share:
        """P1 passes the next ids, int64 (count,) → hidden states (count, d_model) at FRAC."""
        spec, work = self._work.spec, self._work
        span = range(self._length, self._length + count)
        tables = (
            rotary_tables(spec, *positions(spec, work.prompt_len, span)) if spec.rotary else None
        )
        tokens = Tokens(tables, visible_prefix(spec, work.prompt_len))
        x = await self._embed(ids, span)
        for layer in self._layers:
            x = await layer(x, tokens)
        self._length += count
        return x

    async def _embed(self, ids: Tensor | None, span: range) -> Share:
        spec, own = self._work.spec, self._own
        choice = await one_hot(self._ctx, ids, len(span), spec.vocab)
        rows = own.table.rows(choice)
        if own.positions is not None:
            rows = rows + Term(own.positions.first[span.start : span.stop], FRAC)
        x = await reshare(self._ctx, rows)
        return await norm(self._ctx, x, spec.norm_eps, affine=own.norm) if _bert(spec) else x

    async def logits(self, x: Share) -> Share:
        """Hidden states (n, d_model) → logits (vocab,) of the last at 2·FRAC."""
        spec, own = self._work.spec, self._own
        if own.head is None:
            raise ValueError(f"{spec.family} has no head: it encodes")
        last = x.each(lambda part: part[-1:])
        normed = await norm(self._ctx, last, spec.norm_eps, not spec.rms_norm, own.norm)
        return (await reshare(self._ctx, own.head(normed))).reshape(spec.vocab)

    async def step(self, ids: Tensor | None, count: int) -> tuple[int | None, Share]:
        """The next token at P1, and the logits it is the largest of."""
        logits = await self.logits(await self(ids, count))
        return await argmax(self._ctx, logits), logits

    async def encode(self, ids: Tensor | None, count: int) -> Tensor | None:
        """The hidden states at P1, ring values at FRAC."""
        return await reveal(self._ctx, await self(ids, count))


def _bert(spec: TransformerSpec) -> bool:
    return spec.family == "bert"


def share_model_cost(work: Generation) -> Cost:
    """See `share_model`."""
    spec = work.spec
    total = share_linear_cost(spec.vocab, spec.d_model, biased=False)
    if not spec.rotary:
        total += give_cost(OWNER, spec.max_positions * spec.d_model)
    total += share_norm_cost(spec.d_model, not spec.rms_norm)
    total += share_layer_cost(spec) * (1 if work.tie_layers else spec.n_layers)
    if spec.rotary:
        total += share_linear_cost(spec.vocab, spec.d_model, biased=False)
    return total


def generation_cost(work: Generation) -> list[Cost]:
    """Of each step."""
    lengths = [plan.tokens for plan in steps(work)]
    return [step_cost(work.spec, n, sum(lengths[: i + 1])) for i, n in enumerate(lengths)]


def step_cost(spec: TransformerSpec, n: int, length: int) -> Cost:
    """n new tokens, `length` in all."""
    d = n * spec.d_model
    total = one_hot_cost(n, spec.vocab) + reshare_cost(d)
    total += norm_cost(n, spec.d_model) if _bert(spec) else NOTHING
    total += layer_cost(spec, n, length) * spec.n_layers
    if _bert(spec):
        return total + reveal_cost(d)
    total += norm_cost(1, spec.d_model, not spec.rms_norm)
    return total + reshare_cost(spec.vocab) + argmax_cost(spec.vocab)
