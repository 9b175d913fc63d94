"""Drive the parties through evaluations, and make records of what they report."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from torch import Tensor

from harness.errors import PartyFailure
from harness.parties.control import TEXT_BYTES
from harness.parties.group import PartyGroup
from harness.parties.job import Job, Shaping
from harness.parties.notice_checks import check_result, refuse
from harness.progress import Progress, format_seconds
from harness.records.record import PhaseRecord, RolePhase, Sent, StepRecord
from netem.profile import LinkProfile
from protocols.party import P0, P1, Phase, Role
from protocols.workload import Generation, StepPlan, steps

STEP_PHASES: tuple[Phase, ...] = ("offline", "input", "online")
STEP_TEXT_BYTES = 1 << 12  # of a party's report, for each step
CLOCKS_APART_NS = 100_000_000  # between hosts, at most, as far as the fastest exchange can tell
Parts = dict[Role, tuple[Tensor, ...]]
Stop = Callable[[Parts], bool]  # sees each step's answer; whether the evaluation ends with it


@dataclass(frozen=True)
class Evaluation:
    """One evaluation: the common start (CLOCK_MONOTONIC) of each phase of each step, and each
    step's answer in parts. first: how many steps there were before it. links: what it went over, None
    for the links that the parties had when their job began.
    """

    first: int
    links: Shaping | None
    starts_ns: list[dict[Phase, int]]
    parts: list[Parts]


@dataclass(frozen=True)
class JobResult:
    """What the parties reported of some evaluations, warm-ups first.

    reports: each role's counts. traces: what each role's `TraceRecorder` kept, if it was asked to.
    Both are of all steps of the job.
    """

    plan: tuple[StepPlan, ...]
    warmup: int
    prepare_ns: int
    evaluations: list[Evaluation]
    reports: dict[Role, dict[str, Any]]
    traces: dict[Role, tuple[Tensor, ...]]

    def over(self, links: Shaping | None) -> "JobResult":
        """Only the evaluations over these links; the warm-ups are among those over None."""
        evaluations = [done for done in self.evaluations if done.links == links]
        return replace(self, evaluations=evaluations, warmup=self.warmup if links is None else 0)


class ActiveJob:
    """One job under way on a group of parties: prepared, its parties at a barrier before each evaluation.

    Parties that nobody calls on sleep. Raises PartyFailure from every call.
    """

    def __init__(self, parties: PartyGroup, job: Job, progress: Progress) -> None:
        self._parties, self._progress = parties, progress
        self._plan = steps(job.workload)
        self._evaluations: list[Evaluation] = []
        for role in parties.roles:
            parties.send(role, "run", **_for_role(job, role).to_json())
        parties.gather("ready", progress.stage)
        progress.stage("prepare")
        self._prepare_ns = parties.go("prepare")
        parties.gather("ready", progress.stage)

    def evaluate(
        self, text: str, stop: Stop = lambda _: False, links: Shaping | None = None
    ) -> None:
        """One evaluation, which `progress` shows as `text`. links: to use instead of those that there
        are."""
        with self._parties.relinked(links):
            self._evaluate(text, stop, links)

    def _evaluate(self, text: str, stop: Stop, links: Shaping | None) -> None:
        first = sum(len(done.starts_ns) for done in self._evaluations)
        done = Evaluation(first, links, [], [])
        self._evaluations.append(done)
        begin = time.monotonic()
        for step in range(len(self._plan)):
            left = _place(step, len(self._plan), time.monotonic() - begin)
            starts, parts = self._step(step, f"{text}{left}")
            done.starts_ns.append(starts)
            done.parts.append(parts)
            if stop(parts):
                break

    def _step(self, step: int, text: str) -> tuple[dict[Phase, int], Parts]:
        starts: dict[Phase, int] = {}
        parts: Parts = {}
        for phase in STEP_PHASES:
            self._progress.stage(text)
            starts[phase] = self._parties.go(phase, step)
            if phase == "online":
                outputs = self._parties.gather("output", self._progress.stage)
                parts = {role: notice.tensors for role, notice in outputs.items()}
            self._parties.gather("ready", self._progress.stage)
        return starts, parts

    def finish(self, warmup: int) -> JobResult:
        """What the parties report; the first `warmup` evaluations were not for measuring."""
        self._parties.send_all("end")
        steps_done = sum(len(done.starts_ns) for done in self._evaluations)
        text_bytes = TEXT_BYTES + STEP_TEXT_BYTES * steps_done
        results = self._parties.gather("result", self._progress.stage, text_bytes)
        expected: dict[Phase, int] = {"prepare": 1, **dict.fromkeys(STEP_PHASES, steps_done)}
        for role, notice in results.items():
            check_result(role, notice.fields, expected, self._parties.roles)
        reports = {role: notice.fields for role, notice in results.items()}
        traces = {role: notice.tensors for role, notice in results.items()}
        return JobResult(self._plan, warmup, self._prepare_ns, self._evaluations, reports, traces)


def texts(repeat: int, warmup: int) -> list[str]:
    """What to call each evaluation, in their order."""
    measured = [f"measuring {i}/{repeat}" for i in range(1, repeat + 1)]
    return [*(f"warm-up {i}/{warmup}" for i in range(1, warmup + 1)), *measured]


def after_wait_texts(number: int) -> list[str]:
    """What to call each evaluation after waits."""
    return [f"measuring after waits {i}/{number}" for i in range(1, number + 1)]


def _for_role(job: Job, role: Role) -> Job:
    """The prompt is P1's alone, the checkpoint's place P0's."""
    work = job.workload
    if role != P0 and isinstance(work, Generation):
        work = replace(work, checkpoint=None)
    return replace(job, workload=work, user=job.user if role == P1 else None)


