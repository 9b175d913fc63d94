"""PermLLM's answers and costs, in memory: every experiment, block family and number system."""

import threading
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from protocols.arith.prg import Prg
from protocols.inputs import prompt_tokens
from protocols.memory import MemoryParty, run_parties
from protocols.party import PHASES, ROLES, Phase, Role
from protocols.permllm.context import Context
from protocols.permllm.domain import Ring64
from protocols.permllm.sampling import Picker
from protocols.permllm.system import PermLLM
from protocols.plain import answer
from protocols.system import PhaseCost
from protocols.transformer.model import synthetic_model
from protocols.transformer.plain_model import PlainModel
from protocols.transformer.spec import TransformerSpec
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
FAMILIES = ("gpt2", "bert", "llama", "glm")
FLOAT = {"domain": "float32", "mask_scale": 10.0}


def spec(family: str, **fields: Any) -> TransformerSpec:
    return TransformerSpec(family, family, 2, 64, 4, 192, 300, 128, **fields)  # type: ignore[arg-type]


GROUPED = spec("llama", n_kv_heads=2)


@dataclass(frozen=True)
class Played:
    """Answers of each step of each evaluation, and the measured cost of the last evaluation."""

    answers: list[list[torch.Tensor]]
    cost: dict[Phase, PhaseCost]


