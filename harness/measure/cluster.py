"""Runs spread over jobs (extra `cluster`): processes of this machine, or a Slurm cluster.

Each job measures some of the runs one after the other, with parties of its own, and saves their
records where a sweep without jobs would: in results_dir, which all machines must share.
"""

import os
import time
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import submitit
from hydra_plugins.hydra_submitit_launcher.config import BaseQueueConf

from harness.config.call_keys import LAUNCHER, Call, Launcher
from harness.config.config_hash import config_hash, resolved, restored
from harness.config.schema import RunConfig
from harness.errors import ConfigError
from harness.machine.interrupts import end_in_good_order
from harness.measure import sweep as runs
from harness.measure.unsaved import keep_record
from harness.progress import PlainProgress, Progress
from harness.records import store
from harness.records.record import NetworkRecord, Record
from harness.records.reuse import why_again

POLL_S = 0.5
END_S = 10.0  # for a job's parties to end
LOG_LINES = 40


class Chunk:
    """The runs of one job. Pickled, it is plain data; called, it measures what is left to do."""

    def __init__(self, configs: Sequence[RunConfig], continue_on_error: bool) -> None:
        self._left = {config_hash(config): resolved(config) for config in configs}
        self._continue = continue_on_error
        self._folder = Path.cwd()  # results_dir may be relative

    def __call__(self) -> None:
        """Measure and save."""
        from harness.measure.session import Session  # noqa: PLC0415 - torch, and only in a job

        # A cancelled job is told by SIGTERM, which submitit ignores: its parties must end too.
        end_in_good_order()
        os.chdir(self._folder)
        plan = runs.plan([restored(data) for data in self._left.values()])
        with closing(runs.measured_here(plan, Session, PlainProgress())) as records:
            for record in records:
                del self._left[record.id]
                if record.status in runs.BAD and not self._continue:
                    return

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        """What submitit submits again where a job ran out of time (max_num_timeout)."""
        return submitit.helpers.DelayedSubmission(self)


@dataclass(frozen=True)
class Awaited:
    """A run that a job has taken on. before: its file until now, to tell when a new one comes."""

    config: RunConfig
    path: Path
    before: store.Stamp
    job: "submitit.Job[None]"

    def record(self) -> Record | None:
        """The new record, if it has come."""
        return (
            None if store.stamp(self.path) in (None, self.before) else store.load_or_warn(self.path)
        )

    def stored(self) -> Record | None:
        """A result that another call had stored before the job came to it."""
        found = None if self.config.force else store.finished(self.path)
        return found if found and why_again(self.config, found) is None else None


def measured_by_jobs(plan: runs.Plan, call: Call, progress: Progress) -> runs.Measured:
    """Submit jobs, and yield the records as they come. What still runs at the end is cancelled.

    A run whose job ended without it becomes a failed record. Raises ConfigError where nothing can
    be submitted.
    """
    if not plan.pending:
        return
    configs = list(plan.pending.values())
    executor = _executor(call.launcher, Path(configs[0].results_dir))
    count = min(call.config.sweep.jobs, len(configs))
    progress.run(1, len(configs), f"{count} jobs of {call.launcher.name}")
    jobs: list[submitit.Job[None]] = []
    awaited: dict[str, Awaited] = {}
    try:
        for number in range(count):
            progress.stage(f"submitting job {number + 1}")
            # Dealt like cards: neighbours in a sweep cost about the same.
            taken = _submit(executor, configs[number::count], call)
            jobs.append(next(iter(taken.values())).job)
            awaited |= taken
        yield from _gathered(awaited, plan.titles, progress)
    finally:
        _end(jobs, {entry.job.job_id for entry in awaited.values()})
        with suppress(OSError):
            Path(executor.folder).rmdir()  # submitit's controller makes one called %j, too


