"""Small sessions to look at: whole systems, and single steps and primitives over several tokens."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from baselines.additive.attention import cache as kept_rows
from baselines.additive.context import Context as BeaverContext
from baselines.additive.linear import Matrix
from baselines.fss.bits import low_bits
from baselines.fss.context import Context as FssContext
from baselines.fss.input_masks import masked_input
from baselines.fss.options import FssOptions
from baselines.mpcformer.options import Settings
from baselines.puma.context import Context as PumaContext
from baselines.puma.round_scheduler import Running, drive
from baselines.puma.share import Share
from protocols.arith.prg import Stream
from protocols.in_process_party import MemoryParty
from protocols.party import P0, P1, P2, Role
from protocols.permllm.attention import Cache, Scores, WeightedSum
from protocols.permllm.chosen_token import ChosenToken
from protocols.permllm.context import Context
from protocols.permllm.domain import Domain, Ring64
from protocols.permllm.input_sharing import Input
from protocols.permllm.oblivious_transfer import TransferLookup, levels
from protocols.permllm.permuted_functions import Permuted
from protocols.permllm.slot_softmax import SlotCache, SlotSoftmax
from protocols.permllm.slot_sum import SlotSum
from protocols.permllm.square_sum import SquareSum
from protocols.shares.fixed_weight import FixedWeight
from protocols.system import System
from protocols.transformer.spec import Family, TransformerSpec
from protocols.workload import UserInput, Workload, steps
from tests.views.rank import Affine
from tests.views.watch import Session, Walk


def tiny(family: Family, n_kv_heads: int | None = None) -> TransformerSpec:
    """One layer, as narrow as the family can be; two query heads where they share a key head."""
    heads = 2 if n_kv_heads else 1
    width = heads * (4 if family == "glm" else 2)
    return TransformerSpec("tiny", family, 1, width, heads, 1, 2, 8, n_kv_heads=n_kv_heads)


def whole(
    system: type[System],
    workload: Workload,
    options: Any = None,
    evaluations: int = 1,
    user: UserInput | None = None,
) -> Walk:
    """A system, from its keys through all steps of some evaluations."""
    chosen = system.Options() if options is None else options

    def walk(party: MemoryParty) -> None:
        role = system(party, workload, 7, chosen, user if party.role == P1 else None)
        with party.phase("prepare"):
            role.prepare()
        for step in list(range(len(steps(workload)))) * evaluations:
            with party.phase("offline"):
                role.offline(step)
            with party.phase("input"):
                role.share_input(step)
            with party.phase("online"):
                role.online(step)

    return walk


def attention(domain: Domain, rows: Tensor) -> Walk:
    """PermLLM's attention with its cache, one head and one token at a time, on P1's q, k and v: rows,
    float64 (tokens, 3, width)."""
    tokens, _, width = rows.shape

    def walk(party: MemoryParty) -> None:
        ctx = Context(party, None, domain)
        cache = Cache(1, width, domain.dtype)
        with party.phase("prepare"):
            ctx.establish()
        inputs = [Input(ctx, name, (1, 1, width), 14) for name in "qkv"]
        scores, weighted = Scores(ctx, "scores", cache), WeightedSum(ctx, "sum", cache)
        softmax = Permuted(ctx, "softmax", lambda x: torch.softmax(x, dim=-1))
        for token in range(tokens):
            given = rows[token] if party.role == P1 else [None] * 3
            with party.phase("offline"):
                ctx.begin_offline(range(token, token + 1))
                weighted(softmax([scores(*[x.offline() for x in inputs])], 16), 14, 0)
            ctx.begin_online(token)
            if party.role == P2:
                continue
            with party.phase("online"):
                q, k, v = (
                    x.online(None if own is None else own.expand(1, 1, width))
                    for x, own in zip(inputs, given, strict=True)
                )
                weighted(softmax([scores(q, k, v)], 16), 14, 0)

    return walk


def lookups(size: int, position: int, times: int, at_once: int = 1) -> Walk:
    """One entry of `size` by oblivious transfer, some times in one session; `at_once` are dealt
    together."""

    def walk(party: MemoryParty) -> None:
        ctx = Context(party, None, Ring64())
        with party.phase("prepare"):
            ctx.establish()
        lookup = TransferLookup(ctx, "lookup", size)
        for step in range(times):
            tables = None
            if step % at_once == 0:
                with party.phase("offline"):
                    ctx.begin_offline(range(step, step + at_once))
                    if party.role != P1:
                        tables = ctx.p0p2("table").permutations(at_once, size)
                    lookup.offline(tables)
            ctx.begin_online(step)
            with party.phase("online"):
                if party.role == P0:
                    lookup.asked()()
                elif party.role == P1:
                    lookup.ask(position)()

    return walk


def slot_attention(domain: Domain, rows: Tensor, slots: int | None = None) -> Walk:
    """The same in slots, `slots` of them dealt anew for a token: two query heads, whose queries are one,
    that share a key head."""
    tokens, _, width = rows.shape

    def walk(party: MemoryParty) -> None:
        ctx = Context(party, None, domain)
        cache = SlotCache(1, width, domain.dtype, slots)
        with party.phase("prepare"):
            ctx.establish()
        shapes = [(2, 1, width), (1, 1, width), (1, 1, width)]
        inputs = [Input(ctx, name, x, 12) for name, x in zip("qkv", shapes, strict=True)]
        weights = SlotSoftmax(ctx, "scores", cache, lambda x: torch.softmax(x, dim=-1))
        weighted = SlotSum(ctx, "sum", cache)
        for token in range(tokens):
            given = rows[token] if party.role == P1 else [None] * 3
            with party.phase("offline"):
                ctx.begin_offline(range(token, token + 1))
                q, k, v = (x.offline() for x in inputs)
                weighted(weights(q, k, v, lambda _: 16), 14, 0)
            ctx.begin_online(token)
            if party.role == P2:
                continue
            with party.phase("online"):
                q, k, v = (
                    x.online(None if own is None else own.expand(shape))
                    for x, own, shape in zip(inputs, given, shapes, strict=True)
                )
                weighted(weights(q, k, v, lambda _: 16), 14, 0)

    return walk


def opened_by_lookups(session: Session, size: int) -> list[Tensor]:
    """What P1 has of `lookups`: what it received, and the words of F under all that its pads open: of
    each pair one key, and what is none."""
    words = session.view(P1)
    replies = [r.tensor for r in session.received if (r.to, r.source) == (P1, P0)]
    dealt = [t for t in session.view(P1, P2) if t.dtype == torch.int64]
    for reply, pads in zip(replies, torch.cat(dealt), strict=True):
        for pair, pad in zip(reply, pads, strict=True):
            words += [Stream((sent ^ pad).numpy().tobytes()).int32(size) for sent in pair]
    return words


def asked_in_lookups(session: Session, size: int) -> list[Tensor]:
    """What P0 received of `lookups`, bit by bit."""
    bits = torch.arange(levels(size))
    return [packed[bits // 8].long() >> bits % 8 & 1 for packed in session.view(P0)]


def chosen_tokens(size: int, slots: Sequence[int]) -> Walk:
    """The one-hots of P1's slots, one a token, as the next token's embedding wants them."""

    def walk(party: MemoryParty) -> None:
        ctx = Context(party, None, Affine())
        with party.phase("prepare"):
            ctx.establish()
        chosen = ChosenToken(ctx, "choice", size, True)
        for step, slot in enumerate(slots):
            with party.phase("offline"):
                ctx.begin_offline(range(step, step + 1))
                index = None if party.role == P1 else ctx.p0p2("index").permutations(1, size)
                chosen.masks()
                chosen.offline(index)
            ctx.begin_online(step)
            with party.phase("online"):
                if party.role == P1:
                    chosen.send(slot)
                elif party.role == P0 and index is not None:
                    chosen.receive_next(index[0])

    return walk


def squares(domain: Domain, rows: Tensor) -> Walk:
    """The sum of squares of P1's rows, float64 (tokens, width), one a token."""
    tokens, width = rows.shape

    def walk(party: MemoryParty) -> None:
        ctx = Context(party, None, domain)
        with party.phase("prepare"):
            ctx.establish()
        step, given = SquareSum(ctx, "squares"), Input(ctx, "x", (1, width), 30)
        for token in range(tokens):
            with party.phase("offline"):
                ctx.begin_offline(range(token, token + 1))
                step(given.offline())
            ctx.begin_online(token)
            if party.role != P2:
                with party.phase("online"):
                    step(given.online(rows[token : token + 1] if party.role == P1 else None))

    return walk


