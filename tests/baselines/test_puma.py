"""Puma as a system: answers, declared costs, repeatability, in memory."""

from collections import Counter
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from baselines.puma.cost import Cost, one_round, rotation
from baselines.puma.memory import weight_bytes
from baselines.puma.system import Puma
from protocols.inputs import prompt_tokens
from protocols.memory import MemoryParty, run_parties
from protocols.party import P0, P1, P2, PHASES, ROLES, Phase, Role
from protocols.plain import answer
from protocols.system import PhaseCost, Unsupported
from protocols.transformer.spec import Family, TransformerSpec
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


def spec(family: Family, n_kv_heads: int | None = None) -> TransformerSpec:
    return TransformerSpec(family, family, 2, 64, 4, 192, 300, 128, n_kv_heads=n_kv_heads)


GROUPED = spec("llama", n_kv_heads=2)


@dataclass(frozen=True)
class Played:
    """Answers of each step of each evaluation, this role's parts of them, and the last one's cost."""

    answers: list[list[Tensor]]
    parts: list[dict[Role, tuple[Tensor, ...]]]
    cost: dict[Phase, PhaseCost]


def play(
    workload: Workload,
    evaluations: int = 2,
    user: UserInput | None = None,
    seed: int | None = SEED,
) -> Played:
    count = len(steps(workload))

    def role(party: MemoryParty) -> tuple[list[tuple[Tensor, ...]], MemoryParty]:
        given = user if party.role == P1 else None
        system = Puma(party, workload, seed, {}, given)
        with party.phase("prepare"):
            system.prepare()
        outputs = []
        for _ in range(evaluations):
            for step in range(count):
                with party.phase("offline"):
                    system.offline(step)
                with party.phase("input"):
                    system.share_input(step)
                with party.phase("online"):
                    system.online(step)
                outputs.append(tuple(part.clone() for part in system.output()))
        return outputs, party

    played = run_parties(dict.fromkeys(ROLES, role))
    parts = [{r: played[r][0][i] for r in ROLES} for i in range(evaluations * count)]
    revealed = [Puma.reveal(part, workload, {}) for part in parts]
    parties = {r: p[1] for r, p in played.items()}
    return Played(
        [revealed[i * count : (i + 1) * count] for i in range(evaluations)],
        parts,
        {name: measured(name, parties, count) for name in PHASES},
    )


def measured(name: Phase, parties: dict[Role, MemoryParty], count: int) -> PhaseCost:
    """What the last evaluation sent in one phase, over all its steps."""
    sent: Counter[tuple[Role, Role]] = Counter()
    last = {role: party.counters.of(name)[-count:] for role, party in parties.items()}
    for role, samples in last.items():
        for counts in samples:
            for to, traffic in counts.sent.items():
                sent[role, to] += traffic.payload_bytes
    hops = sum(max(c.depth for c in step) for step in zip(*last.values(), strict=True))
    return PhaseCost(hops, dict(sent))


def check_cost(workload: Workload, played: Played) -> None:
    assert played.cost == Puma.cost(workload, {})


def error(got: Tensor, right: Tensor) -> float:
    return float((got - right).double().norm() / right.double().norm())


WORKLOADS: list[Workload] = [
    Argmax(1),
    Argmax(2),
    Argmax(1000),
    Nonlinear("gelu", (1000,)),
    Nonlinear("softmax", (4, 3, 50)),
    Nonlinear("layernorm", (8, 96)),
    Nonlinear("reciprocal", (300,)),
    Nonlinear("rsqrt", (300,)),
    Nonlinear("exp", (300,)),
    Nonlinear("comparison", (300,)),
    *[Layer(spec(f), 1, 1) for f in ("gpt2", "llama")],
    *[Layer(spec(f), 1, 37) for f in FAMILIES],
    *[Layer(spec(f), 16, 16) for f in FAMILIES],
    Layer(spec("glm"), 5, 12),
    Layer(GROUPED, 5, 12),
]


@pytest.mark.parametrize("workload", WORKLOADS, ids=str)
def test_answer_and_cost(workload: Workload) -> None:
    """Every evaluation agrees with the same approximations in float64, at the declared cost."""
    played = play(workload)
    right = Puma.plaintext(workload, SEED, {})
    for (got,) in played.answers:
        assert error(got, right) <= 3e-5 or (isinstance(workload, Argmax) and got == right)
    check_cost(workload, played)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("q_len", "kv_len"), [(1, 37), (16, 16)])
