"""Drive the parties through one job, and make records of what they report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from torch import Tensor

from harness.crew import Crew, PartyFailure
from harness.job import Job
from harness.progress import Progress
from harness.record import PhaseRecord, RolePhase, Sent
from netem.profile import LinkProfile
from protocols.party import Phase, Role


@dataclass(frozen=True)
class Evaluation:
    """What the parties reported.

    starts_ns: common starts of each occurrence of a phase (CLOCK_MONOTONIC). reports: each role's
    counts. outputs: of every measured or warm-up evaluation, each role's part of the answer.
    """

    starts_ns: dict[Phase, list[int]]
    reports: dict[Role, dict[str, Any]]
    outputs: list[dict[Role, Tensor]]


def evaluate(crew: Crew, job: Job, progress: Progress) -> Evaluation:
    """Run a job on a crew. Raises PartyFailure."""
    crew.tell("run", **job.to_json())
    starts: dict[Phase, list[int]] = {}
    outputs = []
    total = job.warmup + job.repeat
    for phase, text in [("prepare", "prepare"), *_evaluations(job)]:
        crew.gather("ready", progress.stage)
        progress.stage(text)
        starts.setdefault(phase, []).append(crew.go())
        if phase == "online":
            parts = crew.gather("output", progress.stage)
            outputs.append({role: n.tensors[0] for role, n in parts.items() if n.tensors})
    if len(outputs) != total:
        raise PartyFailure(f"{len(outputs)} answers of {total}")
    reports = {role: n.fields for role, n in crew.gather("result", progress.stage).items()}
    return Evaluation(starts, reports, outputs)


def _evaluations(job: Job) -> list[tuple[Phase, str]]:
    steps: list[tuple[Phase, str]] = []
    for i in range(job.warmup + job.repeat):
        n = i - job.warmup + 1
        name = f"measuring {n}/{job.repeat}" if n > 0 else f"warm-up {i + 1}/{job.warmup}"
        steps += [("offline", name), ("input", name), ("online", name)]
    return steps


def phase_records(
    evaluation: Evaluation, job: Job, profiles: Mapping[str, LinkProfile], unshaped: Sequence[Phase]
) -> dict[str, PhaseRecord]:
    """One record for each phase. Raises PartyFailure where samples differ in their counts."""
    return {
        phase: _phase_record(evaluation, phase, job.warmup, profiles, phase in unshaped)
        for phase in evaluation.starts_ns
    }


def _phase_record(
    evaluation: Evaluation,
    phase: Phase,
    warmup: int,
    profiles: Mapping[str, LinkProfile],
    computed: bool,
) -> PhaseRecord:
    counts = {role: r["phases"][phase] for role, r in evaluation.reports.items()}
    starts = evaluation.starts_ns[phase]
    walls = [
        max(samples[i]["end_ns"] for samples in counts.values()) - start
        for i, start in enumerate(starts)
    ]
    skip = warmup if len(walls) > warmup and phase != "prepare" else 0
    hops = _equal(phase, [max(c[i]["depth"] for c in counts.values()) for i in range(len(starts))])
    roles = {
        role: RolePhase(
            cpu_ns=[sample["cpu_ns"] for sample in samples[skip:]],
            peak_rss_bytes=evaluation.reports[role]["peak_rss_bytes"][phase],
            sent={to: Sent(**s) for to, s in _equal(phase, [s["sent"] for s in samples]).items()},
        )
        for role, samples in counts.items()
    }
    computed_ns = _computed_ns(hops, roles, profiles) if computed else None
    return PhaseRecord(walls[skip:], walls[:skip], hops, cast(Any, roles), computed_ns)


def _equal(phase: Phase, samples: list[Any]) -> Any:
    """The one value of all samples: a protocol's counts do not vary."""
    if any(sample != samples[0] for sample in samples):
        raise PartyFailure(f"{phase}: bytes, messages or hops differ between evaluations")
    return samples[0]


def _computed_ns(
    hops: int, roles: Mapping[Role, RolePhase], profiles: Mapping[str, LinkProfile]
) -> int:
    """hops × the longest delay of a link that was used + the longest transfer over any link."""
    used = [
        (profiles[f"{role}>{to}"], sent.wire_bytes)
        for role, phase in roles.items()
        for to, sent in phase.sent.items()
    ]
    delay_s = max((profile.delay_s for profile, _ in used), default=0.0)
    serial_s = max((p.transfer_s(size) - p.delay_s for p, size in used), default=0.0)
    return round((hops * delay_s + serial_s) * 1e9)
