"""Runs of `system=external`: programs of others, measured from outside.

permbench's own parties measure the links and then sleep; the programs take their places on the same links.
One evaluation:

    start → all ready     phase prepare
    go → answer           phase online; where there is a marker `offline`, what comes before it is offline

`go` is a line on each program's standard input, if the file asks for it. Without it the time begins with
the last ready line, and links are slow from the start: nobody can tell what is sent before.
"""

import json
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import cast

from torch import Tensor

from baselines.external import answers, input_file
from baselines.external.program_file import OFFLINE, PROGRAM, AnswerRule, ProgramFile
from harness.config.program_files import program_file, python_for
from harness.errors import PartyFailure
from harness.measure.evaluation import texts
from harness.measure.external_samples import (
    Boundary,
    Sample,
    parts,
    phase_records,
    varying_counts,
)
from harness.measure.program_links import links_of
from harness.measure.run import MeasuredLinks, Outcome, Run, measure_links, record_of
from harness.parties.group import PartyGroup
from harness.parties.programs import DONE, MARKER, Programs
from harness.progress import Progress
from harness.records.record import Correctness, Record
from harness.registry import system_class
from harness.runners.guarded import Usage
from harness.runners.program_runner import ProgramRunner
from protocols.expected_answer import answer
from protocols.party import Role
from protocols.workload import Workload

COUNT_LOG = "counts"  # of a record: in which evaluations other bytes were sent
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
BOUNDARIES = (f"{MARKER}{OFFLINE}", DONE)  # lines that end a phase, in their order
SHOWN = 60  # characters of a wrong answer


class ActivePrograms:
    """The programs of one run under way, on the group's links; none is left after `close`.

    Raises PartyFailure, RunnerError, Unsupported from every call.
    """

    def __init__(self, run: Run, parties: PartyGroup, progress: Progress) -> None:
        self._run, self._parties, self._progress = run, parties, progress
        self._file = program_file(run.config)
        self._links = links_of(parties, run.shaping)
        self._runner = cast(ProgramRunner, parties.runner)
        self._folder = tempfile.TemporaryDirectory(prefix="permbench-external-")
        self._values = _values(run, self._file, Path(self._folder.name))
        self._programs: Programs | None = None  # that stay
        self._samples: list[Sample] = []

    def close(self) -> None:
        """End what still runs, and remove the run's folder."""
        self._runner.end_programs()
        self._folder.cleanup()

    def evaluate(self, text: str) -> None:
        """One evaluation, which the progress shows as `text`."""
        start = None
        slow_from_start = self._run.config.shape == "all" or not self._file.go
        self._links.switch(slow_from_start)
        if (programs := self._programs) is None:
            programs, start = self._started()
        begin_ns = programs.wait_ready()
        self._progress.stage(text)
        begin = self._begun(programs, begin_ns)
        self._samples.append(self._heard(programs, start, begin))
        self._programs = programs if self._file.stays else None
        if not self._file.stays:
            programs.finish()

    def finish(self) -> Outcome:
        """What all evaluations say, verified."""
        if self._programs is not None:
            self._programs.finish()
        self._progress.stage("checking the answer")
        outcome = _outcome(self._run, self._file, self._samples)
        if problems := self._links.problems():
            return replace(outcome, status="failed", error="; ".join(problems))
        return outcome

    def _started(self) -> tuple[Programs, Boundary]:
        self._progress.stage("starting programs")
        config = self._run.config
        programs = Programs(
            self._file, self._runner, self._values, config.timeout_s, self._parties.logs
        )
        none = dict.fromkeys(self._file.roles, Usage())
        start = Boundary(time.monotonic_ns(), self._links.counts(), none)
        programs.start(_environment(config.threads))
        return programs, start

    def _begun(self, programs: Programs, ready_ns: int) -> Boundary:
        """The begin of what is timed: all are ready, or are told to go."""
        if not self._file.go:
            return self._boundary(programs, ready_ns)
        self._links.switch(True)
        before = self._boundary(programs, time.monotonic_ns())
        return replace(before, at_ns=programs.go())

    def _heard(self, programs: Programs, start: Boundary | None, begin: Boundary) -> Sample:
        found: dict[str, Boundary] = {}

        def mark(key: str, at_ns: int) -> None:
            if key in BOUNDARIES:
                found[key] = self._boundary(programs, at_ns)

        heard = programs.wait_answer(mark)
        between = [found[key] for key in BOUNDARIES if key in found]
        if missing := [name for name in self._file.markers if name not in heard.markers]:
            role = self._file.answer.role
            text = f"{role} answered without marker {missing[0]}: no line matches its pattern"
            raise PartyFailure(text)
        since = {name: at_ns - begin.at_ns for name, at_ns in heard.markers.items()}
        return Sample(parts(start, [begin, *between]), since, heard.answer)

    def _boundary(self, programs: Programs, at_ns: int) -> Boundary:
        """What had been sent at `at_ns`, a moment ago, and has been taken until now."""
        return Boundary(at_ns, self._links.counts(at_ns), programs.usages())


