"""Several runs as one job: evaluation by evaluation in turns, on the same parties, over their own links.

A shared machine is faster in one minute and slower in another. Runs that take turns have the same
minutes, so that their ratios hold where their times would not.
"""

from collections.abc import Sequence

from harness.crew import Crew, PartyFailure
from harness.evaluation import texts
from harness.replay.trace import TraceError
from harness.run import Run
from harness.verify import Answers


def measure_in_turns(runs: Sequence[Run], crew: Crew, answers: Answers) -> None:
    """Measure `runs`, which differ in network, shaper and trace alone, as often as the first says; its
    links, and what it is traced over, have their turns too. One whose link is refused is left out.

    No two may have the same links: what went over them tells whose an evaluation is. Raises PartyFailure.
    """
    first, *others = runs
    roles = first.system.online_roles
    fit = [run for run in others if run.measure_links(crew, roles)]
    for run in fit:
        run.links = run.shaping
    if not first.measure_links(crew, roles):
        return
    course = first.begin(crew)
    turns = [None, *first.rests(), *(run.links for run in fit)]
    warmup, repeat = first.config.warmup, first.config.repeat
    for number, text in enumerate(texts(repeat, warmup), start=-warmup):
        if number < 0:
            course.round(text)
            continue
        for place, links in enumerate(turns[:: 1 if number % 2 == 0 else -1], start=1):
            course.round(f"{text}, links {place}/{len(turns)}", links=links)
    evaluation = course.end(warmup)
    for run in (first, *fit):
        try:
            run.take(evaluation, answers)
        except (PartyFailure, TraceError) as failure:
            run.end("failed", str(failure))