def _place(step: int, count: int, took_s: float) -> str:
    """Which token is being made, and how long the others will take; nothing where there is one."""
    if count == 1:
        return ""
    left = f", about {format_seconds(took_s / step * (count - step))} left" if step else ""
    return f", token {step + 1}/{count}{left}"


def step_records(result: JobResult) -> list[StepRecord]:
    """One record for each step of each measured evaluation; none where there is only one step."""
    if len(result.plan) == 1:
        return []
    records = []
    for number, counts in _by_evaluation(result)[result.warmup :]:
        for step, plan in enumerate(result.plan[: len(counts)]):
            online = counts[step]["online"]
            records.append(
                StepRecord(
                    evaluation=number - result.warmup,
                    kind=plan.kind,
                    tokens=plan.tokens,
                    wall_ns=online.wall_ns,
                    offline_wall_ns=counts[step]["offline"].wall_ns,
                    hops=online.hops,
                    payload_bytes=sum(
                        s.payload_bytes for sent in online.sent.values() for s in sent.values()
                    ),
                )
            )
    return records


@dataclass(frozen=True)
class _Counts:
    """One phase of one step, or a sum of such. start_ns: of the first, CLOCK_MONOTONIC."""

    start_ns: int
    wall_ns: int
    hops: int
    cpu_ns: dict[Role, int]
    sent: dict[Role, dict[str, Sent]]

    def __add__(self, other: "_Counts") -> "_Counts":
        sent = {
            role: {
                to: _plus(self.sent[role].get(to), other.sent[role].get(to))
                for to in self.sent[role] | other.sent[role]
            }
            for role in self.sent
        }
        cpu = {role: ns + other.cpu_ns[role] for role, ns in self.cpu_ns.items()}
        wall_ns, hops = self.wall_ns + other.wall_ns, self.hops + other.hops
        return _Counts(self.start_ns, wall_ns, hops, cpu, sent)


def _plus(a: Sent | None, b: Sent | None) -> Sent:
    a, b = a or Sent(0, 0, 0), b or Sent(0, 0, 0)
    return Sent(
        a.messages + b.messages, a.payload_bytes + b.payload_bytes, a.wire_bytes + b.wire_bytes
    )


