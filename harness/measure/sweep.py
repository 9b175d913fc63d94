"""One call's runs: what is stored already is skipped, the rest is measured and saved one by one.

A stored result counts where this code made it, over a link within tolerance unless the run asks for less.
Two calls at once in one folder share the work: what another process measures is left to it.
"""

import random
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from harness.config.config_hash import config_hash, resolved
from harness.config.schema import GenerateConfig, RunConfig
from harness.errors import spell
from harness.progress import Progress
from harness.records import query as rows
from harness.records import store
from harness.records.environment import environment, machine_of
from harness.records.record import OUTSIDE, Record
from harness.records.reuse import why_again
from harness.records.run_lock import locked
from harness.records.selection import outside
from harness.records.stats import format_bytes, format_spread
from harness.version import REPO

BAD = ("failed", "timeout", "incorrect")
AGAIN = "force=true measures again"
POLL_S = 0.5  # for a run that another process measures
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
    """The distinct runs of one call, by id: those with a stored result, those to measure, what to call
    each of them, why those with a result that does not count are measured again, and what stood in
    the place of those to measure."""

    stored: dict[str, Record]
    pending: dict[str, RunConfig]
    titles: dict[str, str]
    again: dict[str, str]
    before: dict[str, store.Stamp]


def plan(configs: Sequence[RunConfig]) -> Plan:
    """Split `configs` by what the store holds. Raises ConfigError for a useless results_dir."""
    made = Plan({}, {}, titles(configs), {}, {})
    for config in configs:
        record_id, path = config_hash(config), path_of(config)
        store.check_writable(Path(config.results_dir))
        found = store.finished(path)
        again = _asks_again(config) or (found and why_again(config, found))
        if found and not again:
            made.stored[record_id] = found
            continue
        made.pending[record_id], made.before[record_id] = config, store.stamp(path)
        if found and isinstance(again, str):
            made.again[record_id] = again
    return made


def path_of(config: RunConfig) -> Path:
    """Where the record of a configuration belongs."""
    return store.path_of(Path(config.results_dir), config.experiment.name, config_hash(config))


def _asks_again(config: RunConfig) -> bool:
    # A generation is asked for its text, which is printed as it comes.
    return config.force or isinstance(config.experiment, GenerateConfig)


def stored_messages(plan: Plan) -> Iterator[str]:
    """What the store holds of a plan, in lines for people."""
    total = len(plan.stored) + len(plan.pending)
    if plan.stored:
        here = machine_of(environment(REPO))
        others = sum(machine_of(record.environment) != here for record in plan.stored.values())
        elsewhere = f", {others} of them on another machine" if others else ""
        yield f"{len(plan.stored)} of {total} runs are stored already{elsewhere}; " + AGAIN
    for reason, count in Counter(plan.again.values()).items():
        yield f"{count} of {total} runs: {reason}: measured again"


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
    """Measure and save one configuration after the other. An interrupt's record is saved too.

    Runs that other processes measure meanwhile come last: their records, or where these do not count
    a measurement of ours.
    """
    if not plan.pending:
        return
    left: list[str] = []
    with session_factory() as session:
        for place, record_id in enumerate(plan.pending, start=1):
            progress.run(place, len(plan.pending), plan.titles[record_id])
            found = _attempt(plan, record_id, session, progress)
            if isinstance(found, str):
                progress.stage(f"left to {found}, which measures it")
                left.append(record_id)
            else:
                yield found
        for record_id in left:
            yield _awaited(plan, record_id, session, progress)


def _awaited(plan: Plan, record_id: str, session: Runs, progress: Progress) -> Record:
    """The record of a run that another process measures, once that has ended."""
    place = list(plan.pending).index(record_id) + 1
    progress.run(place, len(plan.pending), plan.titles[record_id])
    while isinstance(found := _attempt(plan, record_id, session, progress), str):
        progress.stage(f"waiting for {found}, which measures it")
        time.sleep(POLL_S)
    return found


def _attempt(plan: Plan, record_id: str, session: Runs, progress: Progress) -> Record | str:
    """The new record of a run, or which other process measures it."""
    config = plan.pending[record_id]
    with locked(path_of(config)) as holder:
        if holder:
            return holder
        record = taken_since(plan, record_id) or _measure_one(config, session, progress)
    progress.done(summary(record, plan.titles[record_id]))
    return record


def taken_since(plan: Plan, record_id: str) -> Record | None:
    """A result that counts and that another process has stored since the plan was made."""
    config = plan.pending[record_id]
    path = path_of(config)
    if isinstance(config.experiment, GenerateConfig) or store.stamp(path) == plan.before[record_id]:
        return None
    found = store.finished(path)
    return found if found and why_again(config, found) is None else None


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
        if partial and store.finished(path_of(config)) is None:
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
    off = ", link outside tolerance" if outside(record) else ""
    return head + tail + off + (f" · {record.error}" if record.error else "")


def exit_code(records: Sequence[Record]) -> int:
    """1 if a run failed, timed out or gave a wrong answer, else 0."""
    return int(any(record.status in BAD for record in records))
