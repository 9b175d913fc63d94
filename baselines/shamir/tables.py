"""The two vocabulary tables on Shamir shares.

    embedding     P1 shares one-hot rows (`dealing`); rows·table, brought back to degree t
                  + P0's position embeddings, shared; BERT: norm
    logits        final norm, W_head: a term at 2·FRAC, brought back to degree t

| what | elements a token | hops |
|---|---|---|
| P1's one-hot row, to each party that draws nothing | vocab | 1 |
| rows, opened under doubles | d | 2 |
| logits, opened under doubles | vocab | 2 |

A row is an integer times fixed-point numbers, and needs no truncation. The logits are compared at 32
fractional bits and never truncated. GPT-2's head is the table of its embedding, shared once. Nobody learns
anything.
"""

import torch
from torch import Tensor

from baselines.shamir.context import Context
from baselines.shamir.cost import NOTHING, Cost, message
from baselines.shamir.dealing import Sharing, give, sent_by
from baselines.shamir.group import Group
from baselines.shamir.linear import (
    Weights,
    share_cost,
    share_linear,
    share_linear_cost,
    share_norm,
    share_norm_cost,
    share_table,
    weights_cost,
)
from baselines.shamir.multiply import reduce, reduce_cost
from baselines.shamir.norm import Affine, norm, norm_cost
from baselines.shamir.openings import drive
from baselines.shamir.share import Share
from protocols.shares.primitives import SharedEmbedding, SharedLinear, Tokens
from protocols.transformer.model import ModelWeights
from protocols.transformer.spec import TransformerSpec
from protocols.transformer.weights import Linear

USER = 1  # who knows the tokens


class Embedding(SharedEmbedding[Share]):
    """A shared table, position embeddings and BERT's norm."""

    def __init__(self, ctx: Context, spec: TransformerSpec, own: ModelWeights | None) -> None:
        self._ctx, self._spec, self._own = ctx, spec, own
        self._table: Weights | None = None
        self._positions: Share | None = None
        self._norm: Affine | None = None

    @property
    def table(self) -> Weights:
        """Shared in prepare."""
        if self._table is None:
            raise RuntimeError("prepare comes before online")
        return self._table

    def prepare(self) -> None:
        """See the base class."""
        ctx, spec, own = self._ctx, self._spec, self._own
        self._own = None
        plain = None if own is None else Linear(own.token_embedding, None)
        self._table = share_linear(
            ctx, "embedding", (spec.vocab, spec.d_model), plain, biased=False
        )
        if not spec.rotary:
            known = None if own is None else own.position_embedding
            self._positions = share_table(
                ctx, "positions", (spec.max_positions, spec.d_model), known
            )
        if spec.family == "bert":
            normed = None if own is None else own.embedding_norm
            self._norm = share_norm(ctx, "norm", spec.d_model, normed, not spec.rms_norm)

    def __call__(self, tokens: Tokens, count: int, first: int) -> Share:
        """See the base class."""
        shape = (count, self._spec.vocab)
        if self._ctx.offline_pass:
            onehot = self._ctx.without_data(*shape)
        else:
            onehot = give(self._ctx, "one-hot rows", USER, _onehot(tokens, shape), shape, 0)
        return drive(self._ctx, self._embed(Share(onehot, 0), first))

    async def _embed(self, onehot: Share, first: int) -> Share:
        ctx, spec, count = self._ctx, self._spec, onehot.shape[0]
        rows = await self.table.rows(ctx, onehot)
        if self._positions is not None:
            rows = rows + self._positions.rows(first, first + count).term()
        x = await reduce(ctx, rows)
        return x if self._norm is None else await norm(ctx, x, spec.norm_eps, True, self._norm)


def _onehot(tokens: Tokens, shape: tuple[int, int]) -> Tensor | None:
    if tokens is None:
        return None
    rows = torch.zeros(shape, dtype=torch.int64)
    rows[torch.arange(shape[0]), torch.tensor(tokens)] = 1
    return rows


class Head(SharedLinear[Share]):
    """Final norm and head; the logits are at 2·FRAC."""

    def __init__(
        self, ctx: Context, spec: TransformerSpec, own: ModelWeights | None, embedding: Embedding
    ) -> None:
        self._ctx, self._spec, self._own, self._embedding = ctx, spec, own, embedding
        self._shares: tuple[Affine, Weights] | None = None

    def prepare(self) -> None:
        """See the base class."""
        ctx, spec, own = self._ctx, self._spec, self._own
        self._own = None
        normed = None if own is None else own.final_norm
        affine = share_norm(ctx, "final norm", spec.d_model, normed, not spec.rms_norm)
        if spec.family == "gpt2":
            self._shares = affine, self._embedding.table
            return
        head = None if own is None else own.head
        shape = (spec.vocab, spec.d_model)
        self._shares = affine, share_linear(ctx, "head", shape, head, biased=False)

    def __call__(self, x: Share) -> Share:
        """See the base class."""
        return drive(self._ctx, self._logits(x))

    async def _logits(self, x: Share) -> Share:
        if self._shares is None:
            raise RuntimeError("prepare comes before online")
        (affine, weights), spec = self._shares, self._spec
        normed = await norm(self._ctx, x, spec.norm_eps, not spec.rms_norm, affine)
        return await reduce(self._ctx, await weights(self._ctx, normed))


def share_embedding_cost(group: Group, spec: TransformerSpec) -> Cost:
    """`Embedding.prepare`."""
    total = share_linear_cost(group, spec.vocab, spec.d_model, biased=False)
    if not spec.rotary:
        total += share_cost(group, spec.max_positions * spec.d_model)
    return total + share_norm_cost(group, spec.d_model, True) if spec.family == "bert" else total


def share_head_cost(group: Group, spec: TransformerSpec) -> Cost:
    """`Head.prepare`; BERT has none."""
    if spec.family == "bert":
        return NOTHING
    total = share_norm_cost(group, spec.d_model, not spec.rms_norm)
    if spec.family == "gpt2":
        return total
    return total + share_linear_cost(group, spec.vocab, spec.d_model, biased=False)


def embedding_cost(group: Group, spec: TransformerSpec, n: int) -> Cost:
    """See `Embedding`."""
    d = n * spec.d_model
    given = message(sent_by(group, USER, [Sharing(n * spec.vocab, group.t)]))
    rows = weights_cost(group, n, spec.d_model, spec.vocab) + reduce_cost(group, d)
    normed = norm_cost(group, n, spec.d_model) if spec.family == "bert" else NOTHING
    return given + rows + normed


def head_cost(group: Group, spec: TransformerSpec, picks: int) -> Cost:
    """See `Head`."""
    normed = norm_cost(group, picks, spec.d_model, not spec.rms_norm)
    applied = weights_cost(group, picks, spec.vocab, spec.d_model)
    return normed + applied + reduce_cost(group, picks * spec.vocab)
