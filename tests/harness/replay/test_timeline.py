"""Timelines: what a trace viewer gets of a measured and of a predicted evaluation."""

import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.cli.main import main
from harness.config.compose import compose_run
from harness.parties.trace_recorder import END, NOBODY, RECV, SEND
from harness.records import store
from harness.records.record import Record
from harness.replay import trace_file
from harness.replay.compute_times import costs_of
from harness.replay.simulate import TIME, links_of, simulate
from harness.replay.timeline import Timeline, end_ns, measured, predicted
from harness.replay.timeline_events import IN_FLIGHT, NETWORK, chrome_trace
from harness.replay.trace import DelayedStep, RoleTrace, Step, Trace, check
from protocols.party import P0, P1, Role
from protocols.permllm.system import PermLLM
from protocols.workload import Layer
from tests.play import small
from tests.traces import MS, US, echo_trace, program, traced

MakeRecord = Callable[..., Record]
STEPS = ("norm1", "scores", "softmax", "sum", "norm2", "activation")  # of a layer, with messages
WAN = compose_run(["network=permllm-wan"]).network  # 10 ms, 1 Gbit/s


@pytest.fixture(scope="module")
def layer() -> Trace:
    """Of one decode step of a layer."""
    return traced(PermLLM, Layer(small("gpt2"), 1, 4))[0]


def timelines(trace: Trace) -> list[Timeline]:
    """As it was, and as it would be, over a real network and over none with idle parties."""
    nothing = compose_run(["network=loopback"]).network
    return [
        measured(trace, 0),
        predicted(trace, 0, WAN, "cpu", 1.0),
        predicted(trace, 0, nothing, "cpu", 0.0),
    ]


def events_of(timeline: Timeline) -> list[dict[str, Any]]:
    """After a way through JSON."""
    events: list[dict[str, Any]] = json.loads(json.dumps(chrome_trace(timeline, {})))["traceEvents"]
    return events


@pytest.mark.parametrize("which", range(3), ids=["measured", "predicted", "nothing takes time"])
def test_a_layer_has_twelve_arrows_with_names(layer: Trace, which: int) -> None:
    """Every flow leaves one role's send and enters the other's receive, which is not earlier."""
    ends = defaultdict[str, list[dict[str, Any]]](list)
    for event in events_of(timelines(layer)[which]):
        if "bind_id" in event:
            ends[event["bind_id"]].append(event)
    assert len(ends) == 12
    names = set()
    for pair in ends.values():
        send, receive = sorted(pair, key=lambda event: "flow_in" in event)
        assert (send.get("flow_out"), receive.get("flow_in")) == (True, True)
        assert len(send.keys() | receive.keys()) == len(send) + 1
        assert (send["cat"], receive["cat"]) == ("send", "receive")
        assert send["pid"] == 1 - receive["pid"]
        assert send["ts"] <= receive["ts"]
        assert send["args"] == receive["args"]
        assert send["args"]["wire_bytes"] > 0
        names.add(send["args"]["step"])
    assert len(names) == 12
    assert {name.split("/")[1] for name in names} == set(STEPS)


@pytest.mark.parametrize("which", range(3), ids=["measured", "predicted", "nothing takes time"])
def test_no_slices_of_one_thread_overlap_and_none_is_missing(layer: Trace, which: int) -> None:
    timeline = timelines(layer)[which]
    threads = defaultdict[tuple[int, int], list[dict[str, Any]]](list)
    for event in events_of(timeline):
        if event["ph"] == "X":
            threads[event["pid"], event["tid"]].append(event)
    assert threads.keys() == {(0, 0), (1, 1)}  # the dealer is not there
    for slices in threads.values():
        for one, after in pairwise(slices):
            assert one["ts"] + one["dur"] == pytest.approx(after["ts"], abs=1e-4)
            assert after["dur"] >= 0
    for role in (P0, P1):
        own = [made for made in timeline.slices if made.role == role]
        assert all(one.end_ns == after.start_ns for one, after in pairwise(own))


