"""The numbers of a claim: of its records as they were measured, or replayed on a network."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from harness.config.compose import compose_run
from harness.config.config_hash import resolved
from harness.config.schema import RunConfig
from harness.errors import ConfigError
from harness.records import query as rows
from harness.records import selection
from harness.records.record import Record
from harness.registry import system_class
from harness.replay.predict import TracedRun, predict
from harness.replay.traced_runs import trace_of
from harness.report.comparison import circumstances
from harness.report.values import VALUES
from harness.reproduce.claims import DECLARED, Claim
from protocols.errors import Unsupported


class NotComparable(Exception):
    """Why a claim's numbers say nothing about it; the text is for people."""


@dataclass(frozen=True)
class Number:
    """One value of one run, in ns, bytes or hops. network: that it was replayed on; None as measured."""

    record: Record
    value: float
    network: str | None = None

    @property
    def outside(self) -> bool:
        """Whether it is a time over a link that was not as its network says."""
        return self.network is None and selection.outside(self.record)


@dataclass(frozen=True)
class Compared:
    """A run's value, and, where the claim compares, that of a run beside it."""

    of: Number
    against: Number | None = None

    @property
    def configs(self) -> tuple[Mapping[str, Any], ...]:
        """Of the run, and of the one beside it if there is one."""
        return tuple(each.record.config for each in (self.of, self.against) if each)

    @property
    def value(self) -> float:
        """The value, or how many times as large the other's is."""
        return self.of.value if self.against is None else self.against.value / self.of.value

    @property
    def outside(self) -> bool:
        """Whether one of the two is over a link outside tolerance."""
        return self.of.outside or (self.against is not None and self.against.outside)


@dataclass(frozen=True)
class Declared:
    """What a run's system declares, in bytes."""

    configs: tuple[Mapping[str, Any], ...]
    value: float
    outside: bool = False


def declared(claim: Claim, configs: Sequence[RunConfig]) -> list[Declared]:
    """A claim's values, of runs that are not made. Raises NotComparable."""
    return [Declared((resolved(each),), _declared(claim, each) * claim.layers) for each in configs]


def _declared(claim: Claim, config: RunConfig) -> int:
    work, options = config.workload(), config.system.options()
    try:
        cost = system_class(config.system.name).cost(work, options)
    except Unsupported as why:
        raise NotComparable(str(why)) from None
    return sum(cost[DECLARED[claim.value]].payload_bytes.values())


def compared(claim: Claim, records: Sequence[Record], folder: Path) -> list[Compared]:
    """A claim's values, from the records of its runs. folder: with their traces. Raises NotComparable."""
    of = list(_numbers(claim, _chosen(claim.of, records), folder))
    if not of:
        raise NotComparable("none of its runs gave a number")
    if not claim.against:
        return [Compared(number) for number in of]
    others = list(_numbers(claim, _chosen(claim.against, records), folder))
    if why := selection.differences([number.record for number in (*of, *others)]):
        raise NotComparable(f"its runs were not made alike: {why}")
    pairs = [
        Compared(one, other)
        for one in of
        for other in others
        if one.network == other.network and _alike(one.record, other.record)
    ]
    if not pairs:
        raise NotComparable("no two of its runs differ in the system alone")
    return pairs


def _chosen(filters: Sequence[str], records: Sequence[Record]) -> list[Record]:
    return rows.select(records, rows.parse_filters(filters, records))


def _alike(one: Record, other: Record) -> bool:
    return circumstances(one) == circumstances(other)


def _numbers(claim: Claim, records: Sequence[Record], folder: Path) -> Iterator[Number]:
    for record in records:
        if claim.predict:
            for name in claim.predict:
                yield Number(record, _replayed_ns(record, folder, name) * claim.layers, name)
        elif (value := _measured(claim, record)) is not None:
            yield Number(record, value * claim.layers)


def _measured(claim: Claim, record: Record) -> float | None:
    value = VALUES[claim.value]
    if not claim.a_token:
        return value.number(record)
    steps = [step for step in record.steps if step.kind == "decode"]
    return median(map(value.step, steps)) if value.step and steps else None


def _replayed_ns(record: Record, folder: Path, network: str) -> float:
    """Online time of a traced run on a network, with this machine's compute times."""
    try:
        traced = TracedRun(record, trace_of(folder, record), "")
    except ConfigError as error:
        raise NotComparable(str(error)) from None
    config = compose_run([f"network={network}"]).network
    return float(predict(traced, [config], "wall", 1.0).online_ns[0])
