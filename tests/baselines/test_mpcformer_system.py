"""MPCFormer's answers, costs and repeatability for every experiment, in memory."""

from collections import Counter
from collections.abc import Mapping
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from baselines.mpcformer.functions import function
from baselines.mpcformer.system import MPCFormer
from protocols.inputs import prompt_tokens
from protocols.memory import MemoryParty, run_parties
from protocols.party import P0, P1, PHASES, ROLES, Phase, Role
from protocols.permllm.sampling import Picker
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
Options = Mapping[str, Any]


def options(approx: str, reuse: bool, truncation: str) -> Options:
    return {"approx": approx, "reuse_weight_masks": reuse, "truncation": truncation}


FAITHFUL = options("quad+2quad", False, "local")
ALL = [
    options(*chosen)
    for chosen in product(["quad+2quad", "quad+2relu", "exact"], [False, True], ["local", "exact"])
]


def spec(family: Family, kv_heads: int | None = None) -> TransformerSpec:
    return TransformerSpec(family, family, 2, 32, 4, 96, 200, 64, n_kv_heads=kv_heads)


def evaluate(
    workload: Workload, chosen: Options, user: UserInput | None = None
) -> tuple[list[list[Tensor]], dict[Phase, PhaseCost]]:
    """The answers of each step of two evaluations, and the cost of the last."""

    def play(party: MemoryParty) -> tuple[list[list[tuple[Tensor, ...]]], MemoryParty]:
        system = MPCFormer(party, workload, SEED, chosen, user if party.role == P1 else None)
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
        [
            MPCFormer.reveal({role: played[role][0][i][j] for role in ROLES}, workload, chosen)
            for j in range(len(steps(workload)))
        ]
        for i in range(2)
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


def relative(got: Tensor, right: Tensor) -> float:
    return float((got - right).norm() / right.norm())


CASES: list[tuple[Workload, Options]] = [
    *[(Argmax(n), FAITHFUL) for n in (1, 2, 777)],
    *[
        (Nonlinear(op, (6, 33)), chosen)
        for op in ("gelu", "softmax", "layernorm")
        for chosen in ALL
        if not chosen["reuse_weight_masks"]
    ],
    *[
        (Nonlinear(op, (50,)), chosen)
        for op in ("reciprocal", "rsqrt", "exp", "comparison")
        for chosen in ALL[:2]
    ],
    *[(Layer(spec("glm"), 1, 9), chosen) for chosen in ALL],
    *[(Layer(spec(family), 1, 9), chosen) for family in FAMILIES[:3] for chosen in ALL[::7]],
    *[(Layer(spec(family), 6, 6), chosen) for family in FAMILIES for chosen in ALL[3::8]],
    *[(Layer(spec("llama", 2), 3, 8), chosen) for chosen in ALL[:4:3]],
]


@pytest.mark.parametrize(("workload", "chosen"), CASES, ids=str)
def test_answer_and_cost(workload: Workload, chosen: Options) -> None:
    """Both evaluations agree with the approximated plaintext, and cost what is declared."""
    answers, costs = evaluate(workload, chosen)
    right = MPCFormer.plaintext(workload, SEED, chosen).double()
    for (got,) in answers:
        error = float((got.double() - right).norm())
        assert error <= min(2e-4, MPCFormer.tolerance(workload)) * float(right.norm())
    assert costs == MPCFormer.cost(workload, chosen)


@pytest.mark.parametrize("family", FAMILIES)
def test_exact_approximations_are_close_to_plaintext(family: Family) -> None:
    """`exact` computes the model itself, up to what the original's approximations leave."""
    work, chosen = Layer(spec(family), 4, 9), options("exact", True, "exact")
    answers, _ = evaluate(work, chosen)
    assert relative(answers[0][0], answer(work, SEED)) <= 5e-3


