"""One call's runs: what is stored already is skipped, the rest is measured and saved one by one."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from harness import rows, store
from harness.config.identity import config_hash
from harness.config.schema import RunConfig
from harness.progress import Progress
from harness.record import Record
from harness.stats import format_bytes, format_spread

BAD = ("failed", "timeout", "incorrect")


class Runs(Protocol):
    """What measures: `harness.session.Session`."""

    def run(self, config: RunConfig, progress: Progress) -> Record:
        """Measure one configuration; a failure is a record too.

        Ctrl-C raises a KeyboardInterrupt, whose `record`, if it has one, tells of this run.
        """


SessionFactory = Callable[[], AbstractContextManager[Runs]]


@dataclass(frozen=True)
class Plan:
    """The distinct runs of one call, by id: those with a stored result, and those to measure."""

    stored: dict[str, Record]
    pending: dict[str, RunConfig]


def plan(configs: Sequence[RunConfig]) -> Plan:
    """Split `configs` by what the store holds. Raises ConfigError for a useless results_dir."""
    stored: dict[str, Record] = {}
    pending: dict[str, RunConfig] = {}
    for config in configs:
        folder, record_id = Path(config.results_dir), config_hash(config)
        store.check_writable(folder)
        again = config.force or config.seed is None  # without a seed every run is another one
        found = None if again else store.finished(folder, config.experiment.name, record_id)
        if found is None:
            pending[record_id] = config
        else:
            stored[record_id] = found
    return Plan(stored, pending)


def measure(
    pending: dict[str, RunConfig], session_factory: SessionFactory, progress: Progress
) -> list[Record]:
    """Measure and save every configuration. An interrupt's record is saved too."""
    if not pending:
        return []
    records = []
    with session_factory() as session:
        for index, config in enumerate(pending.values(), start=1):
            progress.run(index, len(pending), config.title())
            records.append(_measure_one(config, session, progress))
            progress.done(summary(records[-1], config))
    return records


def _measure_one(config: RunConfig, session: Runs, progress: Progress) -> Record:
    folder = Path(config.results_dir)
    try:
        record = session.run(config, progress)
    except KeyboardInterrupt as interrupt:
        partial: Record | None = getattr(interrupt, "record", None)
        # A result from before (force=true) is worth more than the note that nothing came of this.
        if partial and store.finished(folder, config.experiment.name, partial.id) is None:
            store.save(folder, partial)
        raise
    store.save(folder, record)
    return record


def summary(record: Record, config: RunConfig) -> str:
    """One line on how a run ended."""
    head = f"{record.status:11} {config.title()}"
    online = rows.phase_spread(record, "online")
    if online is None:
        return f"{head}: {record.error or 'no measurement'}"
    payload = format_bytes(rows.payload_bytes(record, "online"))
    hops = record.phases["online"].hops
    tail = f": {format_spread(online)}, {payload}, {hops} hops"
    off = ", link outside tolerance" if record.network.within_tolerance is False else ""
    return head + tail + off + (f" · {record.error}" if record.error else "")


def exit_code(records: Sequence[Record]) -> int:
    """1 if a run failed, timed out or gave a wrong answer, else 0."""
    return int(any(record.status in BAD for record in records))
