"""Traced runs as plain data for the page, whose script predicts by the law of `simulate`.

Times are packed: 16 bits each, 0 for nothing and else the place of a logarithm, which is exact to
0.03 %; all of one step and one reading of the trace in one text of base64. Order: role after role,
each the begins, (evaluations,), then for each evaluation `before` and `during` of all operations and
`transport` and `handling` of the sends.
"""

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.config.network import NetworkConfig
from harness.errors import ConfigError
from harness.parties.trace_recorder import SEND
from harness.records import selection
from harness.records.query import experiment, phase_spread
from harness.records.record import Record
from harness.records.stats import digits, format_rate
from harness.replay.compute_times import Costs, costs_of, delayed_costs
from harness.replay.operation_times import Compute
from harness.replay.predict import crossings, predict
from harness.replay.predicted_curves import TracedFolder, run_key
from harness.replay.simulate import TIME, links_of, simulate
from harness.replay.trace import Floats, RoleTrace, Step, Trace, pairs_of
from harness.report.comparison import Circumstances, circumstances, references
from harness.report.labels import labels
from harness.report.page.headline import Contest, contests, place_of
from harness.report.series import TITLES
from harness.report.styles import line_styles, rank_of, system_of
from protocols.party import Role

COMPUTES: tuple[Compute, ...] = ("cpu", "wall")
LEAST_NS, STEPS_PER_E = (
    0.5,
    1900.0,
)  # a packed p > 0 is LEAST_NS · e^(p / STEPS_PER_E), up to 8 days
MOST_BYTES = 1_000_000  # of all packed times together
EVALUATIONS = (99, 9, 5, 3, 1)  # of each step that are kept: as many as fit
MOST_TRACES = 20
MIDDLE = NetworkConfig("", "", 10.0, 1000.0)  # the network whose median evaluations are kept
TURN_RTTS = (0.1, 0.5, 2.0, 5.0, 10.0, 20.0, 50.0, 200.0)  # ms
TURN_RATES = (10.0, 100.0, 1000.0, 10000.0)  # Mbit/s
Packed = dict[str, Any]


@dataclass(frozen=True)
class PageTraces:
    """runs: one for each trace. left_out: why others are not there, a line each."""

    runs: tuple[Packed, ...]
    left_out: tuple[str, ...] = ()


def page_traces(records: Sequence[Record], traced: TracedFolder) -> PageTraces:
    """The traces of those of `records` that have one which can be read, as many as fit."""
    handles = {selection.handle(record) for record in records}
    found: list[tuple[Record, Trace]] = []
    left_out: list[str] = []
    for record in (r for r in traced.records.values() if selection.handle(r) in handles):
        try:
            found.append((record, traced.run(record).trace))
        except ConfigError as error:
            left_out.append(str(error))
    found.sort(key=lambda pair: _numbers(pair[1], 1))
    kept, evaluations = _fitting(found)
    left_out += [
        f"{record.id}: too many messages for the page; permbench replay {record.id} predicts it"
        for record, _ in found[len(kept) :]
    ]
    return PageTraces(tuple(_runs(kept, records, evaluations)), tuple(left_out))


def _fitting(found: Sequence[tuple[Record, Trace]]) -> tuple[Sequence[tuple[Record, Trace]], int]:
    """The shortest traces that fit, and how many evaluations of each."""
    for count in range(min(len(found), MOST_TRACES), 0, -1):
        for evaluations in EVALUATIONS:
            sizes = (_numbers(trace, evaluations) for _, trace in found[:count])
            if sum(sizes) * 2 * 4 / 3 <= MOST_BYTES:
                return found[:count], evaluations
    return [], 0


def _numbers(trace: Trace, evaluations: int) -> int:
    """How many packed times a trace has."""
    steps = [*trace.steps, *(delayed.step for delayed in trace.delayed)]
    return len(COMPUTES) * sum(
        min(evaluations, len(role.begin_ns)) * (1 + 2 * len(role.kind) + 2 * _sends(role))
        for step in steps
        for role in step.roles.values()
    )


def _sends(role: RoleTrace) -> int:
    return int((role.kind == SEND).sum())


