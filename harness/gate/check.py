"""What the gate says of one row: its answer, its counts, its online time."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Literal

from harness.config.schema import RunConfig, ShaperConfig
from harness.errors import GateFailure
from harness.gate.baseline import Counts, Row, counts_of
from harness.gate.measure import Bench
from harness.records.ratio import Interval, Verdict, paired, unpaired
from harness.records.record import Record, Sent

Kind = Literal["run", "counts", "time"]
ENOUGH = 4  # times as many new samples as stored ones; more would tell nothing
UNCONFIRMED = "slower at first, but not with fresh parties"


@dataclass(frozen=True)
class Check:
    """One check of one row. verdict None: it was not made, and `lines` says why."""

    kind: Kind
    verdict: Verdict | None
    lines: tuple[str, ...] = ()


@dataclass(frozen=True)
class Result:
    """One row's checks.

    record: of this tree. timed: whether it was run as the row says, and not only for its counts. ratio:
    of the comparison that decided.
    """

    row: Row
    checks: tuple[Check, ...]
    record: Record | None = None
    timed: bool = False
    ratio: Interval | None = None

    @property
    def verdict(self) -> Verdict:
        """The worst of its checks."""
        return worst(check.verdict for check in self.checks)


def worst(verdicts: Iterable[Verdict | None]) -> Verdict:
    """A regression, else a `cannot tell`, else fine."""
    found = set(verdicts)
    return (
        "regression"
        if "regression" in found
        else "cannot tell"
        if "cannot tell" in found
        else "fine"
    )


@dataclass(frozen=True)
class Timing:
    """How online times are compared: with `against`, those of two sides that take turns; otherwise
    with the baseline's.

    why_not: the reason why they are not. patience_s: how long a row may be measured until it counts
    as too noisy.
    """

    against: bool = False
    why_not: str | None = None
    patience_s: float = 30.0
    clock: Callable[[], float] = time.monotonic


def check_row(row: Row, config: RunConfig, bench: Bench, timing: Timing) -> Result:
    """Measure a row and judge it. What keeps it from being measured makes it a `cannot tell`."""
    why_not, measured = timing.why_not, lenient(config)
    if row.counts_only:
        why_not = why_not or "the row is of counts alone"
    if not timing.against and not row.online_ns:
        why_not = why_not or "the baseline has no times of this row"
    if why_not:
        return _untimed(row, measured, bench, Check("time", None, (why_not,)))
    try:
        records = bench.measure(measured)
    except GateFailure as failure:
        # What keeps two sides from being timed may be the other's: this tree's counts can be good.
        return _untimed(row, measured, bench, Check("time", "cannot tell", (str(failure),)))
    check, ratio = _Clocked(row, config, measured, bench, timing).judge(records)
    checks = (_ran(records), _counts(row, records[-1]), check)
    return Result(row, checks, records[-1], timed=True, ratio=ratio)


def _untimed(row: Row, config: RunConfig, bench: Bench, check: Check) -> Result:
    """A row's result with this `check` of its times."""
    try:
        records = bench.measure(quick(config), alone=True)
    except GateFailure as failure:
        return Result(row, (Check("run", "cannot tell", (str(failure),)),))
    return Result(row, (_ran(records), _counts(row, records[-1]), check), records[-1])


def lenient(config: RunConfig) -> RunConfig:
    """A run that a bad link does not end: its counts are good all the same."""
    return replace(config, calibration=replace(config.calibration, strict=False))


def link_held(config: RunConfig, records: Sequence[Record]) -> bool:
    """Whether the times of `records` count: every link was as promised, or need not be."""
    outside = any(record.network.within_tolerance is False for record in records)
    return not (outside and config.calibration.strict)


def quick(config: RunConfig) -> RunConfig:
    """What gives the same counts in the least time."""
    return replace(config, shaper=ShaperConfig("none"), repeat=1, warmup=0)


def _ran(records: Sequence[Record]) -> Check:
    """A wrong answer of this tree is a regression; anything else is no fault of its code."""
    if records[-1].status == "incorrect":
        return Check("run", "regression", (f"wrong answer: {records[-1].error}",))
    bad = [record for record in records if record.status != "ok"]
    if bad:
        side = "" if bad[0] is records[-1] else "the other checkout: "
        return Check("run", "cannot tell", (f"{side}{bad[0].status}: {bad[0].error}",))
    return Check("run", "fine")


