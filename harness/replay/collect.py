"""From what the parties of a traced run sent to its trace."""

from collections.abc import Mapping, Sequence

import numpy as np
from torch import Tensor

from harness.evaluation import Evaluation, Round
from harness.job import Shaping
from harness.replay.trace import END, Ints, Program, Rested, Step, Times, Trace, TraceError, check
from harness.replay.tracer import COLUMNS
from protocols.party import Role

# What a traced run over unshaped links is walked over too, for what a wait costs: delays and any rate.
RESTS_S = (0.2e-3, 0.4e-3, 1.5e-3, 6e-3, 20e-3)
RESTS = tuple(Shaping.of_delay(delay_s) for delay_s in RESTS_S)

_Heard = tuple[Ints, list[Ints]]  # of each occurrence of the online phase: its begin, its rows


def collect(
    evaluation: Evaluation,
    record_id: str,
    online_roles: Sequence[Role],
    shaped: bool,
) -> Trace:
    """The trace of the measured evaluations, and of those over each of `RESTS`, if there were any.

    evaluation: all of the job. Raises TraceError where evaluations differ in more than time.
    """
    occurrences = sum(len(done.starts_ns) for done in evaluation.rounds)
    heard = {role: _heard(role, sent, occurrences) for role, sent in evaluation.traces.items()}
    own = evaluation.over(None)
    steps = _steps(heard, own.rounds[own.warmup :])
    rested = [
        Rested(delay_s, step)
        for delay_s, links in zip(RESTS_S, RESTS, strict=True)
        for step in _steps(heard, evaluation.over(links).rounds)
    ]
    return check(Trace(record_id, tuple(online_roles), shaped, tuple(steps), tuple(rested)))


def _steps(heard: Mapping[Role, _Heard], rounds: Sequence[Round]) -> list[Step]:
    """Each step of some evaluations, which have the same ones."""
    steps = []
    for step in range(len(rounds[0].starts_ns) if rounds else 0):
        where = [done.first + step for done in rounds]
        programs = {role: _program(role, phases, where) for role, phases in heard.items()}
        starts = [done.starts_ns[step]["online"] for done in rounds]
        steps.append(Step(np.array(starts, np.int64), programs))
    return steps


def _heard(role: Role, sent: tuple[Tensor, ...], occurrences: int) -> _Heard:
    begins, rows = (tensor.numpy() for tensor in sent)
    if rows.ndim != 2 or rows.shape[1] != COLUMNS:
        raise TraceError(f"{role} sent a trace of shape {rows.shape}")
    ends = (rows[:, 0] == END).nonzero()[0] + 1
    if not len(begins) == len(ends) == occurrences:
        raise TraceError(f"{role} traced {len(ends)} online phases of {occurrences}")
    return begins, np.split(rows, ends[:-1])


def _program(role: Role, heard: _Heard, occurrences: Sequence[int]) -> Program:
    """One step's occurrences: one in each evaluation."""
    begins, rows = heard[0][occurrences], [heard[1][number] for number in occurrences]
    operations = rows[0][:, :3]
    if any(not np.array_equal(other[:, :3], operations) for other in rows):
        raise TraceError(f"the messages of {role} differ between evaluations")
    times = np.stack(rows)[:, :, 3:]
    kind, peer, wire_bytes = operations.T
    return Program(kind, peer, wire_bytes, Times(*np.moveaxis(times, 2, 0)), begins)
