"""Parties of any system as threads of the test: what they answered, and what they sent."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from protocols.in_process_party import MemoryParty, run_parties
from protocols.party import P1, PHASES, Phase, Role
from protocols.system import Pair, PhaseCost, System
from protocols.transformer.spec import Family, TransformerSpec
from protocols.workload import UserInput, Workload, steps

SEED = 7
FAMILIES: tuple[Family, ...] = ("gpt2", "bert", "llama", "glm")
Parts = dict[Role, tuple[Tensor, ...]]


@dataclass(frozen=True)
class Played:
    """answers, parts: of each step of each evaluation. cost: of the last evaluation, by phase."""

    answers: list[list[Tensor]]
    parts: list[list[Parts]]
    cost: dict[Phase, PhaseCost]


def small(family: Family, n_kv_heads: int | None = None) -> TransformerSpec:
    """Two layers, 32 wide."""
    return TransformerSpec(family, family, 2, 32, 4, 96, 200, 64, n_kv_heads=n_kv_heads)


def play(
    system: type[System],
    workload: Workload,
    options: Any = None,
    evaluations: int = 2,
    user: UserInput | None = None,
    seed: int = SEED,
    key_seed: int | None = SEED,
) -> Played:
    """What the harness does with real parties; `options` default to the system's own."""
    chosen = system.Options() if options is None else options
    count = len(steps(workload))

    def walk(party: MemoryParty) -> tuple[list[tuple[Tensor, ...]], MemoryParty]:
        known = user if party.role == P1 else None
        role = system(party, workload, seed, chosen, known, key_seed)
        with party.phase("prepare"):
            role.prepare()
        outputs = []
        for step in list(range(count)) * evaluations:
            with party.phase("offline"):
                role.offline(step)
            with party.phase("input"):
                role.share_input(step)
            with party.phase("online"):
                role.online(step)
            outputs.append(tuple(part.clone() for part in role.output()))
        role.close()
        return outputs, party

    roles = system.roles(chosen)
    played = run_parties(dict.fromkeys(roles, walk))
    flat = [{role: played[role][0][i] for role in roles} for i in range(evaluations * count)]
    parts = [flat[i : i + count] for i in range(0, len(flat), count)]
    answers = [[system.reveal(part, workload, chosen) for part in one] for one in parts]
    parties = {role: played[role][1] for role in roles}
    return Played(answers, parts, {name: _measured(name, parties, count) for name in PHASES})


def _measured(name: Phase, parties: Mapping[Role, MemoryParty], count: int) -> PhaseCost:
    """What the last evaluation sent in one phase, all its steps together."""
    sent: Counter[Pair] = Counter()
    last = {role: party.counters.of(name)[-count:] for role, party in parties.items()}
    for role, samples in last.items():
        for counts in samples:
            sent.update({(role, to): traffic.payload_bytes for to, traffic in counts.sent.items()})
    hops = [max(counts.depth for counts in step) for step in zip(*last.values(), strict=True)]
    return PhaseCost(sum(hops), {pair: n for pair, n in sent.items() if n})


def declared(
    system: type[System], workload: Workload, options: Any = None
) -> dict[Phase, PhaseCost]:
    """What the system says it sends, without the pairs that send nothing."""
    cost = system.cost(workload, system.Options() if options is None else options)
    return {
        name: PhaseCost(phase.hops, {pair: n for pair, n in phase.payload_bytes.items() if n})
        for name, phase in cost.items()
    }


def relative(got: Tensor, right: Tensor) -> float:
    """|got − right| / |right|."""
    return float((got.double() - right).norm() / right.double().norm())