def _submit(
    executor: submitit.AutoExecutor, configs: Sequence[RunConfig], call: Call
) -> dict[str, Awaited]:
    ids = [config_hash(config) for config in configs]
    paths = [runs.path_of(config) for config in configs]
    before = [store.stamp(path) for path in paths]
    try:
        job = executor.submit(Chunk(configs, call.config.continue_on_error))
    except (RuntimeError, OSError) as error:
        raise ConfigError(LAUNCHER, f"the job is refused: {error}") from None
    entries = (Awaited(*entry, job) for entry in zip(configs, paths, before, strict=True))
    return dict(zip(ids, entries, strict=True))


def _gathered(
    awaited: dict[str, Awaited], titles: dict[str, str], progress: Progress
) -> runs.Measured:
    """The records as they come; each leaves `awaited`."""
    total = len(awaited)
    while awaited:
        ended = {entry.job.job_id for entry in awaited.values() if entry.job.done()}
        _refresh({entry.path.parent for entry in awaited.values()})
        for record_id, entry in list(awaited.items()):
            record = entry.record()
            if record is None and entry.job.job_id in ended:
                record = entry.stored() or _lost(record_id, entry)
            if record is None:
                continue
            del awaited[record_id]
            progress.done(runs.summary(record, titles[record_id]))
            yield record
            _show(awaited, total, progress)
        time.sleep(POLL_S)


def _show(awaited: dict[str, Awaited], total: int, progress: Progress) -> None:
    if awaited:
        jobs = len({entry.job.job_id for entry in awaited.values()})
        progress.run(total - len(awaited) + 1, total, f"{jobs} jobs at work")


def _lost(record_id: str, entry: Awaited) -> Record:
    """What is known of a run whose job has ended without it, saved where nothing better is."""
    config, job = entry.config, entry.job
    log = (job.stderr() or "").splitlines()[-LOG_LINES:]
    last = f": {log[-1].strip()}" if log else ""
    profile = {f"{a}>{b}": asdict(link) for (a, b), link in config.profiles().items()}
    record = Record(
        id=record_id,
        config=resolved(config),
        status="failed",
        error=f"job {job.job_id} ended without it{last}",
        network=NetworkRecord(config.network.name, profile),
        phases={},
        steps=[],
        correctness=None,
        environment={"date": datetime.now(UTC).isoformat(timespec="seconds")},
        logs={"job": log},
    )
    folder = Path(config.results_dir)
    if store.finished(entry.path) is None:
        keep_record(folder, record)
    return record


def _end(jobs: Sequence["submitit.Job[None]"], busy: set[str]) -> None:
    """Cancel the jobs that are `busy`, and let all of them end their parties."""
    for job in jobs:
        if job.job_id in busy and not job.done():
            job.cancel(check=False)
    deadline = time.monotonic() + END_S
    while time.monotonic() < deadline and not all(job.done() for job in jobs):
        time.sleep(POLL_S / 5)


def _executor(launcher: Launcher, results_dir: Path) -> submitit.AutoExecutor:
    """submitit's executor under the keys of Hydra's launcher plugin."""
    cluster = launcher.name.removeprefix("submitit_")
    given = dict(launcher.parameters)
    folder = results_dir / given.pop("submitit_folder")
    made = {key: given.pop(key) for key in ("max_num_timeout",) if key in given}
    shared = {f.name for f in fields(BaseQueueConf)}
    try:
        executor = submitit.AutoExecutor(folder, cluster, **_named(made, cluster, set()))
    except RuntimeError as error:
        raise ConfigError(LAUNCHER, f"{launcher.name} cannot be used here: {error}") from None
    executor.update_parameters(**_named(given, cluster, shared))
    return executor


def _named(parameters: dict[str, Any], cluster: str, shared: set[str]) -> dict[str, Any]:
    """Keys as submitit wants them: those of one kind of cluster begin with its name."""
    return {
        key if key in shared else f"{cluster}_{key}": value for key, value in parameters.items()
    }


def _refresh(folders: set[Path]) -> None:
    """Shared file systems show new files late, unless their folder is opened."""
    for folder in folders:
        if folder.is_dir():
            os.listdir(folder)
