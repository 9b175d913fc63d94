"""One call's runs: what is stored already is skipped, the rest is measured and saved one by one.

A stored result counts where this code made it, over a link within tolerance unless the run asks for less.
Two calls at once in one folder share the work: what another process measures is left to it.
"""

import random
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from harness.config.config_hash import config_hash, flatten, resolved
from harness.config.experiments import GenerateConfig
from harness.config.schema import RunConfig
from harness.errors import spell
from harness.machine.interrupts import deferred, interruptible
from harness.measure import unsaved
from harness.measure.turn_groups import TurnGroup, alone, apart_message
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

    def run_in_turns(self, configs: Sequence[RunConfig], progress: Progress) -> list[Record]:
        """Measure configurations that differ in the system alone, in turns; a record of each."""

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
        store.check_writable(path.parent)
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
    flats = [flatten(resolved(config)) for config in configs]
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


def measured_here(
    plan: Plan,
    session_factory: SessionFactory,
    progress: Progress,
    in_groups: Callable[[Sequence[RunConfig]], Sequence[TurnGroup]] = alone,
) -> Measured:
    """Measure and save what is pending, group by group. An interrupt's record is saved too.

    Runs that other processes measure meanwhile come last: their records, or where these do not count
    a measurement of ours. in_groups: which runs take turns. A signal ends the runs under way, or the next
    ones before they begin.
    """
    if not plan.pending:
        return
    left: list[str] = []
    together = in_groups(list(plan.pending.values()))
    with deferred(), _all_saved(), session_factory() as session:
        place = 1
        for group in together:
            ids = [config_hash(config) for config in group.configs]
            progress.run(place, len(plan.pending), _group_title(group, plan))
            if group.why_apart:
                progress.stage(apart_message(group))
            found, others = _attempt(plan, ids, session, progress)
            place += len(ids)
            left += others
            yield from found
        for record_id in left:
            yield _awaited(plan, record_id, session, progress)


def _group_title(group: TurnGroup, plan: Plan) -> str:
    first, *others = group.configs
    title = plan.titles[config_hash(first)]
    names = ", ".join(config.system.name for config in others)
    return f"{title}, in turns with {names}" if others else title


@contextmanager
def _all_saved() -> Iterator[None]:
    """What could not be saved is tried once more at the end."""
    try:
        yield
    finally:
        unsaved.finish()


def _awaited(plan: Plan, record_id: str, session: Runs, progress: Progress) -> Record:
    """The record of a run that another process measures, once that has ended."""
    place = list(plan.pending).index(record_id) + 1
    progress.run(place, len(plan.pending), plan.titles[record_id])
    while True:
        found, others = _attempt(plan, [record_id], session, progress)
        if not others:
            return found[0]
        with interruptible():
            time.sleep(POLL_S)


def _attempt(
    plan: Plan, ids: Sequence[str], session: Runs, progress: Progress
) -> tuple[list[Record], list[str]]:
    """The new records of runs that are measured together, bad ones last, and those of them that
    other processes measure."""
    records: list[Record] = []
    free: list[str] = []
    others: list[str] = []
    with ExitStack() as locks:
        for record_id in ids:
            if holder := locks.enter_context(locked(path_of(plan.pending[record_id]))):
                progress.stage(f"left to {holder}, which measures it")
                others.append(record_id)
            elif record := taken_since(plan, record_id):
                records.append(record)
            else:
                free.append(record_id)
        records += _measure([plan.pending[record_id] for record_id in free], session, progress)
    for record in records:
        progress.done(summary(record, plan.titles[record.id]))
    return sorted(records, key=lambda record: record.status in BAD), others


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
    with deferred(), ExitStack() as locks:
        _lock_all(configs, locks, progress)
        return _saved(configs, session.run_interleaved(configs, progress))


def _lock_all(configs: Sequence[RunConfig], locks: ExitStack, progress: Progress) -> None:
    """Hold the locks of all these runs, or wait with none."""
    while True:
        holders = [locks.enter_context(locked(path_of(config))) for config in configs]
        if not (others := [holder for holder in holders if holder]):
            return
        locks.close()
        progress.stage(f"waiting for {others[0]}, which measures one of them")
        with interruptible():
            time.sleep(POLL_S)


def _measure(configs: Sequence[RunConfig], session: Runs, progress: Progress) -> list[Record]:
    """The saved records of one run, or of several in turns."""
    if not configs:
        return []
    try:
        if len(configs) == 1:
            return _saved(configs, [session.run(configs[0], progress)])
        return _saved(configs, session.run_in_turns(configs, progress))
    except KeyboardInterrupt as interrupt:
        partial: Record | None = getattr(interrupt, "record", None)
        # A result from before (force=true) is worth more than the note that nothing came of this.
        if partial and store.finished(path_of(configs[0])) is None:
            _saved(configs[:1], [partial])
        raise


def _saved(configs: Sequence[RunConfig], records: list[Record]) -> list[Record]:
    for config, record in zip(configs, records, strict=True):
        unsaved.keep_record(Path(config.results_dir), record)
    return records


def summary(record: Record, title: str) -> str:
    """One line on how a run ended."""
    head = f"{record.status:11} {title}"
    online = rows.phase_spread(record, "online")
    if online is None:
        short = OUTSIDE if (record.error or "").startswith(OUTSIDE) else record.error
        return f"{head}: {short or 'no measurement'}"  # the table says how far outside
    payload = format_bytes(rows.payload_bytes(record, "online"))
    hops = record.phases["online"].hops
    count = "" if hops is None else f", {hops} hops"
    tail = f": {format_spread(online)}, {payload}{count}"
    off = ", link outside tolerance" if outside(record) else ""
    return head + tail + off + (f" · {record.error}" if record.error else "")


def exit_code(records: Sequence[Record]) -> int:
    """1 if a run failed, timed out, gave a wrong answer or could not be saved, else 0."""
    return int(unsaved.any_left() or any(record.status in BAD for record in records))