def _occurrence(result: JobResult, phase: Phase, index: int, start_ns: int) -> _Counts:
    """Occurrence `index` of a phase, over all roles."""
    seen = {role: r["phases"][phase][index] for role, r in result.reports.items()}
    for role, s in seen.items():
        if s["end_ns"] < start_ns - CLOCKS_APART_NS:
            refuse(role, f"as the duration of {phase}, in ns,", s["end_ns"] - start_ns)
    return _Counts(
        start_ns=start_ns,
        wall_ns=max(0, *(s["end_ns"] - start_ns for s in seen.values())),
        hops=max(s["depth"] for s in seen.values()),
        cpu_ns={role: s["cpu_ns"] for role, s in seen.items()},
        sent={
            role: {to: Sent(**sent) for to, sent in s["sent"].items()} for role, s in seen.items()
        },
    )


def _by_evaluation(result: JobResult) -> list[tuple[int, list[dict[Phase, _Counts]]]]:
    """For each evaluation, for each step, the counts of its phases."""
    evaluations = []
    for number, done in enumerate(result.evaluations):
        counts = [
            {phase: _occurrence(result, phase, index, ns) for phase, ns in starts.items()}
            for index, starts in enumerate(done.starts_ns, start=done.first)
        ]
        evaluations.append((number, counts))
    return evaluations


def phase_records(
    result: JobResult, profiles: Mapping[str, LinkProfile], shaped: Sequence[Phase]
) -> dict[str, PhaseRecord]:
    """One record for each phase. Raises PartyFailure where evaluations differ in their counts."""
    prepare = _occurrence(result, "prepare", 0, result.prepare_ns)
    samples: dict[Phase, list[_Counts]] = {"prepare": [prepare]}
    for _, counts in _by_evaluation(result):
        for phase in STEP_PHASES:
            total = counts[0][phase]
            for step in counts[1:]:
                total = total + step[phase]
            samples.setdefault(phase, []).append(total)
    return {
        phase: _phase_record(result, phase, totals, None if phase in shaped else profiles)
        for phase, totals in samples.items()
    }


def _phase_record(
    result: JobResult,
    phase: Phase,
    samples: list[_Counts],
    profiles: Mapping[str, LinkProfile] | None,
) -> PhaseRecord:
    first = samples[0]
    if any((s.hops, s.sent) != (first.hops, first.sent) for s in samples):
        raise PartyFailure(f"{phase}: bytes, messages or hops differ between evaluations")
    skip = result.warmup if phase != "prepare" else 0
    roles = {
        role: RolePhase(
            cpu_ns=[sample.cpu_ns[role] for sample in samples[skip:]],
            peak_rss_bytes=result.reports[role]["peak_rss_bytes"][phase],
            sent=first.sent[role],
        )
        for role in first.sent
    }
    walls = [sample.wall_ns for sample in samples]
    computed_ns = None if profiles is None else _computed_ns(first, profiles)
    unix_ns = time.time_ns() - time.monotonic_ns()
    return PhaseRecord(
        wall_ns=walls[skip:],
        warmup_wall_ns=walls[:skip],
        hops=first.hops,
        roles=cast(dict[str, RolePhase], roles),
        computed_ns=computed_ns,
        started_ns=[sample.start_ns + unix_ns for sample in samples[skip:]],
    )


def _computed_ns(counts: _Counts, profiles: Mapping[str, LinkProfile]) -> int:
    """hops × the longest delay of a link that was used + the longest transfer over any link."""
    used = [
        (profiles[f"{role}>{to}"], sent.wire_bytes)
        for role, to_sent in counts.sent.items()
        for to, sent in to_sent.items()
    ]
    delay_s = max((profile.delay_s for profile, _ in used), default=0.0)
    serial_s = max((p.transfer_s(size) - p.delay_s for p, size in used), default=0.0)
    return round((counts.hops * delay_s + serial_s) * 1e9)
