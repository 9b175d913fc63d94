"""The page's script predicts what `permbench replay` does, from the traces as the page holds them."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from baselines.puma.system import Puma
from harness.config.network import NetworkConfig
from harness.records import store
from harness.records.record import Record
from harness.replay import page_traces as page
from harness.replay import trace_file
from harness.replay.operation_times import Compute
from harness.replay.predict import Prediction, TracedRun, predict
from harness.replay.predicted_curves import TracedFolder
from harness.replay.trace import RoleTrace, Step, Times, Trace
from protocols.permllm.system import PermLLM
from protocols.system import System
from protocols.workload import Layer
from tests.many_records import long_trace, store_traced
from tests.node import under_node
from tests.play import small
from tests.traces import echo_trace, traced

MakeRecord = Callable[..., Record]
NETWORKS = [
    (rtt, rate) for rtt in (0.0, 0.3, 2.0, 10.0, 45.0, 300.0) for rate in (5.0, 1000.0, None)
]
KEYS = ("experiment=layer", "model=gpt2", "shaper=none", "trace=true")
ASK = """
const law = load("replay_law");
const runs = asked.runs.map(law.prepared);
console.log(JSON.stringify(runs.map((run) => asked.networks.map(([rttMs, rateMbit]) =>
  law.predicted(run, { rttMs, rateMbit }, asked.compute, asked.speeds)))));
