"""Every system on every experiment: the right answer at exactly the declared cost."""

import threading
from dataclasses import replace
from itertools import product
from typing import Any, get_args

import pytest
import torch
from torch import Tensor

from baselines.additive.options import Approx, Truncation
from baselines.fss.options import FssOptions
from baselines.he_linear.options import HeLinearOptions
from baselines.mpcformer.options import Settings
from baselines.plaintext.options import PlaintextOptions
from baselines.puma.options import Approx as PumaApprox
from baselines.puma.options import PumaOptions
from baselines.shaft.options import ShaftOptions
from harness.registry import OURS, WITH_EXTRAS, learns, system_class
from protocols.errors import Unsupported
from protocols.in_process_party import MemoryParty
from protocols.inputs import fed_tokens, prompt_tokens
from protocols.party import Role
from protocols.permllm import attention_tiles
from protocols.permllm.options import PermLLMOptions
from protocols.system import System
from protocols.workload import (
    Argmax,
    Attention,
    Bootstrapping,
    Generation,
    Layer,
    Linear,
    Nonlinear,
    NonlinearOp,
    Workload,
)
from tests.play import FAMILIES, SEED, declared, play, relative, small

# Relative rms against the system's own plaintext: of one experiment, of a whole model.
WITHIN = {
    "permllm": (1e-3, 3e-3),
    "mpcformer": (3e-4, 1e-3),
    "puma": (1e-4, 1e-3),
    "shaft": (3e-4, 1e-3),
    "shamir": (3e-4, 1e-3),
    "fss": (6e-3, 1.5e-2),
    "he_linear": (1e-3, 3e-3),
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
CKKS_MODEL = Generation(small("gpt2"), 3, 1)
DRAFTED = [Generation(small(family), 4, 2, drafted=3) for family in FAMILIES if family != "bert"]
ALL: list[Workload] = [*ROWS, *LAYERS, *MODELS, *DRAFTED]
ROWS_AND_GELU: tuple[NonlinearOp, ...] = ("gelu", "softmax", "layernorm")
REUSED = Settings("exact", reuse_weight_masks=True, truncation="exact")
APPROXIMATIONS = [
    Settings(*chosen) for chosen in product(get_args(Approx), (False, True), get_args(Truncation))
]
STAND_INS = [
    *[("mpcformer", Settings(which)) for which in get_args(Approx)],
    *[("puma", PumaOptions(which)) for which in get_args(PumaApprox)],
    *[("plaintext", PlaintextOptions(which)) for which in get_args(Approx)],
    *[("shaft", ShaftOptions(which, truncation="exact")) for which in ("exact", "fourier")],
]
STAND_IN_WORK: list[Workload] = [
    Layer(small("llama"), 2, 9),
    Layer(small("bert"), 5, 5),
    Generation(small("glm"), 4, 2),
    *[Nonlinear(op, (6, 33)) for op in ROWS_AND_GELU],
]
NARROW: list[Workload] = [Argmax(7), Layer(small("bert"), 5, 5), Nonlinear("gelu", (6, 33))]
# Scores near 0 have few bits, and their sum is divided by: a weight of ReLUs is as good as its scores.
COARSE, COARSE_WITHIN = ("quad+2relu", "friendly"), (2e-3, 1e-2)
LONG = [
    Layer(small("gpt2"), 7, 7),
    Layer(GROUPED, 5, 9),
    Generation(small("llama"), 9, 2),
    Generation(small("gpt2"), 9, 2, drafted=6),
    Generation(small("glm"), 9, 1),
    Generation(small("glm"), 9, 2, drafted=6),
]
CASES: list[tuple[str, Any, Workload]] = [
    *[(name, None, workload) for name in OURS for workload in ALL],
    *[("permllm", PermLLMOptions(domain="float32"), workload) for workload in ALL],
    *[
        ("permllm", PermLLMOptions(selection="ot"), workload)
        for workload in (*ROWS[:3], MODELS[0], MODELS[2], MODELS[3])
    ],
    *[
        ("permllm", PermLLMOptions(weight_bits=8), workload)
        for workload in (*ROWS[10:], *LAYERS[:4], LAYERS[-1], *MODELS, *DRAFTED)
    ],
    *[
        ("permllm", PermLLMOptions(variant="fused", selection=lookup), workload)
        for lookup in ("bfv", "ot")
        for workload in (*MODELS, Generation(small("gpt2"), 3, 1))
    ],
    *[
        ("he_linear", HeLinearOptions(precision=13, shuffle=True), workload)
        for workload in (*LAYERS, MODELS[2], MODELS[3], MODELS[5])
    ],
    *[
        ("he_linear", HeLinearOptions(scheme="ckks"), workload)
        for workload in (Linear(2, 33, 600), Layer(small("bert"), 2, 2), CKKS_MODEL)
    ],
    ("he_linear", HeLinearOptions(scheme="ckks", precision=13, shuffle=True), LAYERS[0]),
    *[("fss", FssOptions(ring_bits=bits), workload) for bits in (44, 64) for workload in NARROW],
    *[("mpcformer", REUSED, workload) for workload in ALL if not isinstance(workload, Argmax)],
    *[("mpcformer", chosen, Layer(small("glm"), 2, 9)) for chosen in APPROXIMATIONS],
    *[
        ("mpcformer", chosen, Nonlinear(op, (6, 33)))
        for chosen in APPROXIMATIONS
        for op in ROWS_AND_GELU
        if not chosen.reuse_weight_masks
    ],
    *[(name, chosen, workload) for name, chosen in STAND_INS for workload in STAND_IN_WORK],
    ("plaintext", None, Attention(2, 9, 8)),
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
    coarse = getattr(chosen, "approx", None) in COARSE
    one, whole = COARSE_WITHIN if coarse else WITHIN[name]
    for answers in played.answers:
        if isinstance(workload, Generation):
            check_generation(system, workload, chosen, answers, whole)
        elif isinstance(workload, Argmax):
            assert int(answers[0]) == int(system.plaintext(workload, SEED, chosen))
        else:
            assert relative(answers[0], system.plaintext(workload, SEED, chosen)) <= one
    assert played.cost == declared(system, workload, chosen)


@pytest.mark.parametrize("work", LONG, ids=name_of)
def test_tiles_of_a_long_prompt(work: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several tiles a layer: the right answer at the declared cost, in the hops of one tile, with fewer
    bytes. A prompt that sees all of itself has one; what follows it has several."""
    system = system_class("permllm")
    whole = declared(system, work)["online"]
    monkeypatch.setattr(attention_tiles, "TILE_SCORES", 80)
    tiled = declared(system, work)["online"]
    assert tiled.hops == whole.hops
    fewer = sum(tiled.payload_bytes.values()) < sum(whole.payload_bytes.values())
    drafted = isinstance(work, Generation) and bool(work.drafted)
    assert fewer == (work.spec.family != "glm" or drafted)
    test_answers_and_costs("permllm", None, work)
    if isinstance(work, Generation) and not drafted:
        test_answers_and_costs("permllm", PermLLMOptions(variant="fused"), work)


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
    for step, answer in enumerate(answers):
        drafted = answer.dim() == 2
        rows = answer if drafted else answer[None]
        right = model.verify(tokens) if drafted else model.step(tokens)[None]
        assert relative(rows[:, 1:], right) <= within
        picked = rows[:, 0].long().tolist()
        assert picked == right.argmax(-1).tolist()
        tokens = fed_tokens(work, step + 1, picked, SEED)
    assert drafted == bool(work.drafted)


def test_the_table_has_every_system_and_experiment() -> None:
    there = {(name, type(workload)) for name, _, workload in CASES}
    kinds = [kind for kind in get_args(Workload) if kind not in (Attention, Bootstrapping)]
    assert there == {*product(OURS, kinds), ("plaintext", Attention)}
    assert WITHIN.keys() == OURS.keys()


@pytest.mark.parametrize("name", [name for name in OURS if name != "plaintext"])
def test_attention_alone_is_refused(name: str) -> None:
    system = system_class(name)
    with pytest.raises(Unsupported, match="experiment=layer"):
        system.check(Attention(1, 9, 8), system.Options())


@pytest.mark.parametrize("name", OURS)
def test_tied_layers_cost_what_distinct_layers_cost(name: str) -> None:
    """But for what is sent of weights themselves: there tied layers travel once."""
    system = system_class(name)
    for family in FAMILIES:
        work = Generation(small(family), 3, 0 if family == "bert" else 2)
        costs = [declared(system, replace(work, tie_layers=tied)) for tied in (False, True)]
        prepared = [cost.pop("prepare") for cost in costs]
        assert costs[0] == costs[1]
        same = ("puma", "shamir", "fss", "he_linear")
        assert (prepared[0] == prepared[1]) == (name not in same)


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


def test_every_system_says_in_a_few_words_who_learns_what() -> None:
    for name in (*OURS, *WITH_EXTRAS):
        said = learns(name)
        assert said != System.learns
        assert 0 < len(said) <= 26
    assert learns("a package that is not here") == System.learns