def _runs(
    kept: Sequence[tuple[Record, Trace]], records: Sequence[Record], evaluations: int
) -> Iterable[Packed]:
    """Work by work, those of the headline's first experiment first; in each the systems in their order."""
    if not kept:
        return
    ordered = sorted(kept, key=lambda pair: _place(pair[0]))
    traced = [record for record, _ in ordered]
    names, common = _named(traced)
    styles = line_styles([system_of(record) for record in traced])
    machines = [selection.machine_key(record) for record in traced]
    measured = _measured(records)
    codes = [selection.code_key(record) for record in traced]
    works = [_work(record) for record in traced]
    for (record, trace), name, style in zip(ordered, names, styles, strict=True):
        yield {
            "id": record.id,
            "label": name,
            "common": common,
            "work": works.index(_work(record)),
            "colour": style.colour,
            "marker": style.marker,
            "machine": machines.index(selection.machine_key(record)),
            "code": codes.index(selection.code_key(record)),
            "measured": measured.get(run_key(record), []),
            **_packed(trace, evaluations),
        }


def _place(record: Record) -> tuple[object, ...]:
    return place_of(experiment(record)), _work(record), rank_of(system_of(record)), record.id


def _work(record: Record) -> Circumstances:
    """All that systems have in common which do the same."""
    return [(key, value) for key, value in circumstances(record) if not _of_link(key)]


def _of_link(key: str) -> bool:
    return key.startswith(("network.", "shaper."))


def _named(traced: Sequence[Record]) -> tuple[list[str], str]:
    """What to call runs whose network does not matter, and what they have in common; by experiment,
    where there are several. The records stand by experiment."""
    groups = {
        experiment(one): [r for r in traced if experiment(r) == experiment(one)] for one in traced
    }
    found = {name: labels(group, _of_link) for name, group in groups.items()}
    if len(found) == 1:
        return next(iter(found.values()))
    names = [f"{name}: {label}" for name, (own, _) in found.items() for label in own]
    return names, "; ".join(f"{name}: {common}" for name, (_, common) in found.items() if common)


def _measured(records: Sequence[Record]) -> dict[str, list[dict[str, Any]]]:
    """By `run_key`, where a run was measured over a shaped link: RTT, rate, and its median in ns."""
    found: dict[str, list[dict[str, Any]]] = {}
    for record in records:
        times, network = phase_spread(record, "online"), record.config["network"]
        if record.status == "ok" and record.config["shaper"]["name"] != "none" and times:
            point = {key: network[key] for key in ("rtt_ms", "rate_mbit")} | {"ns": times.median}
            found.setdefault(run_key(record), []).append(point)
    return found


def _packed(trace: Trace, evaluations: int) -> Packed:
    programs: list[Packed] = []
    texts: dict[str, int] = {}

    def packed(step: Step, costs: Sequence[dict[Role, Costs]]) -> Packed:
        chosen = [_middle(step, found, trace.online_roles, evaluations) for found in costs]
        program: Packed = {
            str(role): _operations(role_trace, texts) for role, role_trace in step.roles.items()
        }
        if program not in programs:
            programs.append(program)
        times = map(_times, (step, step), costs, chosen)
        known = {"program": programs.index(program), "evaluations": len(chosen[0])}
        return known | dict(zip(COMPUTES, times, strict=True))

    plain = zip(*(costs_of(trace, compute, 1.0) for compute in COMPUTES), strict=True)
    variants = [{"delay_ns": 0.0, "steps": list(map(packed, trace.steps, plain))}]
    for delayed in trace.delayed:
        costs = [delayed_costs(delayed, trace.steps[0], compute, 1.0) for compute in COMPUTES]
        variants.append({"delay_ns": delayed.delay_s * 1e9, "steps": [packed(delayed.step, costs)]})
    main = set(trace.online_roles)
    return {
        "variants": variants,
        "programs": programs,
        "labels": list(texts),
        "main": [">".join(pair) for pair in sorted(pairs_of(trace.steps)) if set(pair) <= main],
    }


