"""What a trace would take on other networks, by hand; axes, and where two traces take equal time."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from harness.config.compose import compose_run
from harness.errors import ConfigError
from harness.records.record import Record
from harness.replay.compute_times import costs_of, delayed_costs
from harness.replay.networks import grid, parse_axis
from harness.replay.predict import LEAST_S, TracedRun, crossings, predict
from harness.replay.prediction_tables import crossing_lines
from harness.replay.trace import DelayedStep, Step, Trace, check
from protocols.party import P0, P1
from tests.traces import MS, US, echo_trace

MakeRecord = Callable[..., Record]


def test_a_network_between_two_traces_takes_what_lies_between(make_record: MakeRecord) -> None:
    """P1 computes 700 µs in the trace, and 900 over a link of 4 ms, where the answer takes 50 µs longer.

    Over that very link both take what was traced, and on longer ones no more of their own.
    """
    plain = echo_trace("x")
    slow = echo_trace("x", 900).steps[0].roles
    walls = {role: slow[role].times.during_wall.copy() for role in slow}
    walls[P1][:, 0] += 4_000 * US
    walls[P0][:, 1] += (8_000 + 50) * US
    programs = {
        r: replace(p, times=replace(p.times, during_wall=walls[r])) for r, p in slow.items()
    }
    delayed_step = DelayedStep(4e-3, Step(np.zeros(3, np.int64), programs))
    trace = check(replace(plain, delayed=(delayed_step,)))
    (costs,) = costs_of(trace, "wall", 1.0)
    delayed = delayed_costs(delayed_step, plain.steps[0], "wall", 1.0)
    assert (costs[P1].handling[1, 0], delayed[P1].handling[1, 0]) == (100 * US, 150 * US)
    assert delayed_costs(delayed_step, plain.steps[0], "cpu", 1.0)[P1].handling[1, 0] == 16 * US

    def took(rtt_ms: float) -> float:
        arguments = (f"network.rtt_ms={rtt_ms}", "network.rate_mbit=null")
        return prediction_of(make_record(), trace, *arguments)[0]

    assert took(0) == 925 * US  # the trace itself
    assert took(8) == 8 * MS + (25 + 900 + 250) * US
    assert took(200) == 200 * MS + (25 + 900 + 250) * US
    half = np.expm1(np.log1p(4e-3 / LEAST_S) / 2) * LEAST_S
    own = took(2 * half * 1e3) - 2 * half * 1e9
    assert own == pytest.approx((25 + (900 + 1150) / 2) * US, abs=2)


def test_crossings_of_unlike_traces_are_marked(make_record: MakeRecord) -> None:
    record = make_record()
    other = replace(record, environment={**record.environment, "cpu_model": "Xeon"})
    networks = grid([], [], "1..10:3", None)
    for second, mark in ((record, ""), (other, " * (machine differs)")):
        pair = [
            predict(TracedRun(r, echo_trace("x", us), "x"), networks.configs, "wall", 1.0)
            for r, us in ((record, 700), (second, 900))
        ]
        (line,) = crossing_lines(pair, networks)
        assert line == f"A and B cross nowhere here: A is faster than B{mark}"


def prediction_of(record: Record, trace: Trace, *overrides: str) -> list[float]:
    config = compose_run(overrides).network
    found = predict(TracedRun(record, trace, "x"), [config], "wall", 1.0)
    parts = found.online_ns, found.latency_ns, found.bandwidth_ns, found.compute_ns
    assert found.low_ns == found.high_ns == found.online_ns
    return [round(float(part[0])) for part in parts]


def test_a_prediction_by_hand(make_record: MakeRecord) -> None:
    """25 µs to the send, 8 ms + 2 ms on the link, 700 µs, 64 ns + 2 ms back; twice 100 µs of handling."""
    found = prediction_of(make_record(), echo_trace("x"), "network.rtt_ms=4")
    assert found == [12_925_064, 4 * MS, 8_000_064, 925 * US]
    # Unlimited: what the machine's own sockets take, which is compute.
    assert prediction_of(make_record(), echo_trace("x"), "network=loopback") == [
        925 * US,
        0,
        0,
        925 * US,
    ]


def test_shares_are_those_of_the_median_evaluation(make_record: MakeRecord) -> None:
    """Three evaluations that compute for 0.1, 0.7 and 9 ms; two messages take 16 µs of CPU time each."""
    trace = echo_trace("x")
    program = trace.steps[0].roles[P1]
    before = program.times.before_wall.copy()
    before[:, 1] = [9 * MS, 100 * US, 700 * US]
    changed = replace(program, times=replace(program.times, before_wall=before))
    programs = {**trace.steps[0].roles, P1: changed}
    trace = replace(trace, shaped=True, steps=(Step(np.zeros(3, np.int64), programs),))
    network = compose_run(["network.rtt_ms=4", "network.rate_mbit=null"]).network
    found = predict(TracedRun(make_record(), trace, "x"), [network], "wall", 1.0)
    times = [found.low_ns[0], found.online_ns[0], found.high_ns[0]]
    assert times == pytest.approx([4 * MS + c for c in (157 * US, 757 * US, 9 * MS + 57 * US)])
    assert (found.latency_ns[0], found.compute_ns[0]) == pytest.approx((4 * MS, 757 * US))


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("5", (5.0,)),
        ("100,1,10", (1.0, 10.0, 100.0)),
        ("0..1:3", (0.0, 0.5, 1.0)),
        ("1..100:log3", (1.0, 10.0, 100.0)),
        ("0.5..8:log3", (0.5, 2.0, 8.0)),
    ],
)
def test_axes(text: str, values: tuple[float, ...]) -> None:
    assert parse_axis("rtt_ms", text) == pytest.approx(values)


@pytest.mark.parametrize(
    "text", ["", "a", "1,1", "1..5", "5..1:3", "0..5:log3", "1..5:1", "1..inf:3", "nan"]
)
def test_bad_axes_name_the_key(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^rtt_ms: got .* must be numbers such as"):
        parse_axis("rtt_ms", text)


def test_crossings_interpolate_logarithms() -> None:
    x = [1.0, 10.0, 100.0]
    a, b = np.array([1.0, 1.0, 1.0]), np.array([0.5, 0.5, 2.0])
    assert crossings(x, a, b) == pytest.approx([10 * 10**0.5])
    assert crossings(x, a, a * 2) == []
    assert crossings([0.0, 10.0], np.array([1.0, 1.0]), np.array([0.5, 2.0])) == pytest.approx([5])


def test_a_link_that_nobody_uses_online_does_not_make_parties_slow(make_record: MakeRecord) -> None:
    """A far dealer."""
    plain = echo_trace("x")
    delayed_step = DelayedStep(4e-3, echo_trace("x", 900).steps[0])
    trace = check(replace(plain, delayed=(delayed_step,)))
    near = prediction_of(make_record(), trace, "network.rtt_ms=1")
    far = prediction_of(make_record(), trace, "network.rtt_ms=1", "network.dealer.rtt_ms=80")
    assert near == far
