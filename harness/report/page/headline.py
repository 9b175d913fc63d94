"""What a reader wants to know first: how many times faster, where that changes, where the time goes."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from harness.records import query as rows
from harness.records import selection
from harness.records.record import Record
from harness.records.stats import digits, format_bytes, format_ns
from harness.report import comparison
from harness.report.columns import sort_key
from harness.report.labels import labels
from harness.report.network_floor import floor_ns
from harness.report.series import TITLES
from harness.report.styles import rank_of, system_of

FIRST = (
    "layer",
    "argmax",
    "model",
    "generate",
    "nonlinear",
    "linear",
    "attention",
    "slowdown",
)  # experiments, in this order
MOST_PANELS = 3


@dataclass(frozen=True)
class Contest:
    """Runs that differ in the system alone, of one experiment. reference: what the others are compared
    with. names: what tells them apart, of each. common: what they share."""

    experiment: str
    reference: Record
    records: tuple[Record, ...]
    names: Mapping[str, str]
    common: str

    @property
    def others(self) -> list[Record]:
        """All but the reference."""
        return [record for record in self.records if record is not self.reference]

    def name(self, record: Record) -> str:
        """What to call one of them."""
        return self.names[selection.handle(record)]


def contests(records: Sequence[Record], beside: comparison.Beside) -> list[Contest]:
    """The largest comparison of systems in each experiment, at most `MOST_PANELS`; with as many systems,
    one over a network before one without. beside: of `comparison.references`."""
    groups: dict[str, list[Record]] = {}
    for record in records:
        if selection.handle(record) in beside:
            groups.setdefault(selection.handle(beside[selection.handle(record)]), []).append(record)
    found: dict[str, list[Record]] = {}
    for group in groups.values():
        name = rows.experiment(group[0])
        if name not in found or _size(group) > _size(found[name]):
            found[name] = group
    order = sorted(found, key=place_of)
    return [_contest(name, found[name], beside) for name in order[:MOST_PANELS]]


def place_of(experiment: str) -> int:
    """Where an experiment stands among others."""
    return FIRST.index(experiment) if experiment in FIRST else len(FIRST)


def _size(group: Sequence[Record]) -> tuple[object, ...]:
    """The most systems; over a network before none, since runs without one are there to be traced."""
    names = {system_of(record) for record in group}
    shaped = group[0].config["shaper"]["name"] != "none"
    return len(names), shaped, max(sort_key(record) for record in group)


def _contest(name: str, group: Sequence[Record], beside: comparison.Beside) -> Contest:
    ordered = sorted(group, key=lambda record: rank_of(system_of(record)))
    names, common = labels(ordered)
    handles = map(selection.handle, ordered)
    reference = beside[selection.handle(ordered[0])]
    known = dict(zip(handles, names, strict=True))
    return Contest(name, reference, tuple(ordered), known, common)


def sentences(
    contest: Contest, records: Sequence[Record], beside: comparison.Beside
) -> Iterator[str]:
    """How many times faster, online and in all; over which networks it was measured; where the time of
    the reference goes."""
    what = f"{TITLES.get(contest.experiment, contest.experiment)} ({contest.common})"
    own = contest.name(contest.reference)
    online = rows.phase_spread(contest.reference, "online")
    if online is None:
        return
    total = rows.sum_ns(contest.reference)
    beyond = f", and {format_ns(total)} with its offline work" if total else ""
    yield f"{what}: {own} takes {format_ns(online.median)} online{beyond}."
    for record in contest.others:
        yield f"{own} is {_beside(record, contest.reference)} {contest.name(record)}."
    yield from _other_networks(contest, records, beside)
    yield _where(contest.reference, own, online.median)


def _beside(record: Record, reference: Record) -> str:
    times = rows.phase_spread(record, "online"), rows.phase_spread(reference, "online")
    sums = rows.sum_ns(record), rows.sum_ns(reference)
    assert times[0] is not None  # comparison.references leaves the others out
    assert times[1] is not None
    mark = "*" * (selection.outside(record) or selection.outside(reference))
    parts = [f"{_factor(times[0].median, times[1].median)}{mark} online"]
    if sums[0] and sums[1]:
        parts.append(f"{_factor(sums[0], sums[1])}{mark} in all")
    than = "than" if "faster" in parts[-1] or "slower" in parts[-1] else "as"
    return f"{' and '.join(parts)} {than}"


def _factor(time: float, reference: float) -> str:
    if min(time, reference) <= 0 or digits(time / reference) == "1.00":
        return "as fast"
    faster = time > reference
    ratio = time / reference if faster else reference / time
    return f"{digits(ratio)} times {'faster' if faster else 'slower'}"


def _other_networks(
    contest: Contest, records: Sequence[Record], beside: comparison.Beside
) -> Iterator[str]:
    """The same comparison over the other networks that were measured."""
    own, reference = contest.name(contest.reference), _but_network(contest.reference)
    leaders = {id(record): record for record in beside.values()}
    alike = {place for place, record in leaders.items() if _but_network(record) == reference}
    pairs = [(r, beside[h]) for r in records if (h := selection.handle(r)) in beside]
    against = [(r, leader, _but_network(r)) for r, leader in pairs if id(leader) in alike]
    for other in contest.others:
        run = _but_network(other)
        found = {_network(r): _online(r) / _online(leader) for r, leader, k in against if k == run}
        if len(found) > 1:
            (low, slow), *_, (high, fast) = sorted(found.items(), key=lambda pair: pair[1])
            turns = " There the order turns." if slow < 1 < fast else ""
            yield (
                f"Measured over {len(found)} networks, {contest.name(other)} takes {digits(slow)} times "
                f"({low}) to {digits(fast)} times ({high}) as long as {own}.{turns}"
            )


def _online(record: Record) -> float:
    times = rows.phase_spread(record, "online")
    return times.median if times and times.median else 1.0


def _network(record: Record) -> str:
    network = record.config["network"]
    none = record.config["shaper"]["name"] == "none"
    return "no shaping" if none else f"{network['name']}, {network['rtt_ms']:g} ms"


def _but_network(record: Record) -> list[tuple[str, str]]:
    """All that runs must have in common that differ in nothing but the network."""
    return sorted(
        (key, repr(value))
        for key, value in record.flat.items()
        if value is not None
        and selection.matters(key)
        and key != "trace"
        and not key.startswith(("network.", "shaper."))
    )


def _where(record: Record, name: str, online_ns: float) -> str:
    """What of the time is the network alone, and how many bytes and hops that is of."""
    floor = floor_ns(record)
    sizes = format_bytes(rows.payload_bytes(record, "online"))
    hops = record.phases["online"].hops
    counts = sizes if hops is None else f"{hops} hops and {sizes}"
    if not floor:
        return f"{name} needs {counts} online; no network was put between the parties."
    return (
        f"Of {name}'s online time {format_ns(floor)} ({100 * floor / online_ns:.0f} %) is the network "
        f"alone ({counts}); the rest is the parties' own work."
    )
