"""Primitives of additive shares, played by three threads of the test."""

from collections.abc import Callable

import torch
from torch import Tensor

from baselines.additive import primitive_costs
from baselines.additive.context import Context
from baselines.additive.options import Settings
from protocols.in_process_party import MemoryParty, run_parties
from protocols.party import P0, P1, P2, ROLES

Protocol = Callable[..., Tensor]
LOCAL = Settings()
ULP = 2.0**-16


def play(
    protocol: Protocol, *secrets: Tensor, chosen: Settings = LOCAL, seed: int = 5
) -> tuple[Tensor, primitive_costs.Cost]:
    """What the shares of `protocol(ctx, *shares)` add up to, and what it cost."""

    def walk(party: MemoryParty) -> tuple[Tensor, MemoryParty]:
        ctx = Context(party, seed, chosen)
        with party.phase("prepare"):
            ctx.establish()
        with party.phase("offline"):
            ctx.begin_offline()
            result = protocol(ctx, *[x.to("meta") for x in secrets])
        with party.phase("online"):
            ctx.begin_online()
            if party.role != P2:
                result = protocol(ctx, *shares(secrets, party.role == P0))
                ctx.end_online()
        return result, party

    played = run_parties(dict.fromkeys(ROLES, walk))
    (zero, first), (one, second), (_, dealer) = (played[role] for role in (P0, P1, P2))
    sent = [party.counters.of("online")[0].sent for party in (first, second)]
    words = {traffic.payload_bytes // 8 for to in sent for traffic in to.values()} or {0}
    assert len(words) == 1, "both parties send the same"
    hops = max(party.counters.of("online")[0].depth for party in (first, second))
    dealt = sum(t.payload_bytes for t in dealer.counters.of("offline")[0].sent.values()) // 8
    return zero + one, primitive_costs.Cost(words.pop(), hops, dealt)


def shares(secrets: tuple[Tensor, ...], first: bool) -> list[Tensor]:
    """Uniform shares: a mask, or the rest."""
    generator = torch.Generator().manual_seed(9)
    low, high = -(2**63), 2**63 - 1
    masks = [torch.randint(low, high, x.shape, generator=generator) for x in secrets]
    return [m if first else x - m for x, m in zip(secrets, masks, strict=True)]