"""
TIMELINE = """
const law = load("replay_law");
const run = law.prepared(asked.runs[0]);
console.log(JSON.stringify({ ...law.predicted(run, asked.network), ...law.timeline(run, 0, asked.network) }));
"""


def by_replay(trace: Trace, record: Record, compute: Compute, scale: float) -> Prediction:
    networks = [NetworkConfig("", "", rtt, rate) for rtt, rate in NETWORKS]
    return predict(TracedRun(record, trace, ""), networks, compute, scale)


def stored(record: Record, trace: Trace, folder: Path) -> Record:
    store.save(folder, record)
    trace_file.save(folder, replace(trace, record_id=record.id))
    return record


def noisy(trace: Trace, factor_of: Callable[[int], float]) -> Trace:
    """Whose evaluations differ: each takes so many times as long."""

    def of_role(role: RoleTrace) -> RoleTrace:
        factors = np.array([factor_of(e) for e in range(len(role.begin_ns))])[:, None]
        times = {
            name: (values * factors).astype(np.int64) for name, values in vars(role.times).items()
        }
        return replace(role, times=Times(**times))

    def of_step(step: Step) -> Step:
        return replace(step, roles={role: of_role(own) for role, own in step.roles.items()})

    delayed = tuple(replace(one, step=of_step(one.step)) for one in trace.delayed)
    return replace(trace, steps=tuple(map(of_step, trace.steps)), delayed=delayed)


@pytest.mark.parametrize("compute", page.COMPUTES)
@pytest.mark.parametrize("scale", [1.0, 2.5])
def test_the_script_predicts_as_replay(
    make_record: MakeRecord, tmp_path: Path, compute: Compute, scale: float
) -> None:
    """Within 0.1 %, over networks that favour each part, also between and beyond the traced delays."""
    trace = noisy(long_trace("", 3), lambda e: (1.0, 1.7, 1.2)[e])
    record = stored(make_record(KEYS), trace, tmp_path)
    found = page.page_traces([record], TracedFolder(tmp_path))
    asked = {
        "runs": found.runs,
        "networks": NETWORKS,
        "compute": compute,
        "speeds": dict.fromkeys(("P0", "P1", "P2"), 1 / scale),
    }
    (told,) = under_node(ASK, asked)
    wanted = by_replay(trace, record, compute, scale)
    for name in ("online", "low", "high", "latency", "bandwidth", "compute"):
        got, want = np.array([one[name] for one in told]), getattr(wanted, f"{name}_ns")
        assert np.abs(got - want).max() < 1e-3 * wanted.online_ns.min(), name


@pytest.mark.parametrize(("system", "compute"), [(Puma, "cpu"), (PermLLM, "wall")])
def test_the_script_predicts_real_systems(
    make_record: MakeRecord, tmp_path: Path, system: type[System], compute: Compute
) -> None:
    """Steps without messages between others, and three roles that all talk to each other. (Shares jump
    where two paths are equally long, so these are no matter of rounding.)"""
    trace = traced(system, Layer(small("gpt2"), 1, 4))[0]
    record = stored(make_record(KEYS), trace, tmp_path)
    found = page.page_traces([record], TracedFolder(tmp_path))
    (told,) = under_node(
        ASK, {"runs": found.runs, "networks": NETWORKS, "compute": compute, "speeds": {}}
    )
    wanted = by_replay(trace, record, compute, 1.0)
    assert [one["online"] for one in told] == pytest.approx(wanted.online_ns, rel=1e-3)


def test_the_timeline_is_the_evaluation(make_record: MakeRecord, tmp_path: Path) -> None:
    """Twelve arrows of a layer, each with its step's name; slices that leave no gap and do not overlap;
    together as long as what is predicted."""
    trace = traced(PermLLM, Layer(small("gpt2"), 1, 4))[0]
    record = stored(make_record(KEYS), replace(trace, delayed=()), tmp_path)
    runs = page.page_traces([record], TracedFolder(tmp_path)).runs
    asked = {"runs": runs, "network": {"rttMs": 10, "rateMbit": 100}}
    told = under_node(TIMELINE, asked)
    assert len(told["messages"]) == 12
    assert len({message["label"] for message in told["messages"]} - {""}) == 12
    for message in told["messages"]:
        assert message["end"] - message["start"] > 5_000_000
        assert message["bytes"] > 0
    for role in ("P0", "P1"):
        own = sorted((s["start"], s["end"]) for s in told["slices"] if s["role"] == role)
        assert all(end == pytest.approx(start) for (_, end), (start, _) in pairwise(own))
    assert told["end"] == pytest.approx(max(one["end"] for one in told["slices"]))
    assert told["low"] <= told["end"] <= told["high"]


def test_the_script_adds_a_generations_steps(make_record: MakeRecord, tmp_path: Path) -> None:
    plain = noisy(echo_trace("", 400, 2), lambda e: 1 + 0.1 * e)
    other = noisy(echo_trace("", 900, 5), lambda e: 1.5 - 0.2 * e)
    trace = replace(plain, steps=(plain.steps[0], other.steps[0], plain.steps[0]))
    record = stored(make_record(KEYS), trace, tmp_path)
    found = page.page_traces([record], TracedFolder(tmp_path))
    assert len(found.runs[0]["programs"]) == 2
    (told,) = under_node(
        ASK, {"runs": found.runs, "networks": NETWORKS, "compute": "wall", "speeds": {}}
    )
    wanted = by_replay(trace, record, "wall", 1.0).online_ns
    assert [one["online"] for one in told] == pytest.approx(wanted, rel=1e-3)


def test_a_speed_is_of_its_role_alone(make_record: MakeRecord, tmp_path: Path) -> None:
    """P1 alone computes between the messages, 280 µs of processor time a round."""
    record = stored(make_record(KEYS), echo_trace("", 700, 3), tmp_path)
    runs = page.page_traces([record], TracedFolder(tmp_path)).runs
    times = {}
    for role, speed in (("P0", 1), ("P0", 4), ("P1", 4)):
        asked = {"runs": runs, "networks": [(50, 1000)], "compute": "cpu", "speeds": {role: speed}}
        times[role, speed] = under_node(ASK, asked)[0][0]["online"]
    saved = {role: times["P0", 1] - times[role, 4] for role in ("P0", "P1")}
    assert saved["P1"] == pytest.approx(3 * 420_000 * 3 / 4, rel=0.1)
    assert saved["P0"] < saved["P1"] / 10


def test_where_fewer_evaluations_fit_the_middle_ones_stay(
    make_record: MakeRecord, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace = noisy(long_trace("", 20), lambda e: (3.0, 1.0, 1.1)[e])
    record = stored(make_record(KEYS), trace, tmp_path)
    whole = page.page_traces([record], TracedFolder(tmp_path))
    monkeypatch.setattr(page, "MOST_BYTES", len(json.dumps(whole.runs)) // 2)
    found = page.page_traces([record], TracedFolder(tmp_path))
    assert found.runs[0]["variants"][0]["steps"][0]["evaluations"] == 1
    (told,) = under_node(
        ASK, {"runs": found.runs, "networks": NETWORKS, "compute": "cpu", "speeds": {}}
    )
    wanted = by_replay(trace, record, "cpu", 1.0).online_ns
    assert [one["online"] for one in told] == pytest.approx(wanted, rel=0.01)
    monkeypatch.setattr(page, "MOST_BYTES", 100)
    none = page.page_traces([record], TracedFolder(tmp_path))
    assert (none.runs, len(none.left_out)) == ((), 1)
    assert record.id in none.left_out[0]


def test_measured_points_are_those_of_the_same_run(make_record: MakeRecord, tmp_path: Path) -> None:
    record = stored(make_record(KEYS), echo_trace("", 300, 2), tmp_path)
    shaped = [make_record([*KEYS[:2], f"network={name}"]) for name in ("permllm-wan", "puma")]
    others = [make_record([*KEYS[:2], "system=puma"]), make_record([*KEYS[:2], "threads=2"])]
    (run,) = page.page_traces([record, *shaped, *others], TracedFolder(tmp_path)).runs
    assert [(p["rtt_ms"], p["rate_mbit"], p["ns"]) for p in run["measured"]] == [
        (10.0, 1000.0, 31_000_000), (1.0, 5000.0, 31_000_000),
    ]  # fmt: skip


def test_a_broken_trace_is_left_out_and_named(make_record: MakeRecord, tmp_path: Path) -> None:
    record = stored(make_record(KEYS), echo_trace("", 300, 2), tmp_path)
    trace_file.path_of(tmp_path, record.id).write_bytes(b"no trace")
    found = page.page_traces([record], TracedFolder(tmp_path))
    assert (found.runs, len(found.left_out)) == ((), 1)
    assert page.turns([record], TracedFolder(tmp_path)) == []


def test_the_headline_says_where_the_order_turns(tmp_path: Path) -> None:
    """The second system's trace has more rounds, the third's as many but no less."""
    records = store_traced(tmp_path, 2)
    told = page.turns(records, TracedFolder(tmp_path))
    assert len(told) == 1
    assert told[0].startswith("One transformer layer (gpt2, q_len=1, kv_len=128), predicted by")
    assert "MPCFormer, weights opened once takes" in told[0]
    assert told[0].endswith("nowhere does the order turn.")


def test_runs_stand_by_work_layers_first(make_record: MakeRecord, tmp_path: Path) -> None:
    """Whatever is shorter: each knows with which it may be compared, and its name says what it does."""
    argmax = ("experiment=argmax", *KEYS[2:])
    keys = [
        (*argmax, "system=puma"),
        (*argmax, "system=permllm"),
        (*argmax, "system=permllm", "network=puma", "experiment.n=7"),
        (*KEYS, "system=puma", "network=permllm-wan2"),  # which is no matter of an unshaped run
        (*KEYS, "system=permllm"),
        ("experiment=linear", *KEYS[2:], "system=permllm"),
    ]
    for rounds, own in enumerate(keys, 2):
        stored(make_record(own), echo_trace("", 300, rounds), tmp_path)
    records = store.load_all(tmp_path)
    runs = page.page_traces(records, TracedFolder(tmp_path)).runs
    assert [(run["work"], run["label"]) for run in runs] == [
        (0, "layer: PermLLM"),
        (0, "layer: Puma"),
        (2, "argmax: PermLLM, n=1000"),
        (2, "argmax: Puma, n=1000"),
        (4, "argmax: PermLLM, n=7"),
        (5, "linear: PermLLM"),
    ]
    common = "layer: gpt2, q_len=1, kv_len=128; linear: n=1, d_in=4096, d_out=4096"
    assert {run["common"] for run in runs} == {common}


def unpacked(runs: Sequence[Any]) -> Any:
    script = 'console.log(JSON.stringify([...load("replay_law").unpacked(asked)]))'
    return under_node(script, runs)


def test_packed_times_keep_their_size() -> None:
    times = np.array([0.0, 1.0, 37.0, 4.5e5, 8.1e9, 3.0e13])
    assert unpacked(page.pack(times)) == pytest.approx(times, rel=3e-4)
