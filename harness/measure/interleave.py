"""Several runs at once, evaluation by evaluation in turns: forwards, backwards, and so on.

A shared machine is faster in one minute and slower in another. Runs that take turns have the same
minutes, so that their ratios hold where their times would not. Runs that differ in their links alone
are one job on the same parties; those of several systems have parties each, which sleep while it is
not their turn.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from harness.config.program_files import check_programs, program_file
from harness.errors import PartyFailure, TraceError
from harness.measure.evaluation import ActiveJob, JobResult, texts
from harness.measure.external_runs import (
    ActivePrograms,
    measure_program_links,
)
from harness.measure.run import (
    FAILURES,
    MeasuredLinks,
    Outcome,
    Run,
    delayed_links,
    ended_by,
    evaluate_after_waits,
    measure_links,
    outcome_of,
    record_of,
)
from harness.measure.verify import Answers
from harness.parties.group import PartyGroup
from harness.parties.job import Shaping
from harness.progress import Progress
from harness.records.record import Record
from protocols.party import Role

T = TypeVar("T")


def in_turn(items: Sequence[T], number: int) -> Sequence[T]:
    """The order of turn `number`: A B C, C B A, …, so that none always follows the same other."""
    return items[:: 1 if number % 2 == 0 else -1]


def measure_in_turns(
    runs: Sequence[Run],
    parties: Callable[[int], PartyGroup],
    close: Callable[[int], None],
    answers: Answers,
    progress: Progress,
) -> list[Record]:
    """Measure `runs`, which are asked for as many evaluations each. What goes wrong with one is in its
    record, and the others go on.

    parties: starts those of the run at a place, or gives them again. close: ends them.
    """
    kinds = [_ExternalEntrant if run.external else _Entrant for run in runs]
    entrants = [
        kind(run, place, parties, close)
        for place, (kind, run) in enumerate(zip(kinds, runs, strict=True))
    ]
    for entrant in entrants:
        entrant.attempt(lambda each: each.begin(progress))
    for entrant in entrants:
        entrant.attempt(lambda each: each.prepare(progress))
    config = runs[0].config
    for number, text in enumerate(texts(config.repeat, config.warmup)):
        for entrant in in_turn(entrants, number):
            system = entrant.run.config.system.name
            entrant.attempt(lambda each: each.evaluate(f"{text}, {system}"))  # noqa: B023
    for entrant in entrants:
        entrant.attempt(lambda each: each.finish(answers, progress))
    return [entrant.record for entrant in entrants if entrant.record]


class _Entrant:
    """One of the runs that take turns. record: once it has ended, well or badly."""

    record: Record | None = None
    _links: MeasuredLinks | None = None
    _measure_links = staticmethod(measure_links)

    def __init__(
        self,
        run: Run,
        place: int,
        parties: Callable[[int], PartyGroup],
        close: Callable[[int], None],
    ) -> None:
        self.run, self._place, self._start, self._close = run, place, parties, close
        self._logs: Mapping[Role, Iterable[str]] = {}

    def attempt(self, act: "Callable[[_Entrant], None]") -> None:
        """Go on with it, unless it has ended; a failure ends it, and its parties."""
        if self.record is not None:
            return
        try:
            act(self)
        except FAILURES as failure:
            outcome = ended_by(failure, self.run, self._logs)
            self.record = record_of(self.run, outcome, self._links)
            self._leave()
            if outcome.status != "unsupported":
                self._close(self._place)

    def begin(self, progress: Progress) -> None:
        """Parties, and their links."""
        self._check()
        self._parties = self._start(self._place)
        self._logs = self._parties.logs
        self._links = self._measure_links(self.run, self._parties, self._roles, progress)
        if refusal := self._links.refusal(self.run):
            self.record = record_of(self.run, Outcome("failed", refusal), self._links)

    def prepare(self, progress: Progress) -> None:
        """The job, up to its first evaluation."""
        self._job = ActiveJob(self._parties, self.run.job, progress)

    def evaluate(self, text: str) -> None:
        """One evaluation."""
        self._job.evaluate(text)

    def finish(self, answers: Answers, progress: Progress) -> None:
        """What a traced run is evaluated over besides, and the record."""
        assert self._links is not None
        evaluate_after_waits(self.run, self._links, self._job)
        result = self._job.finish(self.run.config.warmup)
        outcome = outcome_of(self.run, self._links, result, answers, progress)
        self.record = record_of(self.run, outcome, self._links)

    def _leave(self) -> None:
        """End what lives for its job alone."""

    def _check(self) -> None:
        self.run.check()

    @property
    def _roles(self) -> Sequence[Role]:
        """Those between which links are measured."""
        return self.run.online_roles


class _ExternalEntrant(_Entrant):
    """One whose programs take the parties' place."""

    _measure_links = staticmethod(measure_program_links)
    _active: ActivePrograms | None = None

    def prepare(self, progress: Progress) -> None:
        """Nothing yet: programs are started for an evaluation."""
        self._active = ActivePrograms(self.run, self._parties, progress)

    def evaluate(self, text: str) -> None:
        """One evaluation."""
        assert self._active is not None
        self._active.evaluate(text)

    def finish(self, answers: Answers, progress: Progress) -> None:
        """The record."""
        assert self._active is not None
        self.record = record_of(self.run, self._active.finish(), self._links)
        self._leave()

    def _leave(self) -> None:
        if self._active is not None:
            self._active.close()

    def _check(self) -> None:
        check_programs(self.run.config)

    @property
    def _roles(self) -> Sequence[Role]:
        return tuple(program_file(self.run.config).roles)


