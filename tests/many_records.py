"""As many plausible records and traces as a page is asked for, made without running anything."""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from functools import cache
from itertools import count as count_from
from itertools import product
from pathlib import Path
from typing import Any

from harness.config.compose import compose_run
from harness.config.config_hash import config_hash, restored
from harness.records import store
from harness.records.record import NetworkRecord, Record
from harness.replay import trace_file
from harness.replay.trace import DelayedStep, Trace
from protocols.party import P0
from tests.harness.conftest import build_phases, build_record
from tests.traces import echo_trace

SYSTEMS = (
    ("system=permllm",),
    ("system=mpcformer", "system.reuse_weight_masks=true"),
    ("system=puma",),
    ("system=mpcformer",),
)
MODELS = ("tiny", "gpt2", "bert-base", "llama-2-7b", "chatglm-6b")
NETWORKS = ("permllm-wan", "permllm-wan2", "puma", "bolt-lan", "bolt-wan")
WHY = (
    "P1: killed by signal 9, as often where memory is short; the last line of its log was: no room"
)
Config = dict[str, Any]


def many_records(count: int) -> list[Record]:
    """Argmax, layers and functions of several sizes under several systems over several networks, then the
    same with more threads; every 25th failed."""
    made = []
    for number, config in zip(range(count), _configs(), strict=False):
        record = _record(config, number)
        if number % 25 == 24:
            record = replace(record, status="failed", error=WHY, phases={}, correctness=None)
        made.append(record)
    return made


def _record(config: Config, number: int) -> Record:
    run = restored(config)
    wall_ns = [(20 + number % 97) * 1_000_000 + 7_000 * i for i in range(10)]
    links = run.network.profiles(("P0", "P1"))
    profile = {f"{a}>{b}": vars(link) for (a, b), link in links.items()}
    return replace(
        _base(()),
        id=config_hash(run),
        config=config,
        network=NetworkRecord(run.network.name, profile, within_tolerance=number % 40 != 7),
        phases=build_phases(wall_ns, 100_000 + 1000 * number, 12 + number % 50),
    )


def _configs() -> Iterator[Config]:
    """Configurations without end, each put together from those of single options."""
    for threads in count_from(1):
        for experiment, model in _experiments():
            # Both forms of the last system are the same where there are no weights.
            systems = SYSTEMS if experiment["name"] == "layer" else SYSTEMS[:-1]
            for network, system in product(NETWORKS, systems):
                parts = {
                    "network": _base((f"network={network}",)).config["network"],
                    "system": _base(system).config["system"],
                    "model": _base((f"model={model}",)).config["model"],
                    "experiment": experiment,
                    "threads": threads,
                }
                yield deepcopy(_base(()).config | parts)


def _experiments() -> Iterator[tuple[Config, str]]:
    """With their models."""
    for model, q_len in product(MODELS, (1, 32)):
        yield {"name": "layer", "q_len": q_len, "kv_len": 128}, model
    for n in range(1, 21):
        yield {"name": "argmax", "n": 500 * n}, "tiny"
    for op, rows in product(("gelu", "softmax", "layernorm"), range(1, 11)):
        yield {"name": "nonlinear", "op": op, "shape": [8 * rows, 256]}, "tiny"


@cache
def _base(keys: tuple[str, ...]) -> Record:
    return build_record(keys)


def store_traced(folder: Path, count: int) -> list[Record]:
    """Traced runs of four systems with more and more threads, with their traces beside them. As long as
    those of a layer: from 12 messages to 200."""
    found = []
    for number in range(count):
        system = SYSTEMS[number % len(SYSTEMS)]
        keys = ["experiment=layer", "model=gpt2", *system, f"threads={1 + number // len(SYSTEMS)}"]
        config = compose_run([*keys, "shaper=none", "trace=true"])
        record = build_record([*keys, "shaper=none", "trace=true"])
        store.save(folder, record)
        trace_file.save(folder, long_trace(config_hash(config), (6, 38, 40, 100)[number % 4]))
        found.append(record)
    return found


def long_trace(record_id: str, rounds: int) -> Trace:
    """A trace with evaluations over delays, whose parties are slower there. Its steps have names."""
    plain = _named(echo_trace(record_id, 300, rounds))
    delayed = tuple(
        DelayedStep(delay_s, _named(echo_trace(record_id, 300 + extra, rounds)).steps[0])
        for delay_s, extra in ((0.2e-3, 20), (1.5e-3, 40), (6e-3, 60), (20e-3, 90))
    )
    return replace(plain, delayed=delayed)


def _named(trace: Trace) -> Trace:
    """Its messages come one after the other: both roles' operations of one place have one name."""
    (step,) = trace.steps
    labels = [_label(place) for place in range(len(step.roles[P0].labels) - 1)]
    roles = {role: replace(own, labels=(*labels, "")) for role, own in step.roles.items()}
    return replace(trace, steps=(replace(step, roles=roles),))


def _label(place: int) -> str:
    return f"layer/part {place // 2}/{('ask', 'answer')[place % 2]}"
