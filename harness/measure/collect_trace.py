"""From what the parties of a traced run sent to its trace."""

from collections.abc import Mapping, Sequence

import numpy as np
from torch import Tensor

from harness.errors import TraceError
from harness.measure.evaluation import Evaluation, JobResult
from harness.parties.job import Shaping
from harness.parties.trace_recorder import COLUMNS, END
from harness.replay.trace import DelayedStep, Ints, RoleTrace, Step, Times, Trace, check
from protocols.party import Role

# Links that a traced run over unshaped ones is evaluated over too, for what a wait costs: delays and any
# rate.
DELAYS_S = (0.2e-3, 0.4e-3, 1.5e-3, 6e-3, 20e-3)
DELAYED_LINKS = tuple(Shaping.of_delay(delay_s) for delay_s in DELAYS_S)

_Recorded = tuple[Ints, list[Ints]]  # of each occurrence of the online phase: its begin, its rows


def collect(
    result: JobResult,
    record_id: str,
    online_roles: Sequence[Role],
    shaped: bool,
) -> Trace:
    """The trace of the measured evaluations, and of those over each of `DELAYED_LINKS`, if there were any.

    result: of the whole job. Raises TraceError where evaluations differ in more than time.
    """
    occurrences = sum(len(done.starts_ns) for done in result.evaluations)
    recorded = {role: _recorded(role, sent, occurrences) for role, sent in result.traces.items()}
    own = result.over(None)
    steps = _steps(recorded, own.evaluations[own.warmup :])
    delayed = [
        DelayedStep(delay_s, step)
        for delay_s, links in zip(DELAYS_S, DELAYED_LINKS, strict=True)
        for step in _steps(recorded, result.over(links).evaluations)
    ]
    return check(Trace(record_id, tuple(online_roles), shaped, tuple(steps), tuple(delayed)))


def _steps(recorded: Mapping[Role, _Recorded], evaluations: Sequence[Evaluation]) -> list[Step]:
    """Each step of some evaluations, which have the same ones."""
    steps = []
    for step in range(len(evaluations[0].starts_ns) if evaluations else 0):
        where = [done.first + step for done in evaluations]
        roles = {role: _role_trace(role, phases, where) for role, phases in recorded.items()}
        starts = [done.starts_ns[step]["online"] for done in evaluations]
        steps.append(Step(np.array(starts, np.int64), roles))
    return steps


def _recorded(role: Role, sent: tuple[Tensor, ...], occurrences: int) -> _Recorded:
    begins, rows = (tensor.numpy() for tensor in sent)
    if rows.ndim != 2 or rows.shape[1] != COLUMNS:
        raise TraceError(f"{role} sent a trace of shape {rows.shape}")
    ends = (rows[:, 0] == END).nonzero()[0] + 1
    if not len(begins) == len(ends) == occurrences:
        raise TraceError(f"{role} traced {len(ends)} online phases of {occurrences}")
    return begins, np.split(rows, ends[:-1])


def _role_trace(role: Role, recorded: _Recorded, occurrences: Sequence[int]) -> RoleTrace:
    """One step's occurrences: one in each result."""
    begins, rows = recorded[0][occurrences], [recorded[1][number] for number in occurrences]
    operations = rows[0][:, :3]
    if any(not np.array_equal(other[:, :3], operations) for other in rows):
        raise TraceError(f"the messages of {role} differ between evaluations")
    times = np.stack(rows)[:, :, 3:]
    kind, peer, wire_bytes = operations.T
    return RoleTrace(kind, peer, wire_bytes, Times(*np.moveaxis(times, 2, 0)), begins)
