"""Traces of runs with more than three roles: stored, replayed here and in the page, drawn as a timeline."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from harness.config.compose import compose_run
from harness.errors import ConfigError
from harness.parties.trace_recorder import SEND
from harness.records import store
from harness.records.record import Record
from harness.replay import page_traces as page
from harness.replay import trace_file
from harness.replay.predict import TracedRun, predict
from harness.replay.predicted_curves import TracedFolder
from harness.replay.timeline import predicted, roles_of
from harness.replay.timeline_events import chrome_trace
from harness.replay.trace import Trace, operations
from protocols.party import ALL_ROLES
from protocols.workload import Argmax
from tests.king import King, KingOptions
from tests.node import under_node
from tests.traces import traced

MakeRecord = Callable[..., Record]
MS = 1_000_000
KEYS = ("experiment=argmax", "shaper=none", "trace=true")
ASK = """
const law = load("replay_law");
const run = law.prepared(asked.runs[0]);
console.log(JSON.stringify({
  roles: run.roles, ...law.predicted(run, asked.network),
  messages: law.timeline(run, 0, asked.network).messages,
}));
"""


@pytest.fixture(scope="module")
def sixteen() -> Trace:
    trace, hops = traced(King, Argmax(5), KingOptions(16))
    assert hops == 2
    return trace


def test_a_stored_trace_has_all_roles_in_order(sixteen: Trace, tmp_path: Path) -> None:
    trace_file.save(tmp_path, sixteen)
    again = trace_file.load(tmp_path, sixteen.record_id)
    assert again.roles == sixteen.roles == ALL_ROLES
    assert again.online_roles == ALL_ROLES[:15]
    king = again.steps[0].roles["P0"]
    assert [len(operations(king, role, SEND)) for role in ALL_ROLES] == [0, *[1] * 14, 0]


def test_a_replay_knows_the_link_of_every_pair(sixteen: Trace, make_record: MakeRecord) -> None:
    """The sum goes to the king and back over the longest of the links that it takes."""
    run = TracedRun(make_record(KEYS), replace(sixteen, delayed=()), "")
    slow = [
        "network=loopback",
        "network.links.P12_P0.delay_ms=40",
        "network.links.P12_P0.rate_mbit=null",
    ]
    networks = [compose_run(words).network for words in (["network=ring"], slow, slow[:1])]
    ring_ns, slow_ns, none_ns = predict(run, networks, "cpu", 1.0).online_ns
    assert 120 * MS <= ring_ns < 130 * MS  # P0 and P2 are across the ring
    assert 40 * MS <= slow_ns < 50 * MS
    assert none_ns < 10 * MS
    absent = traced(King, Argmax(5), KingOptions(12))[0]
    with pytest.raises(ConfigError, match=r"^network\.links\.P12>P0: there is no P12 in this run"):
        predict(TracedRun(run.record, absent, ""), networks, "cpu", 1.0)


def test_the_page_predicts_and_draws_them(
    sixteen: Trace, make_record: MakeRecord, tmp_path: Path
) -> None:
    record = make_record(KEYS)
    store.save(tmp_path, record)
    trace_file.save(tmp_path, replace(sixteen, record_id=record.id))
    runs = page.page_traces([record], TracedFolder(tmp_path)).runs
    told = under_node(ASK, {"runs": runs, "network": {"rttMs": 30, "rateMbit": 100}})
    network = compose_run(["network.rtt_ms=30", "network.rate_mbit=100"]).network
    (wanted,) = predict(TracedRun(record, sixteen, ""), [network], "cpu", 1.0).online_ns
    assert told["online"] == pytest.approx(wanted, rel=1e-3)
    assert told["roles"] == list(ALL_ROLES)
    ends = {(message["from"], message["to"]) for message in told["messages"]}
    assert ends == {pair for role in ALL_ROLES[1:15] for pair in ((role, "P0"), ("P0", role))}


def test_a_timeline_has_a_lane_for_each(sixteen: Trace) -> None:
    timeline = predicted(sixteen, 0, compose_run(["network=far-client"]).network, "cpu", 1.0)
    assert roles_of(timeline) == list(ALL_ROLES[:15])
    events = chrome_trace(timeline, {})["traceEvents"]
    names = {e["pid"]: e["args"]["name"] for e in events if e["name"] == "process_name"}
    assert names == {**dict(enumerate(ALL_ROLES[:15])), 16: "network"}