def measure_programs(run: Run, parties: PartyGroup, progress: Progress) -> Record:
    """Calibrate, evaluate, verify. Raises PartyFailure, RunnerError, Unsupported."""
    roles = tuple(program_file(run.config).roles)
    measured = measure_program_links(run, parties, roles, progress)
    if refusal := measured.refusal(run):
        return record_of(run, Outcome("failed", refusal), measured)
    with closing(ActivePrograms(run, parties, progress)) as active:
        for text in texts(run.config.repeat, run.config.warmup):
            active.evaluate(text)
        return record_of(run, active.finish(), measured)


def measure_program_links(
    run: Run, parties: PartyGroup, roles: Sequence[Role], progress: Progress
) -> MeasuredLinks:
    """The links that programs will have, measured by permbench's own parties. Raises PartyFailure."""
    links = links_of(parties, run.shaping)
    links.begin(on=True)
    measured = measure_links(run, parties, roles, progress)
    links.begin(on=False)
    return measured


def _values(run: Run, file: ProgramFile, folder: Path) -> dict[str, str]:
    """What the gaps of commands are filled with, but for places. Raises Unsupported."""
    config = run.config
    values = {"threads": config.threads, "seed": config.seed, "folder": folder}
    values |= {"experiment": config.experiment.name, "workload": "{}", "inputs": ""}
    values["python"] = python_for(file)
    if config.experiment.name != PROGRAM:
        work = {"kind": type(run.workload).__name__.lower(), **asdict(run.workload)}
        values["workload"] = json.dumps(work)
        if "inputs" in file.gaps:
            values["inputs"] = input_file.write(folder, run.workload, config.seed)
    return {name: str(value) for name, value in values.items()}


def _environment(threads: int) -> dict[str, str]:
    return {**dict.fromkeys(THREADS, str(threads)), "PYTHONUNBUFFERED": "1"}


def _outcome(run: Run, file: ProgramFile, samples: Sequence[Sample]) -> Outcome:
    """What all evaluations say, verified."""
    work = None if run.config.experiment.name == PROGRAM else run.workload
    measured, warmups = samples[run.config.warmup :], samples[: run.config.warmup]
    found, worst = _verified(run, file, samples, work)
    error = None
    if not found.ok:
        answer = worst if len(worst) <= SHOWN else f"{worst[:SHOWN]}…"
        error = f"{found.metric} {found.value:g}, allowed {found.tolerance:g}: {answer}"
    return Outcome(
        "ok" if found.ok else "incorrect",
        error,
        phase_records(tuple(file.roles), measured, warmups),
        correctness=found,
        markers={name: [s.markers[name] for s in measured] for name in file.markers} or None,
        logs={COUNT_LOG: [varies]} if (varies := varying_counts(measured)) else {},
    )


def _verified(
    run: Run, file: ProgramFile, samples: Sequence[Sample], work: Workload | None
) -> tuple[Correctness, str]:
    """The worst of all answers, and its text."""
    rule = file.answer
    right, exact = _right_answers(rule, work, run.config.seed)
    errors = [answers.error(rule, sample.answer, right) for sample in samples]
    worst = max(range(len(errors)), key=errors.__getitem__)
    value, text = errors[worst], samples[worst].answer
    far = None if exact is None else answers.error(rule, text, exact)
    metric, allowed = answers.metric(rule, work), rule.tolerance
    return Correctness(metric, value, allowed, value <= allowed, far), text


def _right_answers(
    rule: AnswerRule, work: Workload | None, seed: int
) -> tuple[Tensor | None, Tensor | None]:
    """What permbench's own experiment expects, and the exact answer where that is another; None: the file
    says what is right."""
    if work is None:
        return None, None
    exact = answer(work, seed)
    if rule.functions is None:
        return exact, None
    system = system_class(rule.functions)
    return system.plaintext(work, seed, system.Options()), exact