def each_time(protocol: Callable[..., Any]) -> Callable[[BeaverContext], Callable[..., Any]]:
    """A function of a context and shares that keeps nothing from time to time, for `beaver`."""
    return lambda ctx: partial(protocol, ctx)


def beaver(
    make: Callable[[BeaverContext], Callable[..., Any]],
    shapes: Sequence[tuple[int, ...]],
    settings: Settings,
    times: int,
) -> Walk:
    """What `make` gives for a role's context, a primitive of MPCFormer, on numbers of P1 of these
    shapes, some times in one session."""

    def walk(party: MemoryParty) -> None:
        ctx = BeaverContext(party, None, settings)
        with party.phase("prepare"):
            ctx.establish()
            function = make(ctx)
        for time in range(times):
            with party.phase("offline"):
                ctx.begin_offline()
                function(*(ctx.without_data(*shape) for shape in shapes))
            ctx.begin_online()
            if party.role != P2:
                own = 5 + time if party.role == P1 else 0
                with party.phase("online"):
                    function(*(torch.full(shape, own) for shape in shapes))
                    ctx.end_online()

    return walk


def opened_matrix(ctx: BeaverContext) -> Callable[[Tensor], Tensor]:
    """A product with P0's matrix (2, 3)."""
    own = FixedWeight(torch.arange(6, dtype=torch.int16).reshape(2, 3), None)
    matrix = Matrix(ctx, "matrix", (2, 3), own if ctx.role == P0 else None)
    matrix.prepare()
    return matrix


