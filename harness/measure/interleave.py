"""Several runs as one job: evaluation by evaluation in turns, on the same parties, over their own links.

A shared machine is faster in one minute and slower in another. Runs that take turns have the same
minutes, so that their ratios hold where their times would not.
"""

from collections.abc import Sequence

from harness.errors import PartyFailure, TraceError
from harness.measure.evaluation import ActiveJob, JobResult, texts
from harness.measure.run import (
    MeasuredLinks,
    Outcome,
    Run,
    delayed_links,
    measure_links,
    outcome_of,
    record_of,
)
from harness.measure.verify import Answers
from harness.parties.group import PartyGroup
from harness.parties.job import Shaping
from harness.progress import Progress
from harness.records.record import Record


def measure_interleaved(
    runs: Sequence[Run], parties: PartyGroup, answers: Answers, progress: Progress
) -> list[Record]:
    """Measure `runs`, which differ in network, shaper and trace alone, as often as the first says; its
    links, and what it is traced over, have their turns too. One whose link is refused is left out.

    No two may have the same links: what went over them tells whose an evaluation is. Raises PartyFailure.
    """
    first, roles = runs[0], runs[0].system.online_roles
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
        ordered = all_links[:: 1 if number % 2 == 0 else -1]
        for place, shaping in enumerate(ordered, start=1):
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
