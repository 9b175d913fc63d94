"""Small sessions to look at: whole systems, and single steps and primitives over several tokens."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from baselines.mpcformer.attention import cache as kept_rows
from baselines.mpcformer.context import Context as BeaverContext
from baselines.mpcformer.fixed_weight import FixedWeight
from baselines.mpcformer.linear import Matrix
from baselines.mpcformer.options import Settings
from baselines.puma.context import Context as PumaContext
from baselines.puma.round_scheduler import Running, drive
from baselines.puma.share import Share
from protocols.in_process_party import MemoryParty
from protocols.party import P0, P1, P2
from protocols.permllm.attention import Cache, Scores, WeightedSum
from protocols.permllm.context import Context
from protocols.permllm.domain import Domain
from protocols.permllm.input_sharing import Input
from protocols.permllm.permuted_functions import Permuted
from protocols.system import System
from protocols.transformer.spec import Family, TransformerSpec
from protocols.workload import UserInput, Workload, steps
from tests.views.watch import Walk


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