@pytest.mark.parametrize(
    ("family", "chosen", "tied"),
    [
        *[(family, FAITHFUL, False) for family in FAMILIES],
        ("bert", options("exact", True, "exact"), True),
        ("llama", options("quad+2relu", True, "local"), False),
        ("glm", options("quad+2quad", True, "exact"), True),
    ],
    ids=str,
)
def test_generation(family: Family, chosen: Options, tied: bool) -> None:
    """Tokens and logits (BERT: hidden states) of the approximated model, step by step."""
    work = Generation(spec(family, 2), 5, 0 if family == "bert" else 2, tied)
    answers, costs = evaluate(work, chosen)
    model = MPCFormer.plain_model(work, SEED, chosen)
    for got in answers:
        model.reset()
        tokens = list(prompt_tokens(work.spec, 5, SEED))
        for step in got:
            right = model.encode(tokens) if family == "bert" else model.step(tokens)
            assert relative(step if family == "bert" else step[1:], right) <= 1e-3
            if family != "bert":
                assert int(step[0]) == int(right.argmax())
                tokens = [int(step[0])]
    assert costs == MPCFormer.cost(work, chosen)


def test_the_user_picks() -> None:
    """A prompt and a sampling rule of P1's own."""
    work = Generation(spec("gpt2"), 3, 3)
    user = UserInput((1, 2, 3), Sampling(temperature=5.0, top_k=40, seed=2))
    answers, _ = evaluate(work, FAITHFUL, user)
    model = MPCFormer.plain_model(work, SEED, FAITHFUL)
    assert relative(answers[0][0][1:], model.step([1, 2, 3])) <= 1e-3
    picks = Picker(user.sampling)
    for got in answers:
        assert [int(step[0]) for step in got] == [picks(step[1:]) for step in got]
        assert any(int(step[0]) != int(step[1:].argmax()) for step in got)


def test_the_papers_layer() -> None:
    """3,073 MiB over both parties at d = 4096, one token; under 2 MiB with weights opened once."""
    wide = TransformerSpec("glm", "glm", 28, 4096, 32, 16384, 130528, 2048)

    def online_mib(length: int, chosen: Options) -> float:
        cost = MPCFormer.cost(Layer(wide, 1, length), chosen)["online"]
        return sum(cost.payload_bytes.values()) / 2**20

    for length in (1, 128):
        assert online_mib(length, FAITHFUL) == pytest.approx(3073, rel=0.01)
        assert online_mib(length, options("quad+2quad", True, "local")) < 2


def test_a_comparison_is_of_fixed_point() -> None:
    """A value that rounds to 0 is not negative."""
    x = torch.tensor([-(2.0**-18), -(2.0**-16), 0.0], dtype=torch.float64)
    assert function("comparison", "exact").plain(x).tolist() == [0.0, 1.0, 0.0]


def test_what_cannot_be_run_says_why() -> None:
    large = TransformerSpec("glm", "glm", 28, 4096, 32, 16384, 130528, 2048)
    with pytest.raises(Unsupported, match="GiB"):
        MPCFormer.check(Generation(large, 4, 1), FAITHFUL)
    for work in (Layer(large, 1, 128), Generation(spec("gpt2"), 4, 1), Argmax(10)):
        MPCFormer.check(work, FAITHFUL)
    for wrong in ({"approx": "quad"}, {"truncation": "none"}):
        with pytest.raises(ValueError, match="must be one of"):
            MPCFormer.check(Argmax(10), wrong)


@pytest.mark.parametrize("reused", [False, True])
def test_what_travels_is_fresh(reused: bool) -> None:
    """Two evaluations of one layer, same weights and input: no word is sent twice, all look uniform."""
    work, chosen = Layer(spec("bert"), 3, 5), options("quad+2quad", reused, "local")

    def play(party: MemoryParty) -> list[Tensor]:
        system = MPCFormer(party, work, SEED, chosen)
        sent: list[Tensor] = []
        send = party.send

        def watched(to: Role, *tensors: Tensor) -> None:
            sent.extend(tensor.reshape(-1).clone() for tensor in tensors)
            send(to, *tensors)

        party.send = watched  # type: ignore[method-assign]
        with party.phase("prepare"):
            system.prepare()
        for _ in range(2):
            with party.phase("offline"):
                system.offline(0)
            with party.phase("input"):
                system.share_input(0)
            with party.phase("online"):
                system.online(0)
        return sent

    sent = run_parties(dict.fromkeys(ROLES, play))
    for role in (P0, P1):
        words = torch.cat(sent[role])
        assert len(set(words.tolist())) == len(words)
        assert abs(float(words.double().abs().mean()) * 2.0**-62 - 1) < 0.03
