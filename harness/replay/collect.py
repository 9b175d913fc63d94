"""From what the parties of a traced run sent to its trace."""

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from harness.evaluation import Evaluation
from harness.replay.trace import END, Ints, Program, Step, Times, Trace, TraceError, check
from harness.replay.tracer import COLUMNS
from protocols.party import Role

_Heard = tuple[Ints, list[Ints]]  # of each occurrence of the online phase: its begin, its rows


def collect(
    evaluation: Evaluation, record_id: str, online_roles: Sequence[Role], shaped: bool
) -> Trace:
    """The trace of the measured evaluations. Raises TraceError where they differ in more than time."""
    starts = [[s["online"] for s in done.starts_ns] for done in evaluation.rounds]
    heard = {role: _heard(role, sent, starts) for role, sent in evaluation.traces.items()}
    first, steps = sum(len(s) for s in starts[: evaluation.warmup]), len(starts[-1])
    start_ns = np.array(starts[evaluation.warmup :], np.int64)
    made = []
    for step in range(steps):
        where = slice(first + step, None, steps)
        programs = {role: _program(role, phases, where) for role, phases in heard.items()}
        made.append(Step(start_ns[:, step], programs))
    return check(Trace(record_id, tuple(online_roles), shaped, tuple(made)))


def _heard(role: Role, sent: tuple[Tensor, ...], starts: Sequence[Sequence[int]]) -> _Heard:
    begins, rows = (tensor.numpy() for tensor in sent)
    if rows.ndim != 2 or rows.shape[1] != COLUMNS:
        raise TraceError(f"{role} sent a trace of shape {rows.shape}")
    ends = (rows[:, 0] == END).nonzero()[0] + 1
    if not len(begins) == len(ends) == sum(map(len, starts)):
        raise TraceError(f"{role} traced {len(ends)} online phases of {sum(map(len, starts))}")
    return begins, np.split(rows, ends[:-1])


def _program(role: Role, heard: _Heard, occurrences: slice) -> Program:
    """One step's occurrences: one in each evaluation."""
    begins, rows = heard[0][occurrences], heard[1][occurrences]
    operations = rows[0][:, :3]
    if any(not np.array_equal(other[:, :3], operations) for other in rows):
        raise TraceError(f"the messages of {role} differ between evaluations")
    times = np.stack(rows)[:, :, 3:]
    kind, peer, wire_bytes = operations.T
    return Program(kind, peer, wire_bytes, Times(*np.moveaxis(times, 2, 0)), begins)
