"""Every system on every experiment: the right answer at exactly the declared cost."""

import threading
from dataclasses import replace
from itertools import product
from typing import Any, get_args

import pytest
import torch
from torch import Tensor

from baselines.mpcformer.options import Approx, Settings, Truncation
from harness.registry import OURS, system_class
from protocols.in_process_party import MemoryParty
from protocols.inputs import prompt_tokens
from protocols.party import Role
from protocols.permllm.options import PermLLMOptions
from protocols.system import System
from protocols.workload import Argmax, Generation, Layer, Linear, Nonlinear, Workload
from tests.play import FAMILIES, SEED, declared, play, relative, small

# Relative rms against the system's own plaintext: of one experiment, of a whole model.
WITHIN = {
    "permllm": (1e-3, 3e-3),
    "mpcformer": (3e-4, 1e-3),
    "puma": (1e-4, 1e-3),
    "plaintext": (1e-5, 1e-4),
}
WORDS = (torch.int32, torch.int64)
GROUPED = small("llama", n_kv_heads=2)
ROWS: list[Workload] = [
    *[Argmax(n) for n in (1, 2, 1000)],
    Nonlinear("gelu", (1000,)),
    Nonlinear("softmax", (4, 3, 50)),
    Nonlinear("layernorm", (8, 96)),
    *[Nonlinear(op, (5, 20)) for op in ("reciprocal", "rsqrt", "exp", "comparison")],
    Linear(1, 40, 24),
    Linear(5, 33, 7),
]
LAYERS: list[Workload] = [
    *[Layer(small(family), 1, 9) for family in FAMILIES],
    *[Layer(small(family), 6, 6) for family in FAMILIES],
    Layer(small("gpt2"), 1, 1),
    Layer(GROUPED, 3, 8),
]
MODELS = [
    *[Generation(small(family), 5, 0 if family == "bert" else 3) for family in FAMILIES],
    Generation(GROUPED, 5, 2),
    *[Generation(small(f), 3, 0 if f == "bert" else 2, tie_layers=True) for f in ("glm", "bert")],
]
ALL: list[Workload] = [*ROWS, *LAYERS, *MODELS]
REUSED = Settings("exact", reuse_weight_masks=True, truncation="exact")
APPROXIMATIONS = [
    Settings(*chosen) for chosen in product(get_args(Approx), (False, True), get_args(Truncation))
]
CASES: list[tuple[str, Any, Workload]] = [
    *[(name, None, workload) for name in OURS for workload in ALL],
    *[("permllm", PermLLMOptions("float32"), workload) for workload in ALL],
    *[("mpcformer", REUSED, workload) for workload in ALL if not isinstance(workload, Argmax)],
    *[("mpcformer", chosen, Layer(small("glm"), 2, 9)) for chosen in APPROXIMATIONS],
    *[
        ("mpcformer", chosen, Nonlinear(op, (6, 33)))
        for chosen in APPROXIMATIONS
        for op in ("gelu", "softmax", "layernorm")
        if not chosen.reuse_weight_masks
    ],
]


def name_of(value: object) -> str:
    """A short id for a case."""
    if value is None:
        return "defaults"
    if not isinstance(value, Layer | Generation):
        return str(value)
    family = "grouped" if value.spec == GROUPED else value.spec.family
    return str(value).replace(f"spec={value.spec}", family)


@pytest.mark.parametrize(("name", "options", "workload"), CASES, ids=name_of)
def test_answers_and_costs(name: str, options: Any, workload: Workload) -> None:
    """In both of two evaluations: the second must begin afresh, with other masks."""
    system = system_class(name)
    chosen = system.Options() if options is None else options
    played = play(system, workload, chosen)
    one, whole = WITHIN[name]
    for answers in played.answers:
        if isinstance(workload, Generation):
            check_generation(system, workload, chosen, answers, whole)
        elif isinstance(workload, Argmax):
            assert int(answers[0]) == int(system.plaintext(workload, SEED, chosen))
        else:
            assert relative(answers[0], system.plaintext(workload, SEED, chosen)) <= one
    assert played.cost == declared(system, workload, chosen)


def check_generation(
    system: type[System], work: Generation, options: Any, answers: list[Tensor], within: float
) -> None:
    """Tokens and logits (BERT: hidden states) step by step, like the system's own plaintext."""
    model = system.plain_model(work, SEED, options)
    prompt = prompt_tokens(work.spec, work.prompt_len, SEED)
    if work.spec.family == "bert":
        assert relative(answers[0], model.encode(prompt)) <= within
        return
    model.reset()
    tokens = list(prompt)
    for answer in answers:
        right = model.step(tokens)
        assert relative(answer[1:], right) <= within
        assert int(answer[0]) == int(right.argmax())
        tokens = [int(answer[0])]


def test_the_table_has_every_system_and_experiment() -> None:
    there = {(name, type(workload)) for name, _, workload in CASES}
    assert there == {(name, kind) for name in OURS for kind in get_args(Workload)}
    assert WITHIN.keys() == OURS.keys()


@pytest.mark.parametrize("name", OURS)
def test_tied_layers_cost_what_distinct_layers_cost(name: str) -> None:
    """But for weights that are shared or opened once: there tied layers travel once."""
    system = system_class(name)
    for family in FAMILIES:
        work = Generation(small(family), 3, 0 if family == "bert" else 2)
        costs = [declared(system, replace(work, tie_layers=tied)) for tied in (False, True)]
        prepared = [cost.pop("prepare") for cost in costs]
        assert costs[0] == costs[1]
        assert (prepared[0] == prepared[1]) == (name != "puma")


@pytest.mark.parametrize(
    ("name", "options", "work"),
    [
        ("permllm", None, Argmax(500)),
        ("permllm", None, Layer(small("glm"), 3, 9)),
        ("permllm", None, Layer(small("bert"), 3, 3)),
        ("mpcformer", None, Layer(small("bert"), 3, 5)),
        ("mpcformer", Settings(reuse_weight_masks=True), Layer(small("glm"), 3, 5)),
        ("puma", None, Layer(small("bert"), 3, 5)),
    ],
    ids=name_of,
)
def test_what_travels_is_fresh_and_uniform(
    name: str, options: Any, work: Workload, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A forgotten, constant or repeated mask or pad shows in what the roles send.

    The same input twice: no message repeats a value of another, and the sign bits of all of them are as
    good as fair coins.
    """
    sent: dict[tuple[str, str], list[Tensor]] = {}
    lock = threading.Lock()
    send = MemoryParty.send

    def listen(party: MemoryParty, to: Role, *tensors: Tensor) -> None:
        arguments = [t.reshape(-1).clone() for t in tensors if t.dtype in WORDS and t.numel() >= 50]
        with lock:
            sent.setdefault((party.role, to), []).extend(arguments)
        send(party, to, *tensors)

    monkeypatch.setattr(MemoryParty, "send", listen)
    play(system_class(name), work, options)
    for pair, messages in sent.items():
        values = torch.cat([message.double() for message in messages or [torch.empty(0)]])
        share = float((values < 0).double().mean()) if len(values) else 0.5
        assert abs(share - 0.5) <= 5 * 0.5 / max(1, len(values)) ** 0.5, pair
        assert len(set(values.tolist())) >= 0.999 * len(values), pair