def cached_products(ctx: BeaverContext) -> Callable[[Tensor, Tensor], None]:
    """Scores of a new token and a sum with them; rows stay in the cache from time to time."""
    kept = kept_rows(ctx, 1, 2)

    def function(q: Tensor, k: Tensor) -> None:
        kept.weighted(kept.scores(q, k, k) + q.sum(-1, keepdim=True))

    return function


def replicated(protocol: Callable[..., Running[Any]], *numbers: Tensor, times: int) -> Walk:
    """A primitive of Puma on shared numbers, some times in one session."""

    def walk(party: MemoryParty) -> None:
        ctx = PumaContext(party.role, None)
        with party.phase("prepare"):
            drive(party, ctx.establish())
        ctx.begin_evaluation()
        for time in range(times):
            shares = [_replicated(x + time, ctx.index) for x in numbers]
            with party.phase("online"):
                drive(party, protocol(ctx, *shares))

    return walk


def _replicated(x: Tensor, index: int) -> Share:
    parts = [torch.full_like(x, 11), torch.full_like(x, 23), x - 34]
    return Share(parts[index], parts[(index + 1) % 3], 0)


Begin = Callable[[FssContext], Callable[..., object]]


def masked(begin: Begin, count: int, operands: int = 1, times: int = 1) -> Walk:
    """The protocol of FSS that `begin` makes, on P1's vectors of `count` numbers, some times in a session."""
    values = [torch.arange(1, count + 1) * (7 + i) for i in range(operands)]

    def walk(party: MemoryParty) -> None:
        ctx = FssContext(party, None, FssOptions())
        with party.phase("prepare"):
            ctx.establish()
            protocol = begin(ctx)
        for _ in range(times):
            with party.phase("offline"):
                ctx.begin_offline()
                protocol(*[masked_input(ctx, None, (count,)) for _ in values])
            ctx.begin_online()
            if party.role == P2:
                continue
            with party.phase("online"):
                own = values if party.role == P1 else [None] * operands
                protocol(*[masked_input(ctx, x, (count,)) for x in own])
            ctx.end_online()

    return walk


@contextmanager
def opened_to(role: Role) -> Iterator[None]:
    """A role of `masked` receives what is opened, which it can compute, in place of the other's share."""

    def open_all(ctx: FssContext, *shares: tuple[Tensor, int]) -> tuple[Tensor, ...]:
        if not ctx.online:
            return tuple(share for share, _ in shares)
        own = [share & low_bits(width) for share, width in shares]
        if ctx.role == role:
            ctx.party.send(ctx.peer, *own)
            return ctx.party.recv(ctx.peer)
        theirs = ctx.party.recv(ctx.peer)
        opened = [
            (a + b) & low_bits(width) for a, b, (_, width) in zip(own, theirs, shares, strict=True)
        ]
        ctx.party.send(ctx.peer, *opened)
        return tuple(opened)

    with patch.object(FssContext, "open_all", open_all):
        yield


def words_of(session: Session, role: Role) -> list[Tensor]:
    """What a role received of `masked`, in words of 64 bits."""
    return [tensor.view(torch.int64) for tensor in session.view(role)]
