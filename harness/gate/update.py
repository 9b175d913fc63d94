"""Making a baseline: run every row, keep what people wrote, replace what was measured."""

from collections.abc import Iterable
from dataclasses import replace

from harness.config.schema import RunConfig
from harness.errors import GateFailure
from harness.gate.baseline import Baseline, Row, counts_of, made_by
from harness.gate.check import lenient, link_held, quick
from harness.gate.measure import Bench
from harness.progress import Progress
from harness.records.environment import machine_of
from harness.records.record import Record
from harness.records.stats import format_ns


def updated(rows: Iterable[tuple[Row, RunConfig]], bench: Bench, progress: Progress) -> Baseline:
    """The baseline of `rows`, each of which comes with its configuration.

    Raises GateFailure, which names the row, where one gives no right answer.
    """
    done, records = list[Row](), list[Record]()
    pairs = list(rows)
    for number, (row, config) in enumerate(pairs, start=1):
        progress.run(number, len(pairs), row.name)
        record = _measured(row, config, bench)
        timed = not row.counts_only and link_held(config, [record])
        times = tuple(record.phases["online"].wall_ns) if timed else ()
        done.append(replace(row, phases=counts_of(record), online_ns=times))
        records.append(record)
        progress.done(_summary(done[-1]))
    environment = records[-1].environment if records else {}
    return Baseline(tuple(done), machine_of(environment), made_by(environment))


def _measured(row: Row, config: RunConfig, bench: Bench) -> Record:
    wanted = lenient(config)
    try:
        record = bench.measure(quick(wanted) if row.counts_only else wanted)[-1]
    except GateFailure as failure:
        raise GateFailure(f"{row.name}: {failure}") from None
    if record.status != "ok":
        raise GateFailure(f"{row.name}: {record.status}: {record.error}")
    return record


def _summary(row: Row) -> str:
    if row.counts_only:
        return f"{row.name}: counts, {row.phases['online'].hops} hops"
    if not row.online_ns:
        return f"{row.name}: counts only, as the link is outside tolerance"
    middle = sorted(row.online_ns)[len(row.online_ns) // 2]
    return f"{row.name}: {format_ns(middle)}, {row.phases['online'].hops} hops"
