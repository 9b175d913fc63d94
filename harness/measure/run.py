"""One run: links measured, evaluations made, answers verified, and the record of it all.

`Run` is what is asked for, `MeasuredLinks` what its links were, `Outcome` how it ended; each is built
once. `record_of` puts them together.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any, cast

from torch import Tensor

from harness.config.config_hash import config_hash, resolved
from harness.config.experiments import SlowdownConfig
from harness.config.program_files import file_of
from harness.config.schema import RunConfig
from harness.errors import PartyFailure, RunnerError, TraceError
from harness.measure import unsaved
from harness.measure.collect_trace import collect, links_of_delays
from harness.measure.evaluation import (
    ActiveJob,
    Evaluation,
    JobResult,
    after_wait_texts,
    phase_records,
    step_records,
    texts,
)
from harness.measure.interface_counters import interface_problems
from harness.measure.pytorch_time import pytorch_times_ns
from harness.measure.token_stream import token_stream
from harness.measure.verify import Answers
from harness.parties.faults import Fault
from harness.parties.group import PartyGroup
from harness.parties.job import Job, Shaper, Shaping
from harness.parties.link_check import Calibration, calibrate
from harness.progress import Progress
from harness.records.code_digest import sources
from harness.records.environment import environment
from harness.records.record import (
    OUTSIDE,
    Correctness,
    NetworkRecord,
    OperatorRecord,
    PhaseRecord,
    Record,
    Status,
    StepRecord,
)
from harness.registry import is_external, system_class
from harness.replay import trace_file
from harness.replay.operators import operator_records
from harness.version import REPO
from netem.profile import LinkProfile
from protocols.errors import Unsupported
from protocols.party import PHASES, Phase, Role
from protocols.system import System
from protocols.workload import Generation, UserInput, Workload

LINK_LOG = "link"  # of a record: every reason why its link was outside tolerance
FAILURES = (Unsupported, RunnerError, PartyFailure, TraceError)  # what a run may end by
EVALUATIONS_PER_DELAY = 3  # at most, over each of `links_of_delays`


@dataclass(frozen=True)
class Run:
    """What one run is asked to do. fault: see `harness.parties.faults`."""

    config: RunConfig
    fault: Fault | None = None

    @cached_property
    def system(self) -> type[System]:
        """The class of its system."""
        return system_class(self.config.system.name)

    @property
    def external(self) -> bool:
        """Whether programs of others take the parties' place (`harness.measure.external_runs`)."""
        return is_external(self.config.system.name)

    @cached_property
    def roles(self) -> tuple[Role, ...]:
        """The roles that take part."""
        return self.config.system.roles()

    @cached_property
    def online_roles(self) -> tuple[Role, ...]:
        """Those of them that take part online."""
        return self.config.system.online_roles()

    @cached_property
    def workload(self) -> Workload:
        """What is computed."""
        return self.config.workload()

    @cached_property
    def options(self) -> Any:
        """The system's options."""
        return self.config.system.options()

    @cached_property
    def user(self) -> UserInput | None:
        """What P1 alone knows."""
        return self.config.experiment.user()

    @cached_property
    def profiles(self) -> dict[str, LinkProfile]:
        """The profile of every ordered pair, by "P0>P1"."""
        return {f"{a}>{b}": profile for (a, b), profile in self.config.profiles().items()}

    @cached_property
    def shaped_phases(self) -> tuple[Phase, ...]:
        """The phases over shaped links; the others run at full speed."""
        if self.config.shaper.name == "none":
            return ()
        return ("calibrate", *PHASES) if self.config.shape == "all" else ("calibrate", "online")

    @cached_property
    def shaping(self) -> Shaping:
        """How its links are to be shaped."""
        shaper = cast(Shaper, self.config.shaper.name)
        links = {} if shaper == "none" else self.profiles
        if self.external and shaper == "emulated":
            shaper = "proxy"  # what shapes the links of programs that know of none
        return Shaping(shaper, links, self.shaped_phases, self.config.seed)

    @cached_property
    def job(self) -> Job:
        """What its parties are asked to do."""
        cfg = self.config
        return Job(
            cfg.system.name,
            self.options,
            self.workload,
            cfg.seed,
            self.user,
            cfg.trace,
            self.fault,
            cfg.key_seed,
            check_memory=cfg.memory.check and cfg.runner.name == "remote",
        )

    @cached_property
    def stored_bytes(self) -> dict[str, int] | None:
        """What each role keeps of the model, as the system declares it."""
        if self.external:
            return None
        stored = self.system.stored_bytes(self.workload, self.options)
        return None if stored is None else {str(role): size for role, size in stored.items()}

    @cached_property
    def parameters(self) -> str | None:
        """What its system chose for the workload, in a line."""
        if self.external:
            return None
        return self.system.parameters(self.workload, self.options)

    def check(self) -> None:
        """Raise Unsupported for a workload that the system cannot compute."""
        self.system.check(self.workload, self.options, self.user)