def measure_interleaved(
    runs: Sequence[Run], parties: PartyGroup, answers: Answers, progress: Progress
) -> list[Record]:
    """Measure `runs`, which differ in network, shaper and trace alone, as often as the first says; its
    links, and what it is traced over, have their turns too. One whose link is refused is left out.

    No two may have the same links: what went over them tells whose an evaluation is. Raises PartyFailure.
    """
    first, roles = runs[0], runs[0].online_roles
    # The first run's links are measured last: the parties keep them.
    others = [(run, measure_links(run, parties, roles, progress)) for run in runs[1:]]
    links = measure_links(first, parties, roles, progress)
    if refusal := links.refusal(first):
        return [_refused(run, known, refusal) for run, known in ((first, links), *others)]
    fit = [run for run, known in others if not known.refusal(run)]
    result = _evaluated(first, fit, links, parties, progress)
    records = [_record(first, links, result, answers, progress, None)]
    for run, known in others:
        if known.refusal(run):
            records.append(_refused(run, known, ""))
        else:
            records.append(_record(run, known, result, answers, progress, run.shaping))
    return records


def _evaluated(
    first: Run, others: Sequence[Run], links: MeasuredLinks, parties: PartyGroup, progress: Progress
) -> JobResult:
    """All evaluations, over each run's links in turns, forwards and backwards."""
    active_job = ActiveJob(parties, first.job, progress)
    all_links = [None, *delayed_links(first, links), *(run.shaping for run in others)]
    warmup, repeat = first.config.warmup, first.config.repeat
    for number, text in enumerate(texts(repeat, warmup), start=-warmup):
        if number < 0:
            active_job.evaluate(text)
            continue
        for place, shaping in enumerate(in_turn(all_links, number), start=1):
            active_job.evaluate(f"{text}, links {place}/{len(all_links)}", links=shaping)
    return active_job.finish(warmup)


def _record(
    run: Run,
    links: MeasuredLinks,
    result: JobResult,
    answers: Answers,
    progress: Progress,
    own_links: Shaping | None,
) -> Record:
    """One run's part of the job; a failure is its own."""
    try:
        outcome = outcome_of(run, links, result, answers, progress, own_links)
    except (PartyFailure, TraceError) as failure:
        outcome = Outcome("failed", str(failure))
    return record_of(run, outcome, links)


def _refused(run: Run, links: MeasuredLinks, first_refusal: str) -> Record:
    """A run that had no turn: its own links were refused, or those of the job's first run."""
    error = links.refusal(run) or f"with the other runs of its job: {first_refusal}"
    return record_of(run, Outcome("failed", error), links)
