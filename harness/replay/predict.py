"""Predictions: what a traced run would take on other networks, and where two runs take equal time.

While a party waits for a far peer its caches and its core cool down: it notices the message late, and
its first work afterwards is slower; on a machine with fewer cores than parties it also meets others than
it would have met without the wait. A traced run is therefore evaluated a few times more, over
links that have a delay and nothing else (`harness.measure.collect_trace.DELAYS_S`). Each of these
is a trace with that slowness in it: a network whose delay lies between those of two traces takes
what lies between their predictions.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.config.network import NetworkConfig
from harness.records.record import Record
from harness.replay.compute_times import costs_of, delayed_costs
from harness.replay.operation_times import Compute
from harness.replay.simulate import BANDWIDTH, LATENCY, TIME, links_of, simulate
from harness.replay.trace import Floats, Trace, pairs_of

LEAST_S = 1e-4  # delays are compared evenly below this, and by their ratio above


@dataclass(frozen=True)
class TracedRun:
    """A record with its trace, and what to call it beside others."""

    record: Record
    trace: Trace
    label: str


@dataclass(frozen=True)
class Prediction:
    """Online time of one traced run, each array (networks,), in ns.

    online_ns: median over the traced evaluations; low_ns, high_ns: their range. latency_ns,
    bandwidth_ns: what of the median is delay, and what is serialization or waiting for a link to be
    free, on the critical path; the rest is the parties' own work.
    """

    traced_run: TracedRun
    online_ns: Floats
    low_ns: Floats
    high_ns: Floats
    latency_ns: Floats
    bandwidth_ns: Floats

    @property
    def compute_ns(self) -> Floats:
        """What of the median is the parties' own work."""
        return self.online_ns - self.latency_ns - self.bandwidth_ns


def predict(
    traced_run: TracedRun, networks: Sequence[NetworkConfig], compute: Compute, scale: float
) -> Prediction:
    """Simulate every evaluation on every network; a generation is the sum of its steps."""
    trace = traced_run.trace
    profiles = [config.profiles(trace.online_roles, trace.roles) for config in networks]
    lines = links_of(profiles)
    costs = costs_of(trace, compute, scale)
    steps = [simulate(*step, lines) for step in zip(trace.steps, costs, strict=True)]
    found = [_summary(np.sum(steps, axis=0))]
    for delayed_step in trace.delayed:
        found.append(
            _summary(
                simulate(
                    delayed_step.step,
                    delayed_costs(delayed_step, trace.steps[0], compute, scale),
                    lines,
                )
            )
        )
    known_s = [0.0, *(delayed_step.delay_s for delayed_step in trace.delayed)]
    used = pairs_of(trace.steps)
    asked_s = [max((links[pair].delay_s for pair in used), default=0.0) for links in profiles]
    return Prediction(traced_run, *_between(known_s, np.stack(found), asked_s))


def _between(known_s: Sequence[float], found: Floats, asked_s: Sequence[float]) -> Floats:
    """What lies between the values at two delays, evenly over ln(1 + delay / `LEAST_S`); beyond the
    last it is the last. found: (delays, quantities, networks), whose networks have the delays asked_s."""
    known, asked = (np.log1p(np.divide(delays, LEAST_S)) for delays in (known_s, asked_s))
    return np.stack(
        [
            [
                np.interp(place, known, values)
                for place, values in zip(asked, columns.T, strict=True)
            ]
            for columns in found.transpose(1, 0, 2)
        ]
    )


def _summary(parts: Floats) -> Floats:
    """Median, least and most time, latency and bandwidth of a simulation, (5, networks)."""
    times = parts[TIME]
    # The parts of an even number's median are those of the evaluation just below it.
    middle = np.argsort(times, axis=0, kind="stable")[(len(times) - 1) // 2]
    chosen = np.take_along_axis(parts, middle[None, None], axis=1)[:, 0]
    median = np.median(times, axis=0)
    shares = chosen / np.where(chosen[TIME] > 0, chosen[TIME], 1.0)
    low, high = times.min(axis=0), times.max(axis=0)
    return np.stack([median, low, high, shares[LATENCY] * median, shares[BANDWIDTH] * median])


def fastest(predictions: Sequence[Prediction]) -> list[int]:
    """For each network the place of the prediction with the least time."""
    times = np.stack([prediction.online_ns for prediction in predictions])
    return [int(place) for place in times.argmin(axis=0)]


def crossings(x: Sequence[float], a_ns: Floats, b_ns: Floats) -> list[float]:
    """Where along `x` two times are equal, by interpolation of the ratio's logarithm over log x
    (over x itself where it reaches 0)."""
    place = np.log(x) if min(x) > 0 else np.asarray(x, float)
    ratio = np.log(a_ns / b_ns)
    found = []
    for i in range(len(x) - 1):
        if ratio[i] == 0 or ratio[i] * ratio[i + 1] < 0:
            part = ratio[i] / (ratio[i] - ratio[i + 1]) if ratio[i] != ratio[i + 1] else 0.0
            at = place[i] + part * (place[i + 1] - place[i])
            found.append(float(np.exp(at) if min(x) > 0 else at))
    return found