@dataclass(frozen=True)
class MeasuredLinks:
    """The links of a run: as calibration found them, and what each interface was set to (tc only).

    image: of the parties' containers. clocks_apart: whether the parties are on hosts of their own.
    """

    calibration: Calibration
    interfaces: Mapping[Role, dict[str, Any]] = field(default_factory=dict)
    image: str | None = None
    clocks_apart: bool = False

    def refusal(self, run: Run) -> str | None:
        """Why this run must not go on over them; None where it may."""
        if not self.calibration.outside or not run.config.calibration.strict:
            return None
        return f"{OUTSIDE}: {self.calibration.worst}"


@dataclass(frozen=True)
class Outcome:
    """How a run ended, and all that it measured."""

    status: Status = "ok"
    error: str | None = None
    phases: dict[str, PhaseRecord] = field(default_factory=dict)
    steps: list[StepRecord] = field(default_factory=list)
    correctness: Correctness | None = None
    generated: dict[str, Any] | None = None
    operators: list[OperatorRecord] | None = None
    markers: dict[str, list[int]] | None = None  # of external programs
    counted: Mapping[Role, Any] = field(default_factory=dict)  # by the interfaces' queues (tc only)
    logs: dict[str, list[str]] = field(default_factory=dict)
    pytorch_ns: list[int] | None = None  # of experiment=slowdown


def measure(run: Run, parties: PartyGroup, answers: Answers, progress: Progress) -> Record:
    """Calibrate, evaluate, verify. Raises PartyFailure."""
    links = measure_links(run, parties, run.online_roles, progress)
    if refusal := links.refusal(run):
        return record_of(run, Outcome("failed", refusal), links)
    stream = token_stream(run.config, run.system, progress)
    active_job = ActiveJob(parties, run.job, progress)
    for text in texts(run.config.repeat, run.config.warmup):
        active_job.evaluate(text, stream.received)
    evaluate_after_waits(run, links, active_job)
    generated = stream.result()
    outcome = outcome_of(run, links, active_job.finish(run.config.warmup), answers, progress)
    return record_of(run, replace(outcome, generated=generated), links)


def evaluate_after_waits(run: Run, links: MeasuredLinks, active_job: ActiveJob) -> None:
    """The further evaluations of a traced run, over each of its `delayed_links`; no more than measured."""
    delayed = delayed_links(run, links)
    each = min(EVALUATIONS_PER_DELAY, run.config.repeat)
    for text in after_wait_texts(each if delayed else 0):
        for shaping in delayed:
            active_job.evaluate(text, links=shaping)


def ended_by(error: Exception, run: Run, logs: Mapping[Any, Iterable[str]]) -> Outcome:
    """How a run ended that one of `FAILURES` has ended. logs: of its parties."""
    if isinstance(error, Unsupported):
        return Outcome("unsupported", str(error))
    if isinstance(error, RunnerError):
        return Outcome("failed", f"runner={run.config.runner.name}: {error}")
    timed_out = isinstance(error, PartyFailure) and error.timed_out
    kept = {str(role): list(lines) for role, lines in logs.items()}
    return Outcome("timeout" if timed_out else "failed", str(error), logs=kept)


def measure_links(
    run: Run, parties: PartyGroup, roles: Sequence[Role], progress: Progress
) -> MeasuredLinks:
    """Shape the links, and measure those between `roles`. Raises PartyFailure."""
    parties.compare_clocks()
    interfaces = parties.shape(run.shaping)
    pairs = tuple(combinations(roles, 2))
    known, wanted = parties.calibration, run.config.calibration
    if known is None or not known.covers(pairs, wanted.max_age_s):
        # Links that somebody has waited for in vain already are measured once more, and that is all.
        patience_s = 0.0 if known and known.outside else wanted.patience_s
        known = parties.calibration = calibrate(parties.calibrate, pairs, progress, patience_s)
    parties.shape(run.shaping)  # jitter starts afresh, however long calibration took
    apart = any(parties.clock_offsets_ns.values())
    return MeasuredLinks(known, interfaces, parties.image, apart)


def delayed_links(run: Run, links: MeasuredLinks) -> Sequence[Shaping]:
    """The links over which a traced run is evaluated too, for what waits cost. None where that would
    take long, or links have waits anyway: shaped ones, and those between hosts."""
    waits = links.clocks_apart or run.shaped_phases
    long = isinstance(run.workload, Generation)
    wanted = run.config.trace and not waits and not long
    return links_of_delays(run.roles) if wanted else ()