def play(
    workload: Workload,
    options: dict[str, Any] | None = None,
    evaluations: int = 2,
    user: UserInput | None = None,
) -> Played:
    count = len(steps(workload))

    def role(party: MemoryParty) -> tuple[list[tuple[torch.Tensor, ...]], MemoryParty]:
        given = user if party.role == "P1" else None
        system = PermLLM(party, workload, SEED, options or {}, given)
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
    revealed = [
        PermLLM.reveal({r: played[r][0][i] for r in ROLES}, workload, options or {})
        for i in range(evaluations * count)
    ]
    parties = {r: p[1] for r, p in played.items()}
    return Played(
        [revealed[i * count : (i + 1) * count] for i in range(evaluations)],
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


def check_cost(workload: Workload, played: Played, options: dict[str, Any] | None = None) -> None:
    declared = PermLLM.cost(workload, options or {})
    for name, cost in played.cost.items():
        sent = {pair: size for pair, size in declared[name].payload_bytes.items() if size}
        assert cost == PhaseCost(declared[name].hops, sent), name


WORKLOADS: list[Workload] = [
    Argmax(1),
    Argmax(2),
    Argmax(1000),
    Argmax(5000),
    Nonlinear("gelu", (1000,)),
    Nonlinear("softmax", (4, 3, 50)),
    Nonlinear("layernorm", (8, 96)),
    *[Nonlinear(op, (5, 20)) for op in ("reciprocal", "rsqrt", "exp", "comparison")],
    *[Layer(spec(f), 1, 37) for f in FAMILIES],
    *[Layer(spec(f), 16, 16) for f in FAMILIES],
    Layer(spec("glm"), 5, 12),
    Layer(GROUPED, 5, 12),
]


@pytest.mark.parametrize("options", [{}, FLOAT], ids=["ring64", "float32"])
@pytest.mark.parametrize("workload", WORKLOADS, ids=str)
def test_answer_and_cost(workload: Workload, options: dict[str, Any]) -> None:
    """Every evaluation agrees with plaintext, and costs what the closed form says."""
    played = play(workload, options)
    right = answer(workload, SEED)
    for (got,) in played.answers:
        error = (got - right).double().norm()
        assert float(error) <= PermLLM.tolerance(workload) * float(right.double().norm())
    check_cost(workload, played, options)


@pytest.mark.parametrize("options", [{}, FLOAT], ids=["ring64", "float32"])
@pytest.mark.parametrize(
    "model", [spec("gpt2"), spec("llama"), GROUPED, spec("glm")], ids=lambda s: str(s.n_kv_heads)
)
def test_generated_tokens_and_logits_are_plaintext_s(
    model: TransformerSpec, options: dict[str, Any]
) -> None:
    """Prefill and cached decode, twice: the second evaluation must start from empty caches."""
    work = Generation(model, prompt_len=5, new_tokens=4)
    played = play(work, options)
    plain = PlainModel(model, synthetic_model(model, SEED))
    tokens, logits = plain.greedy(prompt_tokens(model, 5, SEED), 4)
    for evaluation in played.answers:
        assert [int(step[0]) for step in evaluation] == tokens
        error = (torch.stack(evaluation)[:, 1:] - logits).norm() / logits.norm()
        assert float(error) <= 3e-3
    check_cost(work, played, options)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_a_checkpoint_generates_what_transformers_generates(
    family: str, request: pytest.FixtureRequest
) -> None:
    """32 greedy tokens of a real checkpoint, under PermLLM and by transformers' own `generate`."""
    folder: Path = request.getfixturevalue(f"{family}_checkpoint")
    transformers = pytest.importorskip("transformers")
    from protocols.transformer.checkpoint import check  # noqa: PLC0415 - an optional extra

    prompt = [5, 17, 40, 8]
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    out = model.generate(
        torch.tensor([prompt]), do_sample=False, min_new_tokens=32, max_new_tokens=32
    )
    work = Generation(check(folder), len(prompt), 32, checkpoint=str(folder))
    played = play(work, evaluations=1, user=UserInput(tuple(prompt)))
    assert [int(step[0]) for step in played.answers[0]] == out[0, len(prompt) :].tolist()


@pytest.mark.parametrize("family", ["bert", "chatglm"])
def test_a_checkpoint_computes_what_its_plaintext_computes(
    family: str, request: pytest.FixtureRequest
) -> None:
    """BERT's hidden states; ChatGLM's tokens, with its two positions and its visible prompt."""
    folder: Path = request.getfixturevalue(f"{family}_checkpoint")
    from protocols.transformer.checkpoint import check, load  # noqa: PLC0415 - an optional extra

    prompt, new = (5, 17, 40, 297, 298), 0 if family == "bert" else 16
    work = Generation(check(folder), len(prompt), new, checkpoint=str(folder))
    if family == "bert":
        prompt = (5, 17, 40, 8, 9)
    played = play(work, evaluations=1, user=UserInput(prompt)).answers[0]
    plain = PlainModel(work.spec, load(folder))
    if new:
        assert [int(step[0]) for step in played] == plain.greedy(prompt, new)[0]
        return
    right = plain.encode(prompt)
    assert float((played[0] - right).norm() / right.norm()) <= 2e-3


def test_bert_encodes_in_one_pass() -> None:
    work = Generation(spec("bert"), prompt_len=6, new_tokens=0)
    played = play(work)
    plain = PlainModel(work.spec, synthetic_model(work.spec, SEED))
    right = plain.encode(prompt_tokens(work.spec, 6, SEED))
    for (got,) in played.answers:
        assert float((got - right).norm() / right.norm()) <= 1e-3
    check_cost(work, played)


@pytest.mark.parametrize("family", FAMILIES)
def test_tied_layers_cost_what_distinct_layers_cost(family: str) -> None:
    """In every phase, prepare included; and they compute the tied model."""
    new = 0 if family == "bert" else 2
    distinct = Generation(spec(family), 3, new)
    tied = Generation(spec(family), 3, new, tie_layers=True)
    costs = [play(work, evaluations=1) for work in (distinct, tied)]
    assert costs[0].cost == costs[1].cost
    if new:
        plain = PlainModel(tied.spec, synthetic_model(tied.spec, SEED, tie_layers=True))
        tokens, _ = plain.greedy(prompt_tokens(tied.spec, 3, SEED), new)
        assert [int(step[0]) for step in costs[1].answers[0]] == tokens


def test_the_prompt_and_the_way_of_picking_are_p1_s() -> None:
    """A prompt of the user's own, drawn from at a temperature: one seed, one text; two seeds, two."""
    model = spec("gpt2")
    texts = []
    for seed in (1, 1, 2):
        user = UserInput((3, 1, 4), Sampling(temperature=3.0, seed=seed))
        steps_ = play(Generation(model, 3, 8), evaluations=1, user=user).answers[0]
        texts.append([int(step[0]) for step in steps_])
    assert texts[0] == texts[1] != texts[2]


@pytest.mark.parametrize(
    ("sampling", "allowed"),
    [
        (Sampling(), {3}),
        (Sampling(temperature=5.0, top_k=2), {3, 0}),
        (Sampling(temperature=1.0, top_p=0.6), {3}),
        (Sampling(temperature=1.0, top_p=0.8), {3, 0}),
        (Sampling(temperature=5.0), {0, 1, 2, 3}),
    ],
    ids=str,
)
def test_picks_come_from_the_likeliest_whatever_their_order(
    sampling: Sampling, allowed: set[int]
) -> None:
    """Probabilities at temperature 1 are about 0.65 (3), 0.24 (0), 0.09, 0.03."""
    logits = torch.tensor([1.0, -1.0, 0.0, 2.0], dtype=torch.float64)
    order = torch.tensor([2, 0, 3, 1])
    straight, shuffled = Picker(sampling_with(sampling)), Picker(sampling_with(sampling))
    picks = [straight(logits) for _ in range(300)]
    assert picks == [int(order[shuffled(logits[order])]) for _ in range(300)]
    assert set(picks) == allowed


def sampling_with(sampling: Sampling) -> Sampling:
    return Sampling(sampling.temperature, sampling.top_k, sampling.top_p, seed=9)


@pytest.mark.parametrize(
    "work", [Argmax(500), Layer(spec("glm"), 3, 9), Layer(spec("bert"), 3, 3)], ids=str
)
def test_what_travels_is_fresh_and_uniform(work: Workload, monkeypatch: pytest.MonkeyPatch) -> None:
    """A forgotten, constant or repeated mask or pad shows in what the roles send.

    The same input twice: no message after `prepare` repeats a value of the other evaluation, and the
    sign bits of all of them are as good as fair coins.
    """
    sent: dict[tuple[str, str], list[torch.Tensor]] = {}
    lock = threading.Lock()
    send = MemoryParty.send

    def listen(party: MemoryParty, to: Role, *tensors: torch.Tensor) -> None:
        with lock:
            for tensor in tensors:
                if tensor.dtype in (torch.int32, torch.int64) and tensor.numel() >= 50:
                    sent.setdefault((party.role, to), []).append(tensor.clone().reshape(-1))
        send(party, to, *tensors)

    monkeypatch.setattr(MemoryParty, "send", listen)
    play(work, evaluations=2)
    for pair, messages in sent.items():
        values = torch.cat([message.double() for message in messages])
        share = float((values < 0).double().mean())
        assert abs(share - 0.5) < 5 * 0.5 / len(values) ** 0.5, pair
        assert len(set(values.tolist())) > 0.999 * len(values), pair


def test_a_stream_cannot_be_drawn_twice_in_an_evaluation() -> None:
    ctx = Context(cast(MemoryParty, SimpleNamespace(role="P1")), 1, Ring64())
    ctx._p1p2 = Prg(bytes(16))
    ctx.begin_offline()
    first = ctx.p1p2("x").int64(4)
    with pytest.raises(RuntimeError, match="drawn twice"):
        ctx.p1p2("x")
    ctx.begin_offline()
    assert not torch.equal(first, ctx.p1p2("x").int64(4))
