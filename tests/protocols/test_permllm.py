"""PermLLM's answers, costs and repeatability, in memory."""

from collections import Counter

import pytest
import torch

from protocols.memory import MemoryParty, run_parties
from protocols.party import PHASES, ROLES, Phase, Role
from protocols.permllm.system import PermLLM
from protocols.plain import answer
from protocols.system import PhaseCost
from protocols.transformer.spec import TransformerSpec
from protocols.workload import Argmax, Layer, Nonlinear, Workload

SEED = 7


def spec(family: str, eps: float = 1e-5) -> TransformerSpec:
    return TransformerSpec(family, family, 2, 64, 4, 192, 1000, 128, eps)  # type: ignore[arg-type]


def evaluate(workload: Workload, seed: int | None = SEED, evaluations: int = 2):  # type: ignore[no-untyped-def]
    """Answers of each evaluation, and the measured cost of each phase of the last."""

    def play(party: MemoryParty) -> tuple[list[tuple[torch.Tensor, ...]], MemoryParty]:
        system = PermLLM(party, workload, seed, {})
        with party.phase("prepare"):
            system.prepare()
        outputs = []
        for _ in range(evaluations):
            with party.phase("offline"):
                system.offline(0)
            with party.phase("input"):
                system.share_input(0)
            with party.phase("online"):
                system.online(0)
            outputs.append(tuple(part.clone() for part in system.output()))
        return outputs, party

    played = run_parties(dict.fromkeys(ROLES, play))
    answers = [
        PermLLM.reveal({r: played[r][0][i] for r in ROLES}, workload, {})
        for i in range(evaluations)
    ]
    return answers, {name: measured(name, {r: p[1] for r, p in played.items()}) for name in PHASES}


def measured(name: Phase, parties: dict[Role, MemoryParty]) -> PhaseCost:
    sent: Counter[tuple[Role, Role]] = Counter()
    last = {role: party.counters.of(name)[-1] for role, party in parties.items()}
    for role, counts in last.items():
        for to, traffic in counts.sent.items():
            sent[role, to] += traffic.payload_bytes
    return PhaseCost(max(counts.depth for counts in last.values()), dict(sent))


WORKLOADS = [
    Argmax(1),
    Argmax(2),
    Argmax(1000),
    Argmax(5000),
    Nonlinear("gelu", (1000,)),
    Nonlinear("softmax", (4, 3, 50)),
    Nonlinear("layernorm", (8, 96)),
    *[Layer(spec(f), 1, 37) for f in ("gpt2", "bert", "llama", "glm")],
    *[Layer(spec(f), 16, 16) for f in ("gpt2", "bert", "llama", "glm")],
    Layer(spec("glm"), 5, 12),
]


@pytest.mark.parametrize("workload", WORKLOADS, ids=str)
def test_answer_and_cost(workload: Workload) -> None:
    """Every evaluation agrees with plaintext, and costs what the closed form says."""
    answers, costs = evaluate(workload)
    right = answer(workload, SEED)
    for got in answers:
        error = (got - right).double().norm()
        assert float(error) <= PermLLM.tolerance(workload) * float(right.double().norm())
    declared = PermLLM.cost(workload, {})
    for name, cost in costs.items():
        assert cost == PhaseCost(declared[name].hops, dict(declared[name].payload_bytes)), name