def outcome_of(
    run: Run,
    links: MeasuredLinks,
    result: JobResult,
    answers: Answers,
    progress: Progress,
    own_links: Shaping | None = None,
) -> Outcome:
    """What a job's result says of this run, verified; the trace is saved where one was asked for.

    own_links: over which the run's own evaluations went, where runs share a job; None: those over the
    links that the job began with. Raises PartyFailure, TraceError.
    """
    config, own = run.config, result.over(own_links)
    phases = phase_records(own, run.profiles, run.shaped_phases)
    waits = links_of_delays(run.roles) if config.trace else ()
    delayed = [e for e in result.evaluations if e.links in waits]
    progress.stage("checking the answer")
    revealed = _revealed(run, [*own.evaluations, *delayed])
    found = answers.check(run.system, run.job, revealed)
    status, error = _verdict(run, result, found)
    if status == "incorrect" and (why := answers.beyond_bounds(run.system, run.job, revealed)):
        error = f"{error}; {'; '.join(why)}"
    traced = config.trace and status == "ok"
    operators = _save_trace(run, links, result) if traced else None
    counted = {role: report["interface"] for role, report in result.reports.items()}
    return Outcome(
        status, error, phases, step_records(own), found, operators=operators, counted=counted,
        pytorch_ns=_pytorch_ns(run, progress),
    )  # fmt: skip


def _pytorch_ns(run: Run, progress: Progress) -> list[int] | None:
    """What the same work takes in the clear, while the parties sleep."""
    if not isinstance(run.config.experiment, SlowdownConfig):
        return None
    progress.stage("PyTorch in the clear")
    return pytorch_times_ns(run.workload, run.config.seed, run.config.threads)


def _save_trace(run: Run, links: MeasuredLinks, result: JobResult) -> list[OperatorRecord]:
    """Write the trace, and say what it says of each operator. Raises TraceError."""
    apart = links.clocks_apart or bool(run.shaped_phases)
    trace = collect(result, config_hash(run.config), run.online_roles, apart)
    unsaved.save(Path(run.config.results_dir), lambda folder: trace_file.save(folder, trace))
    return operator_records(trace, [plan.kind for plan in result.plan])


def _revealed(run: Run, evaluations: Sequence[Evaluation]) -> list[list[Tensor]]:
    """The answer of each step of each evaluation, put together from its parts. Raises PartyFailure."""
    try:
        return [
            [run.system.reveal(parts, run.workload, run.options) for parts in evaluation.parts]
            for evaluation in evaluations
        ]
    except (RuntimeError, ValueError, LookupError, TypeError) as error:
        raise PartyFailure(f"the parts of the answer do not fit together: {error}") from error


def _verdict(run: Run, result: JobResult, found: Correctness) -> tuple[Status, str | None]:
    """Whether the answers are right, and the traffic went where it should."""
    if run.shaping.shaper == "tc" and (problems := interface_problems(result.reports, run.shaping)):
        return "failed", "; ".join(problems)
    if not found.ok:
        return "incorrect", f"{found.metric} {found.value:g}, allowed {found.tolerance:g}"
    return "ok", None


def record_of(run: Run, outcome: Outcome, links: MeasuredLinks | None = None) -> Record:
    """The record of a run. links: None where it ended before they were measured."""
    config = run.config
    return Record(
        id=config_hash(config),
        config=resolved(config),
        status=outcome.status,
        error=outcome.error,
        network=_network_record(run, outcome, links),
        phases=outcome.phases,
        steps=outcome.steps,
        correctness=outcome.correctness,
        environment=environment(REPO)
        | {
            "image": links.image if links else None,
            "sources": sources(config.system.name, file_of(config.system)),
        },
        logs=outcome.logs | _link_log(links),
        generated=outcome.generated,
        stored_bytes=run.stored_bytes if outcome.phases else None,
        operators=outcome.operators,
        markers=outcome.markers,
        parameters=run.parameters if outcome.phases else None,
        pytorch_ns=outcome.pytorch_ns,
    )


def _link_log(links: MeasuredLinks | None) -> dict[str, list[str]]:
    outside = links.calibration.outside if links else []
    return {LINK_LOG: outside} if outside else {}


def _network_record(run: Run, outcome: Outcome, links: MeasuredLinks | None) -> NetworkRecord:
    name = run.config.network.name
    profile = {pair: asdict(link) for pair, link in run.profiles.items()}
    if links is None:
        return NetworkRecord(name, profile)
    interfaces: dict[str, Any] = {
        str(role): settings
        | ({"counted": outcome.counted[role]} if role in outcome.counted else {})
        for role, settings in links.interfaces.items()
        if run.shaping.shaper == "tc" or settings
    }
    known = links.calibration
    return NetworkRecord(name, profile, known.measured, not known.outside, interfaces, known.date)