def _counts(row: Row, record: Record) -> Check:
    if not row.phases:
        why = "the baseline has no counts of this row: permbench gate --update"
        return Check("counts", "cannot tell", (why,))
    found = differences(row.phases, counts_of(record))
    return Check("counts", "regression" if found else "fine", tuple(map(str, found)))


@dataclass(frozen=True)
class _Clocked:
    """The comparison of one row's times. measured: its configuration as it is run."""

    row: Row
    config: RunConfig
    measured: RunConfig
    bench: Bench
    timing: Timing

    def judge(self, records: list[Record]) -> tuple[Check, Interval | None]:
        """The verdict; a regression is one only if fresh parties show it too."""
        try:
            check, ratio = self._compare(records)
            if check.verdict != "regression":
                return check, ratio
            self.bench.renew()
            again, ratio_again = self._compare(self.bench.measure(self.measured))
        except GateFailure as failure:
            return Check("time", "cannot tell", (str(failure),)), None
        if again.verdict == "regression":
            return replace(again, lines=(*again.lines, f"first {ratio}, confirmed")), ratio_again
        return replace(again, lines=(*again.lines, f"{UNCONFIRMED} (first {ratio})")), ratio_again

    def _compare(self, records: list[Record]) -> tuple[Check, Interval | None]:
        """Measure until the interval lies on one side of the threshold, and is narrow enough to be
        believed below it; or until patience ends."""
        until = self.timing.clock() + self.timing.patience_s
        old, new = list[int](), list[int]()
        while True:
            if why := self._unusable(records):
                return Check("time", "cannot tell", (why,)), None
            old += _online_ns(records[0])
            new += _online_ns(records[-1])
            ratio = paired(old, new) if self.timing.against else unpaired(self.row.online_ns, new)
            verdict = ratio.verdict(self.row.threshold)
            certain = verdict == "fine" and ratio.narrow(self.row.threshold)
            spent = self.timing.clock() > until or not self._more_would_help(len(new))
            if verdict == "regression" or certain or spent:
                return Check("time", verdict, _why(verdict)), ratio
            records = self.bench.measure(replace(self.measured, repeat=len(new)))

    def _unusable(self, records: Sequence[Record]) -> str | None:
        """Why these times are not to be compared."""
        if (ran := _ran(records)).verdict != "fine":
            return "; ".join(ran.lines)
        if not link_held(self.config, records):
            return "link outside tolerance; permbench calibrate shows it"
        return None

    def _more_would_help(self, samples: int) -> bool:
        return self.timing.against or samples < ENOUGH * len(self.row.online_ns)


def _why(verdict: Verdict) -> tuple[str, ...]:
    return ("too noisy, or too close to the threshold",) if verdict == "cannot tell" else ()


def _online_ns(record: Record) -> list[int]:
    return record.phases["online"].wall_ns


NOTHING = Sent(0, 0, 0)
NAMES = {"messages": "messages", "payload_bytes": "payload bytes", "wire_bytes": "wire bytes"}


@dataclass(frozen=True)
class Difference:
    """One number that is not the baseline's. where: "online P0>P1". None: there is no such phase."""

    where: str
    what: str
    expected: int | None
    found: int | None

    def __str__(self) -> str:
        if self.found is None:
            return f"{self.where}: the baseline has this phase, the run has not"
        if self.expected is None:
            return f"{self.where}: the run has this phase, the baseline has not"
        change = self.found - self.expected
        return f"{self.where}: {self.what} {self.found}, expected {self.expected} ({change:+d})"


def differences(
    expected: Mapping[str, Counts], found: Mapping[str, Counts]
) -> tuple[Difference, ...]:
    """Everything in which `found` is not as `expected`, phase by phase; none is good.

    A pair of roles that sends nothing is the same as one that is not named.
    """
    phases = [*expected, *(phase for phase in found if phase not in expected)]
    return tuple(
        found_one
        for phase in phases
        for found_one in _of_phase(phase, expected.get(phase), found.get(phase))
    )


def _of_phase(phase: str, expected: Counts | None, found: Counts | None) -> Iterator[Difference]:
    if expected is None or found is None:
        hops = [None if counts is None else counts.hops for counts in (expected, found)]
        yield Difference(phase, "hops", *hops)
        return
    if expected.hops != found.hops:
        yield Difference(phase, "hops", expected.hops, found.hops)
    for pair in sorted(expected.sent.keys() | found.sent.keys()):
        old, new = (asdict(counts.sent.get(pair, NOTHING)) for counts in (expected, found))
        for key, name in NAMES.items():
            if old[key] != new[key]:
                yield Difference(f"{phase} {pair}", name, old[key], new[key])