@pytest.mark.parametrize("which", range(2), ids=["measured", "predicted"])
def test_messages_under_way_begin_and_end_and_so_does_the_counter(layer: Trace, which: int) -> None:
    events = [e for e in events_of(timelines(layer)[which]) if e["pid"] == NETWORK]
    spans = defaultdict[str, list[dict[str, Any]]](list)
    for event in events:
        if event["ph"] in "be":
            spans[event["id"]].append(event)
    assert len(spans) == 12
    for begin, end in spans.values():
        assert (begin["ph"], end["ph"], begin["name"]) == ("b", "e", end["name"])
        assert begin["name"].startswith(("P0→P1 layer/", "P1→P0 layer/"))
        assert begin["ts"] <= end["ts"]
    counts = [event["args"] for event in events if event["ph"] == "C"]
    assert {event["name"] for event in events if event["ph"] == "C"} == {IN_FLIGHT}
    assert len(counts) == 24
    assert counts[0] != counts[-1] == {"P0→P1": 0, "P1→P0": 0}
    assert min(min(each.values()) for each in counts) >= 0


def test_a_predicted_timeline_is_the_simulation(layer: Trace) -> None:
    """It ends when the simulation does, and every message is under way for the delay and more."""
    plain = replace(layer, delayed=())
    profiles = WAN.profiles(plain.online_roles)
    (costs,) = costs_of(plain, "cpu", 1.0)
    total = simulate(plain.steps[0], costs, links_of([profiles]))[TIME, :, 0]
    timeline = predicted(plain, 0, WAN, "cpu", 1.0)
    assert end_ns(timeline) == pytest.approx(sorted(total)[(len(total) - 1) // 2], abs=1)
    assert all(m.arrived_ns - m.sent_ns >= 5 * MS for m in timeline.messages)


def test_a_prediction_is_of_the_evaluations_over_the_nearest_delay() -> None:
    """P1 computes 700 µs, and 900 over a link of 4 ms."""
    slow = DelayedStep(4e-3, echo_trace("x", 900).steps[0])
    trace = replace(echo_trace("x"), delayed=(slow,))
    for rtt_ms, computes_us in ((2, 700), (6, 900), (100, 900)):
        network = compose_run([f"network.rtt_ms={rtt_ms}", "network.rate_mbit=null"]).network
        made = predicted(trace, 0, network, "wall", 1.0).slices
        computed = [m.end_ns - m.start_ns for m in made if (m.role, m.kind) == (P1, "compute")]
        assert computed == [computes_us * US]


def test_a_measured_timeline_by_hand() -> None:
    """Of the echo: a send of 10 µs, a wait, and 6 µs in which what had come was taken."""
    timeline = measured(echo_trace("x"), 0)
    made = [(s.kind, s.start_ns // US, s.end_ns // US) for s in timeline.slices if s.role == P0]
    assert made == [
        *(("compute", 20, 25), ("send", 25, 35)),
        *(("wait", 35, 919), ("receive", 919, 925)),
    ]
    first, second = timeline.messages
    assert (first.sent_ns, first.arrived_ns, first.wire_bytes) == (25 * US, 119 * US, 1_000_000)
    assert (second.source, second.sent_ns, second.arrived_ns) == (P1, 825 * US, 919 * US)


def test_what_is_sent_first_is_received_first() -> None:
    """Two messages are under way at once: each arrow keeps its name, its size and its ends."""
    names = ("first", "second", "answer", "")
    end = (END, NOBODY, 0, [0, 0], [0, 0])
    sends = [(SEND, 1, size, [5, 5], [10, 10]) for size in (10, 2000)]
    receives = [(RECV, 0, 10, [0, 0], [95, 6]), (RECV, 0, 2000, [0, 0], [20, 6])]
    roles: dict[Role, RoleTrace] = {
        P0: program([20 * US] * 3, *sends, (RECV, 1, 8, [0, 0], [295, 6]), end),
        P1: program([30 * US] * 3, *receives, (SEND, 0, 8, [100, 60], [10, 10]), end),
    }
    named = {role: replace(own, labels=names) for role, own in roles.items()}
    step = Step(np.zeros(3, np.int64), named)
    timeline = measured(check(Trace("x", (P0, P1), False, (step,))), 0)
    assert [(m.label, m.wire_bytes) for m in timeline.messages] == [
        *(("first", 10), ("second", 2000), ("answer", 8)),
    ]
    for kind, role in (("send", P0), ("receive", P1)):
        made = [(s.label, s.message) for s in timeline.slices if (s.kind, s.role) == (kind, role)]
        assert made == [("first", 0), ("second", 1)]


def test_the_evaluation_in_the_middle_is_shown() -> None:
    trace = echo_trace("x")
    (step,) = trace.steps
    waits = step.roles[P0].times.during_wall.copy()
    waits[:, 1] += np.array([5, 0, 9]) * MS
    slower = replace(step.roles[P0], times=replace(step.roles[P0].times, during_wall=waits))
    changed = replace(step, roles={**step.roles, P0: slower})
    shown = measured(replace(trace, steps=(changed,)), 0)
    assert end_ns(shown) == 5 * MS + 925 * US


@pytest.fixture
def stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_record: MakeRecord) -> Record:
    """A record with a trace of two steps."""
    monkeypatch.chdir(tmp_path)
    record = make_record(["trace=true", "shaper=none"])
    store.save(Path("results/runs"), record)
    trace = echo_trace(record.id)
    longer = echo_trace(record.id, rounds=2)
    trace_file.save(Path("results/runs"), replace(trace, steps=(*trace.steps, *longer.steps)))
    return record


@pytest.mark.parametrize(
    ("arguments", "where", "arrows"),
    [
        ([], "results/runs/traces/timelines/{id}-step2.json", 4),
        (["--step", "1", "--output", "new/t.json"], "new/t.json", 2),
        (["--network", "puma"], "results/runs/traces/timelines/{id}-step2-puma.json", 4),
        (
            ["--network", "puma", "network.rtt_ms=40", "compute=wall", "--output", "t.json"],
            "t.json",
            4,
        ),
    ],
)
def test_the_verb_writes_a_file(
    arguments: list[str],
    where: str,
    arrows: int,
    stored: Record,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for _ in range(2):  # a second time it replaces what was there
        assert main(["timeline", stored.id[:6], *arguments]) == 0
    path = Path(where.format(id=stored.id))
    assert capsys.readouterr().out.startswith(f"{path}: permllm argmax")
    found = json.loads(path.read_text())
    assert found["otherData"]["predicted"] is ("--network" in arguments)
    assert sum("flow_out" in event for event in found["traceEvents"]) == arrows
    assert [p.name for p in path.parent.iterdir() if p.is_file() and p.name[0] == "."] == []
    assert store.load_all(Path("results/runs")) == [stored]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ([], "timeline: needs one RECORD"),
        (["a" * 16, "b" * 16], "timeline: needs one RECORD"),
        (["0123456789abcdef"], "0123456789abcdef: begins no id"),
        (["ID", "--step", "3"], "--step: got 3, must be 1 to 2"),
        (["ID", "--step", "0"], "--step: got 0, must be 1 to 2"),
        (["ID", "--step", "x"], "command line: argument --step: invalid int value: 'x'"),
        (["ID", "system=puma"], "system=puma: timeline takes one RECORD and no filters"),
        (["ID", "rtt_ms=3"], "rtt_ms: write --network NAME"),
        (["ID", "network.rtt_ms=3"], "network.rtt_ms=3: is of a predicted timeline"),
        (["ID", "compute=wall"], "compute: is of a predicted timeline"),
        (["ID", "--network", "pma"], "network: "),
        (["ID", "--network", "puma", "network.loss=0.1"], "network.loss: "),
        (["ID", "--network", "puma", "compute=gpu"], "compute: got gpu"),
        (["ID", "--output", "results"], "--output: results: "),
    ],
)
def test_bad_input_is_told_in_one_line_and_nothing_written(
    arguments: Sequence[str], problem: str, stored: Record, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(Path().rglob("*"))
    assert main(["timeline", *(stored.id if a == "ID" else a for a in arguments)]) == 2
    output = capsys.readouterr()
    assert output.err.startswith(f"permbench: {problem}"), output.err
    assert output.err.count("\n") == 1
    assert output.out == ""
    assert sorted(Path().rglob("*")) == before
