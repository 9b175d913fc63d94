"""The plaintext system's answers and costs, and the forward pass that it and others compute with."""

from collections import Counter

import pytest
import torch
from torch import Tensor

from baselines.forward import EXACT, LayerForward, ModelForward
from baselines.plaintext.system import Plaintext
from protocols.inputs import layer_input, prompt_tokens
from protocols.memory import MemoryParty, run_parties
from protocols.party import P0, P1, PHASES, ROLES, Phase, Role
from protocols.plain import answer
from protocols.system import PhaseCost, Unsupported
from protocols.transformer.model import synthetic_model
from protocols.transformer.plain_model import PlainModel
from protocols.transformer.rotary import rotary_tables
from protocols.transformer.spec import Family, TransformerSpec
from protocols.transformer.weights import synthetic_layer
from protocols.workload import (
    Argmax,
    Generation,
    Layer,
    Nonlinear,
    Sampling,
    UserInput,
    Workload,
    steps,
)

SEED = 7
FAMILIES: tuple[Family, ...] = ("gpt2", "bert", "llama", "glm")


def spec(family: Family, kv_heads: int | None = None) -> TransformerSpec:
    return TransformerSpec(family, family, 2, 64, 4, 192, 300, 128, n_kv_heads=kv_heads)


def evaluate(
    workload: Workload, user: UserInput | None = None
) -> tuple[list[list[Tensor]], dict[Phase, PhaseCost]]:
    """The answers of each step of two evaluations, and the cost of the last."""

    def play(party: MemoryParty) -> tuple[list[list[tuple[Tensor, ...]]], MemoryParty]:
        system = Plaintext(party, workload, SEED, {}, user if party.role == P1 else None)
        with party.phase("prepare"):
            system.prepare()
        rounds = []
        for _ in range(2):
            outputs = []
            for step in range(len(steps(workload))):
                with party.phase("offline"):
                    system.offline(step)
                with party.phase("input"):
                    system.share_input(step)
                with party.phase("online"):
                    system.online(step)
                outputs.append(tuple(part.clone() for part in system.output()))
            rounds.append(outputs)
        return rounds, party

    played = run_parties(dict.fromkeys(ROLES, play))
    answers = [
        [Plaintext.reveal({r: played[r][0][i][j] for r in ROLES}, workload, {}) for j in range(n)]
        for i, n in enumerate([len(steps(workload))] * 2)
    ]
    return answers, {name: measured(name, {r: p[1] for r, p in played.items()}) for name in PHASES}


def measured(name: Phase, parties: dict[Role, MemoryParty]) -> PhaseCost:
    """Of the last evaluation, all steps together."""
    sent: Counter[tuple[Role, Role]] = Counter()
    seen = {role: party.counters.of(name) for role, party in parties.items()}
    count = len(seen[P0]) if name == "prepare" else len(seen[P0]) // 2
    hops = 0
    for occurrence in range(-count, 0):
        hops += max(counts[occurrence].depth for counts in seen.values())
        for role, counts in seen.items():
            for to, traffic in counts[occurrence].sent.items():
                sent[role, to] += traffic.payload_bytes
    return PhaseCost(hops, dict(sent))


WORKLOADS: list[Workload] = [
    Argmax(1),
    Argmax(5000),
    Nonlinear("gelu", (100,)),
    Nonlinear("softmax", (4, 3, 5)),
    Nonlinear("layernorm", (8, 96)),
    *[Nonlinear(op, (50,)) for op in ("reciprocal", "rsqrt", "exp", "comparison")],
    *[Layer(spec(family), 1, 9) for family in FAMILIES],
    *[Layer(spec(family), 6, 6) for family in FAMILIES],
    Layer(spec("llama", 2), 3, 7),
]


@pytest.mark.parametrize("workload", WORKLOADS, ids=str)
def test_answer_and_cost(workload: Workload) -> None:
    answers, costs = evaluate(workload)
    right = answer(workload, SEED)
    for (got,) in answers:
        error = float((got - right).double().norm())
        assert error <= Plaintext.tolerance(workload) * float(right.double().norm())
    assert costs == Plaintext.cost(workload, {})


@pytest.mark.parametrize("family", FAMILIES)
def test_generation(family: Family) -> None:
    """Greedy tokens and their logits; BERT's hidden states."""
    work = Generation(spec(family), 5, 0 if family == "bert" else 3)
    answers, costs = evaluate(work)
    model = PlainModel(work.spec, synthetic_model(work.spec, SEED))
    prompt = prompt_tokens(work.spec, 5, SEED)
    for got in answers:
        model.reset()
        tokens = list(prompt)
        for step in got:
            right = model.encode(tokens) if family == "bert" else model.step(tokens)
            values = step if family == "bert" else step[1:]
            assert float((values - right).norm() / right.norm()) <= 1e-4
            if family != "bert":
                assert int(step[0]) == int(right.argmax())
                tokens = [int(step[0])]
    assert costs == Plaintext.cost(work, {})


def test_sampling_is_what_the_user_asks() -> None:
    """P0 draws as P1 says: repeatably with a seed, and not always the likeliest."""
    work = Generation(spec("gpt2"), 4, 6)

    def tokens(sampling: Sampling) -> list[list[int]]:
        answers, _ = evaluate(work, UserInput((5, 6, 7, 8), sampling))
        return [[int(step[0]) for step in got] for got in answers]

    hot = Sampling(temperature=5.0, top_k=50, seed=3)
    assert tokens(hot) == tokens(hot)
    assert tokens(hot)[0] != tokens(Sampling())[0]
    assert tokens(Sampling(temperature=5.0, top_k=1)) == tokens(Sampling())


@pytest.mark.parametrize("family", FAMILIES)
def test_forward_agrees_with_the_reference(family: Family) -> None:
    """Two passes of a layer and of a model, in float64."""
    shape = spec(family, 2 if family == "llama" else None)
    work = Layer(shape, 3, 8)
    given = layer_input(shape, 3, 8, SEED)
    layer = LayerForward(shape, synthetic_layer(shape, SEED), EXACT, (given.past_k, given.past_v))
    tables = rotary_tables(shape, torch.arange(5, 8)) if shape.rotary else None
    assert torch.allclose(layer(given.x, tables), answer(work, SEED), rtol=0, atol=1e-11)
    weights = synthetic_model(shape, SEED)
    own, reference = ModelForward(shape, weights, EXACT), PlainModel(shape, weights)
    if family == "bert":
        assert torch.allclose(own.encode([1, 2, 3]), reference.encode([1, 2, 3]), atol=1e-11)
        with pytest.raises(ValueError, match="no head"):
            own.step([1])
        return
    for tokens in ([1, 2, 3, 4], [5], [6]):
        assert torch.allclose(own.step(tokens), reference.step(tokens), rtol=0, atol=1e-11)


def test_what_does_not_fit_is_unsupported() -> None:
    """A 6B model in float32, unless its layers are tied."""
    large = TransformerSpec("glm", "glm", 28, 4096, 32, 16384, 130528, 2048)
    with pytest.raises(Unsupported, match="25 GiB"):
        Plaintext.check(Generation(large, 4, 1), {})
    Plaintext.check(Generation(large, 4, 1, tie_layers=True), {})
    Plaintext.check(Layer(large, 1, 1), {})
