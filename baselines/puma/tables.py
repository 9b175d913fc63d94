"""The two vocabulary tables under Puma.

    embedding     P1 shares its token ids, equality tests, table            `embedding`
                  + P0's position embeddings, shared; BERT: norm
    logits        final norm, W_head: terms at 2·FRAC, re-shared            1 hop

The logits are compared at 36 fractional bits and never truncated. GPT-2's head is the table of its
embedding, shared once.
"""

import torch

from baselines.puma.context import Context
from baselines.puma.cost import NOTHING, Cost
from baselines.puma.embedding import one_hot, one_hot_cost
from baselines.puma.functions import Norm
from baselines.puma.linear import (
    OWNER,
    WeightShares,
    share_linear,
    share_linear_cost,
    share_norm,
    share_norm_cost,
)
from baselines.puma.multiply import reshare, reshare_cost
from baselines.puma.norm import Affine
from baselines.puma.round_scheduler import drive
from baselines.puma.share import FRAC, Share, Term, encode
from baselines.puma.share_and_reveal import give, give_cost
from protocols.party import Party
from protocols.shares.primitives import SharedEmbedding, SharedLinear, Tokens
from protocols.transformer.model import ModelWeights
from protocols.transformer.spec import TransformerSpec
from protocols.transformer.weights import Linear


class Embedding(SharedEmbedding[Share]):
    """A shared table, position embeddings and BERT's norm."""

    def __init__(
        self,
        party: Party,
        ctx: Context,
        spec: TransformerSpec,
        own: ModelWeights | None,
        norm: Norm,
    ) -> None:
        self._party, self._ctx, self._spec, self._weights = party, ctx, spec, own
        self._run_norm = norm.run
        self._table: WeightShares | None = None
        self._positions: Share | None = None
        self._norm: Affine | None = None

    @property
    def table(self) -> WeightShares:
        """Shared in prepare."""
        if self._table is None:
            raise RuntimeError("prepare comes before online")
        return self._table

    def prepare(self) -> None:
        """See the base class."""
        drive(self._party, self._share())
        self._weights = None

    async def _share(self) -> None:
        ctx, spec, own = self._ctx, self._spec, self._weights
        plain = None if own is None else Linear(own.token_embedding, None)
        self._table = await share_linear(ctx, (spec.vocab, spec.d_model), plain, biased=False)
        if not spec.rotary:
            known = None if own is None else own.position_embedding
            encoded = None if known is None else encode(known, FRAC)
            shape = (spec.max_positions, spec.d_model)
            self._positions = await give(ctx, OWNER, encoded, shape, FRAC)
        if spec.family == "bert":
            normed = None if own is None else own.embedding_norm
            self._norm = await share_norm(ctx, spec.d_model, normed, not spec.rms_norm)

    def __call__(self, tokens: Tokens, count: int, first: int) -> Share:
        """See the base class."""
        return drive(self._party, self._embed(tokens, count, first))

    async def _embed(self, tokens: Tokens, count: int, first: int) -> Share:
        ids = None if tokens is None else torch.tensor(tokens)
        rows = self.table.rows(await one_hot(self._ctx, ids, count, self._spec.vocab))
        if self._positions is not None:
            rows = rows + Term(self._positions.first[first : first + count], FRAC)
        x = await reshare(self._ctx, rows)
        if self._norm is None:
            return x
        return await self._run_norm(self._ctx, x, self._spec.norm_eps, True, self._norm)


class Head(SharedLinear[Share]):
    """Final norm and head; the logits are at 2·FRAC."""

    def __init__(
        self,
        party: Party,
        ctx: Context,
        spec: TransformerSpec,
        own: ModelWeights | None,
        embedding: Embedding,
        norm: Norm,
    ) -> None:
        self._party, self._ctx, self._spec, self._weights = party, ctx, spec, own
        self._embedding, self._run_norm = embedding, norm.run
        self._shares: tuple[Affine, WeightShares] | None = None

    def prepare(self) -> None:
        """See the base class."""
        self._shares = drive(self._party, self._share())
        self._weights = None

    async def _share(self) -> tuple[Affine, WeightShares]:
        ctx, spec, own = self._ctx, self._spec, self._weights
        normed = None if own is None else own.final_norm
        affine = await share_norm(ctx, spec.d_model, normed, not spec.rms_norm)
        if spec.family == "gpt2":
            return affine, self._embedding.table
        head = None if own is None else own.head
        return affine, await share_linear(ctx, (spec.vocab, spec.d_model), head, biased=False)

    def __call__(self, x: Share) -> Share:
        """See the base class."""
        return drive(self._party, self._logits(x))

    async def _logits(self, x: Share) -> Share:
        if self._shares is None:
            raise RuntimeError("prepare comes before online")
        affine, weights = self._shares
        spec = self._spec
        normed = await self._run_norm(self._ctx, x, spec.norm_eps, not spec.rms_norm, affine)
        return await reshare(self._ctx, weights(normed))


def share_tables_cost(spec: TransformerSpec) -> Cost:
    """Both `prepare`s."""
    table = share_linear_cost(spec.vocab, spec.d_model, biased=False)
    total = table + share_norm_cost(spec.d_model, not spec.rms_norm)
    if spec.rotary:
        return total + table
    return total + give_cost(OWNER, spec.max_positions * spec.d_model)


def embedding_cost(spec: TransformerSpec, n: int, norm: Norm) -> Cost:
    """See `Embedding`."""
    normed = norm.cost(n, spec.d_model, True, True) if spec.family == "bert" else NOTHING
    return one_hot_cost(n, spec.vocab) + reshare_cost(n * spec.d_model) + normed


def head_cost(spec: TransformerSpec, picks: int, norm: Norm) -> Cost:
    """See `Head`."""
    normed = norm.cost(picks, spec.d_model, not spec.rms_norm, True)
    return normed + reshare_cost(picks * spec.vocab)
