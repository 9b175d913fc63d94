"""From what the parties of a traced run sent to its trace."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from harness.errors import TraceError
from harness.measure.evaluation import Evaluation, JobResult
from harness.parties.job import Shaping
from harness.parties.trace_recorder import COLUMNS, END, FIXED
from harness.replay.trace import DelayedStep, Ints, RoleTrace, Step, Times, Trace, check
from protocols.party import Role

# Of links that a traced run over unshaped ones is evaluated over too, for what a wait costs; any rate.
DELAYS_S = (0.2e-3, 0.4e-3, 1.5e-3, 6e-3, 20e-3)
MAX_LABEL = 200  # characters


def links_of_delays(roles: Collection[Role]) -> tuple[Shaping, ...]:
    """Of a run of these roles: links with each of `DELAYS_S`."""
    return tuple(Shaping.of_delay(delay_s, roles) for delay_s in DELAYS_S)


@dataclass(frozen=True)
class _Recorded:
    """Of each occurrence of the online phase of one role its begin and its rows; the table of labels."""

    begins: Ints
    rows: list[Ints]
    labels: list[str]


def collect(
    result: JobResult,
    record_id: str,
    online_roles: Sequence[Role],
    shaped: bool,
) -> Trace:
    """The trace of the measured evaluations, and of those over each of `links_of_delays`, if there were any.

    result: of the whole job. Raises TraceError where evaluations differ in more than time.
    """
    occurrences = sum(len(done.starts_ns) for done in result.evaluations)
    recorded = {role: _recorded(role, sent, occurrences) for role, sent in result.traces.items()}
    own = result.over(None)
    steps = _steps(recorded, own.evaluations[own.warmup :])
    delayed = [
        DelayedStep(delay_s, step)
        for delay_s, links in zip(DELAYS_S, links_of_delays(recorded), strict=True)
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
    begins, rows, packed = (tensor.numpy() for tensor in sent)
    if rows.ndim != 2 or rows.shape[1] != COLUMNS:
        raise TraceError(f"{role} sent a trace of shape {rows.shape}")
    ends = (rows[:, 0] == END).nonzero()[0] + 1
    if not len(begins) == len(ends) == occurrences:
        raise TraceError(f"{role} traced {len(ends)} online phases of {occurrences}")
    return _Recorded(begins, np.split(rows, ends[:-1]), _labels(role, packed.tobytes()))


def _labels(role: Role, packed: bytes) -> list[str]:
    try:
        labels = json.loads(packed)
    except ValueError:
        raise TraceError(f"{role} sent labels that are no JSON") from None
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise TraceError(f"{role} sent labels that are no list of text")
    if not all(label.isprintable() and len(label) <= MAX_LABEL for label in labels):
        raise TraceError(
            f"{role} sent a label that is not printable, or over {MAX_LABEL} characters"
        )
    return labels


def _role_trace(role: Role, recorded: _Recorded, occurrences: Sequence[int]) -> RoleTrace:
    """One step's occurrences: one in each result."""
    rows = [recorded.rows[number] for number in occurrences]
    operations = rows[0][:, :FIXED]
    if any(not np.array_equal(other[:, :FIXED], operations) for other in rows):
        raise TraceError(f"the messages of {role} differ between evaluations")
    times = Times(*np.moveaxis(np.stack(rows)[:, :, FIXED:], 2, 0))
    kind, peer, wire_bytes, payload_bytes, places = operations.T
    if not ((places >= 0) & (places < len(recorded.labels))).all():
        raise TraceError(f"{role} sent a label that is not in its table")
    labels = tuple(recorded.labels[place] for place in places)
    begins = recorded.begins[list(occurrences)]
    return RoleTrace(kind, peer, wire_bytes, payload_bytes, labels, times, begins)