def _operations(role_trace: RoleTrace, texts: dict[str, int]) -> Packed:
    """What a role does in order, as lists; label: a place in the trace's `labels`."""
    return {
        "kind": role_trace.kind.tolist(),
        "peer": role_trace.peer.tolist(),
        "bytes": role_trace.wire_bytes.tolist(),
        "label": [texts.setdefault(label, len(texts)) for label in role_trace.labels],
    }


def _middle(
    step: Step, costs: dict[Role, Costs], online_roles: Sequence[Role], evaluations: int
) -> list[int]:
    """The evaluations about the median one, as even or odd in number as all are."""
    total = len(step.start_ns)
    count = min(total, evaluations + (total - evaluations) % 2)
    if count == total:
        return list(range(total))
    times = simulate(step, costs, links_of([MIDDLE.profiles(online_roles, step.roles)]))[TIME][:, 0]
    first = (total - count) // 2
    return sorted(np.argsort(times, kind="stable")[first : first + count].tolist())


def _times(step: Step, costs: dict[Role, Costs], chosen: Sequence[int]) -> str:
    parts: list[Any] = []
    for role, role_trace in step.roles.items():
        own, sends = costs[role], role_trace.kind == SEND
        parts.append(own.entry[chosen])
        for e in chosen:
            parts += [own.before[:, e], own.during[:, e]]
            parts += [own.transport[sends, e], own.handling[sends, e]]
    return pack(np.concatenate(parts))


def pack(times_ns: Any) -> str:
    """Times in ns as text."""
    above = np.maximum(times_ns, LEAST_NS) / LEAST_NS
    places = np.clip(np.rint(np.log(above) * STEPS_PER_E), 0, 65535).astype("<u2")
    return base64.b64encode(places.tobytes()).decode()


def turns(records: Sequence[Record], traced: TracedFolder) -> list[str]:
    """For the systems of the headline, where on a grid of networks two take equal time, by replay: a
    sentence for each pair that was traced."""
    lines: list[str] = []
    for contest in contests(records, references(records)) if traced.records else ():
        times, leader = _grid_times(contest, traced), contest.name(contest.reference)
        others = [name for name in times if name != leader and leader in times]
        common = labels(contest.records, _of_link)[1]
        work = f"{TITLES.get(contest.experiment, contest.experiment)} ({common})"
        lines += [_turn(work, leader, name, times[name] / times[leader]) for name in others]
    return lines


def _grid_times(contest: Contest, traced: TracedFolder) -> dict[str, Floats]:
    """Online time of each run that was traced, by name, (rates, round-trip times)."""
    networks = [NetworkConfig("", "", rtt, rate) for rate in TURN_RATES for rtt in TURN_RTTS]
    found = {}
    for record in contest.records:
        known = traced.records.get(run_key(record))
        if known is None:
            continue
        try:
            run = traced.run(known)
        except ConfigError:  # a trace that cannot be read; the page says which
            continue
        online_ns = predict(run, networks, "cpu", 1.0).online_ns
        found[contest.name(record)] = online_ns.reshape(len(TURN_RATES), -1)
    return found


def _turn(work: str, a: str, b: str, ratio: Floats) -> str:
    """work: what both do. ratio: of b's time to a's."""
    low, high = digits(float(ratio.min())), digits(float(ratio.max()))
    where = f"{TURN_RTTS[0]:g} to {TURN_RTTS[-1]:g} ms and 10 Mbit/s to 10 Gbit/s"
    span = (
        f"{work}, predicted by replay from traces, for parties on machines of their own, {where}: "
        f"{b} takes"
    )
    if not ratio.min() < 1 < ratio.max():
        return f"{span} {low} to {high} times as long as {a}; nowhere does the order turn."
    found = [
        f"{digits(at)} ms at {format_rate(rate * 1e6)}"
        for rate, row in zip(TURN_RATES, ratio, strict=True)
        for at in crossings(TURN_RTTS, row, np.ones(len(row)))
    ]
    turning = f" Equal times: {', '.join(found)}." if found else ""
    return f"{span} {low} to {high} times as long as {a}: the order turns.{turning}"
