"""One call's runs: what is stored already is skipped, the rest is measured and saved one by one."""

import random
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from harness.config.identity import config_hash, resolved
from harness.config.schema import GenerateConfig, RunConfig
from harness.errors import spell
from harness.progress import Progress
from harness.records import query as rows
from harness.records import store
from harness.records.record import OUTSIDE, Record
from harness.records.stats import format_bytes, format_spread

BAD = ("failed", "timeout", "incorrect")
NAMED = 3  # of the runs that were not reached
Measured = Generator[Record, None, None]  # saved records, as they come


class Runs(Protocol):
    """What measures: `harness.measure.session.Session`."""

    def run(self, config: RunConfig, progress: Progress) -> Record:
        """Measure one configuration; a failure is a record too.

        Ctrl-C raises a KeyboardInterrupt, whose `record`, if it has one, tells of this run.
        """

    def run_interleaved(self, configs: Sequence[RunConfig], progress: Progress) -> list[Record]:
        """Measure configurations that differ in their links alone in one job; a record of each."""


SessionFactory = Callable[[], AbstractContextManager[Runs]]


@dataclass(frozen=True)
class Plan:
    """The distinct runs of one call, by id: those with a stored result, those to measure, and what
    to call each of them."""

    stored: dict[str, Record]
    pending: dict[str, RunConfig]
    titles: dict[str, str]


def plan(configs: Sequence[RunConfig]) -> Plan:
    """Split `configs` by what the store holds. Raises ConfigError for a useless results_dir."""
    stored: dict[str, Record] = {}
    pending: dict[str, RunConfig] = {}
    for config in configs:
        folder, record_id = Path(config.results_dir), config_hash(config)
        store.check_writable(folder)
        # A generation is asked for its text, which is printed as it comes.
        again = config.force or isinstance(config.experiment, GenerateConfig)
        found = None if again else store.finished(folder, config.experiment.name, record_id)
        if found is None:
            pending[record_id] = config
        else:
            stored[record_id] = found
    return Plan(stored, pending, titles(configs))


def titles(configs: Sequence[RunConfig]) -> dict[str, str]:
    """Titles by id, with the keys that vary beyond what a title says."""
    flats = [rows.flatten(resolved(config)) for config in configs]
    keys = rows.varying(flats)
    return {
        config_hash(config): " ".join(
            [config.title(), *(f"{key}={spell(flat[key])}" for key in keys if key in flat)]
        )
        for config, flat in zip(configs, flats, strict=True)
    }


def shuffled(configs: Sequence[RunConfig], seed: int) -> list[RunConfig]:
    """`configs` in an order that `seed` alone decides, so that a resumed sweep keeps it."""
    drawn = list(configs)
    random.Random(seed).shuffle(drawn)
    return drawn


def measured_here(plan: Plan, session_factory: SessionFactory, progress: Progress) -> Measured:
    """Measure and save one configuration after the other. An interrupt's record is saved too."""
    if not plan.pending:
        return
    with session_factory() as session:
        for index, (record_id, config) in enumerate(plan.pending.items(), start=1):
            progress.run(index, len(plan.pending), plan.titles[record_id])
            record = _measure_one(config, session, progress)
            progress.done(summary(record, plan.titles[record_id]))
            yield record


def collect(records: Measured, continue_on_error: bool) -> list[Record]:
    """All records that come; without `continue_on_error` only up to the first that is bad."""
    collected = []
    with closing(records):
        for record in records:
            collected.append(record)
            if record.status in BAD and not continue_on_error:
                break
    return collected


def left_message(plan: Plan, records: Sequence[Record]) -> str | None:
    """What of a plan was not reached; None where nothing is left."""
    reached = {record.id for record in records}
    left = [plan.titles[record_id] for record_id in plan.pending if record_id not in reached]
    if not left:
        return None
    more = [f"and {len(left) - NAMED} more"] if len(left) > NAMED else []
    return (
        f"stopped at a run that {_ended(records[-1])} (continue_on_error=false); "
        f"not measured: {', '.join(left[:NAMED] + more)}"
    )


def _ended(record: Record) -> str:
    return {"failed": "failed", "timeout": "timed out"}.get(record.status, "gave a wrong answer")


def measured_interleaved(
    configs: Sequence[RunConfig], session: Runs, progress: Progress
) -> list[Record]:
    """Measure configurations that differ in their links alone in one job, and save all records."""
    records = session.run_interleaved(configs, progress)
    for config, record in zip(configs, records, strict=True):
        store.save(Path(config.results_dir), record)
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


def summary(record: Record, title: str) -> str:
    """One line on how a run ended."""
    head = f"{record.status:11} {title}"
    online = rows.phase_spread(record, "online")
    if online is None:
        short = OUTSIDE if (record.error or "").startswith(OUTSIDE) else record.error
        return f"{head}: {short or 'no measurement'}"  # the table says how far outside
    payload = format_bytes(rows.payload_bytes(record, "online"))
    hops = record.phases["online"].hops
    tail = f": {format_spread(online)}, {payload}, {hops} hops"
    off = ", link outside tolerance" if record.network.within_tolerance is False else ""
    return head + tail + off + (f" · {record.error}" if record.error else "")


def exit_code(records: Sequence[Record]) -> int:
    """1 if a run failed, timed out or gave a wrong answer, else 0."""
    return int(any(record.status in BAD for record in records))