def test_layers_are_close_to_exact_plaintext(family: Family, q_len: int, kv_len: int) -> None:
    workload = Layer(spec(family), q_len, kv_len)
    (got,) = play(workload, evaluations=1).answers[0]
    assert error(got, answer(workload, SEED)) <= 1e-2


@pytest.mark.parametrize("model", [spec("gpt2"), spec("llama"), GROUPED, spec("glm")], ids=str)
@pytest.mark.parametrize("tie_layers", [False, True], ids=["own", "tied"])
def test_generated_tokens_and_logits(model: TransformerSpec, tie_layers: bool) -> None:
    """Prefill, then decode with the cache, like the model with the same approximations."""
    workload = Generation(model, 5, 3, tie_layers)
    played = play(workload)
    plain = Puma.plain_model(workload, SEED, {})
    for answers in played.answers:
        tokens = [int(got[0]) for got in answers]
        plain.reset()
        rights = [plain.step(prompt_tokens(model, 5, SEED))]
        rights += [plain.step([token]) for token in tokens[:-1]]
        assert tokens == [int(right.argmax()) for right in rights]
        for got, right in zip(answers, rights, strict=True):
            assert error(got[1:], right) <= 1e-3
    check_cost(workload, played)


def test_hidden_states_of_bert_reach_the_user_alone() -> None:
    model, prompt = spec("bert"), (3, 299, 0, 17)
    workload = Generation(model, len(prompt), 0)
    played = play(workload, user=UserInput(prompt))
    right = Puma.plain_model(workload, SEED, {}).encode(prompt)
    assert error(played.answers[1][0], right) <= 1e-3
    assert played.parts[0][P0] == played.parts[0][P2] == ()
    check_cost(workload, played)


def test_tokens_and_indices_reach_the_user_alone() -> None:
    assert [len(play(Argmax(10)).parts[0][role]) for role in ROLES] == [0, 1, 0]
    parts = play(Generation(spec("gpt2"), 3, 1), evaluations=1).parts[0]
    assert [len(parts[role]) for role in ROLES] == [1, 2, 1]


def test_pads_are_fresh_in_every_evaluation() -> None:
    """With a seed a run repeats itself, but its evaluations do not; without one nothing does."""
    workload = Nonlinear("gelu", (500,))
    runs = [play(workload, seed=seed) for seed in (SEED, SEED, None)]
    shares = [part[P0][0] for run in runs for part in run.parts]
    assert torch.equal(shares[0], shares[2])
    assert torch.equal(shares[1], shares[3])
    for i, j in ((0, 1), (0, 4), (4, 5), (1, 5)):
        assert not (shares[i] == shares[j]).any()


def test_what_puma_cannot_do() -> None:
    """It says why, before any party starts."""
    huge = TransformerSpec("huge", "glm", 28, 65536, 32, 262144, 130528, 2048)
    for workload in (Generation(huge, 4, 1), Layer(huge, 1, 1)):
        with pytest.raises(Unsupported, match="GB"):
            Puma.check(workload, {})
    with pytest.raises(Unsupported, match="no protocol"):
        Puma.check(Nonlinear("cosine", (3,)), {})  # type: ignore[arg-type]
    with pytest.raises(Unsupported, match="sample"):
        play(Generation(spec("gpt2"), 3, 1), user=UserInput(sampling=Sampling(temperature=1.0)))
    Puma.check(Argmax(100_000), {})


def test_memory_of_a_layer() -> None:
    """Two parts of 8 bytes for each of ChatGLM-6B's 201 million weights and biases."""
    chatglm = TransformerSpec("chatglm-6b", "glm", 28, 4096, 32, 16384, 130528, 2048)
    weights = 12 * 4096 * 4096 + (3 + 1 + 4 + 1) * 4096 + 4 * 4096
    assert weight_bytes(Layer(chatglm, 1, 128)) == 16 * weights


def test_costs_add_up_in_sequence_and_side_by_side() -> None:
    turn, word = rotation(8), one_round({(P2, P1): 5, (P0, P1): 0})
    assert (turn + word).hops == 2
    assert (turn | word).hops == 1
    assert (turn | word).payload_bytes == {(P0, P2): 8, (P1, P0): 8, (P2, P1): 13}
    assert (turn * 3).hops == 3
    assert (word + word).hops == 1  # P2 hears nothing and waits for nobody
    assert Cost().phase() == PhaseCost(0, {})
