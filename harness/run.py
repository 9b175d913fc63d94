"""One run: links measured, evaluations taken in, answers verified, and the record of it all."""

from collections.abc import Sequence
from dataclasses import asdict
from itertools import combinations
from pathlib import Path
from typing import Any, cast

from torch import Tensor

from harness.calibration import calibrate
from harness.config.identity import config_hash, resolved
from harness.config.schema import RunConfig
from harness.crew import Crew
from harness.environment import environment
from harness.evaluation import (
    Course,
    Evaluation,
    Round,
    phase_records,
    rest_texts,
    step_records,
    texts,
)
from harness.inject import Fault
from harness.job import Job, Shaper, Shaping
from harness.lines import line_problems
from harness.progress import Progress
from harness.record import Correctness, NetworkRecord, PhaseRecord, Record, Status, StepRecord
from harness.registry import system_class
from harness.replay import file as trace_file
from harness.replay.collect import RESTS, collect
from harness.transcript import transcript_of
from harness.verify import Answers
from netem.profile import LinkProfile
from protocols.party import PHASES, Phase, Role
from protocols.system import System
from protocols.workload import Generation

REPO = Path(__file__).resolve().parents[1]
RESTED = 3  # evaluations over each of RESTS


class Run:
    """One run under way: what its record will say.

    fault: see `harness.inject`. links: which of a job's evaluations are its own, where runs over several
    links share one; None: those over the links that the job began with.
    """

    def __init__(self, config: RunConfig, progress: Progress, fault: Fault | None = None) -> None:
        self.config = config
        self.progress = progress
        self.system: type[System] = system_class(config.system.name)
        self.workload = config.workload()
        self.options = config.system.options()
        self.user = config.experiment.user()
        self._fault = fault
        self.links: Shaping | None = None
        self.logs: dict[str, list[str]] = {}
        self._status: Status = "ok"
        self._error: str | None = None
        self._phases: dict[str, PhaseRecord] = {}
        self._steps: list[StepRecord] = []
        self._generated: dict[str, Any] | None = None
        self._correctness: Correctness | None = None
        self._measured: dict[str, Any] = {}
        self._within: bool | None = None
        self._calibrated_at: str | None = None
        self._profiles = self._links()
        self.shaping = Shaping()
        self._clocks_apart = False
        self._interfaces: dict[Role, dict[str, Any]] = {}
        self._environment = environment(REPO)

    @property
    def complete(self) -> bool:
        """Whether its evaluations were taken in."""
        return self._correctness is not None

    @property
    def status(self) -> Status:
        """How it has ended so far."""
        return self._status

    def end(self, status: Status, error: str) -> None:
        """The run ended without a result."""
        self._status, self._error = status, error

    def measure(self, crew: Crew, answers: Answers) -> None:
        """Calibrate, evaluate, verify. Raises PartyFailure."""
        if not self.measure_links(crew, self.system.online_roles):
            return
        transcript = transcript_of(self.config, self.system, self.progress)
        course = self.begin(crew)
        for text in texts(self.config.repeat, self.config.warmup):
            course.round(text, transcript.heard)
        rests = self.rests()
        for text in rest_texts(RESTED if rests else 0):
            for links in rests:
                course.round(text, links=links)
        self._generated = transcript.ended()
        self.finish(course, answers)

    def begin(self, crew: Crew) -> Course:
        """Prepare for evaluations on a crew whose links are measured. Raises PartyFailure."""
        return Course(crew, self._job(), self.progress)

    def finish(self, course: Course, answers: Answers) -> None:
        """End the job, and take in what was measured. Raises PartyFailure."""
        self.take(course.end(self.config.warmup), answers)

    def take(self, evaluation: Evaluation, answers: Answers) -> None:
        """Take in what of a job's evaluations is this run's, and verify it. Raises PartyFailure."""
        cfg, own = self.config, evaluation.over(self.links)
        self._phases = phase_records(own, self._profiles, self._shaped_phases())
        self._steps = step_records(own)
        rests = [done for done in evaluation.rounds if cfg.trace and done.links in RESTS]
        self._verify([*own.rounds, *rests], answers)
        self._lines(evaluation)
        if cfg.trace and self._status == "ok":
            apart = self._clocks_apart or bool(self._shaped_phases())
            trace = collect(evaluation, config_hash(cfg), self.system.online_roles, apart)
            trace_file.save(Path(cfg.results_dir), trace)

    def rests(self) -> Sequence[Shaping]:
        """The links that a traced run is walked over too, for what waits cost. None where that would
        take long, or links have waits anyway: shaped ones, and those between hosts."""
        waits = self._clocks_apart or self._shaped_phases()
        long = isinstance(self.workload, Generation)
        return RESTS if self.config.trace and not waits and not long else ()

    def measure_links(self, crew: Crew, roles: Sequence[Role]) -> bool:
        """Shape the links, and measure those between `roles`; whether the run may go on."""
        shaping = self.shaping = self._shaping()
        self._environment["image"] = crew.image
        crew.compare_clocks()
        self._clocks_apart = any(crew.clock_offsets_ns.values())
        self._interfaces = crew.shape(shaping)
        outside = self._calibrate(crew, roles)
        crew.shape(shaping)  # jitter starts afresh, however long calibration took
        if outside and self.config.calibration.strict:
            self.end("failed", f"link outside tolerance: {'; '.join(outside)}")
            return False
        return True

    def _shaping(self) -> Shaping:
        shaper = cast(Shaper, self.config.shaper.name)
        links = {} if shaper == "none" else self._profiles
        return Shaping(shaper, links, self._shaped_phases(), self.config.seed or 0)

    def _lines(self, evaluation: Evaluation) -> None:
        """Kernel links: what their queues counted, and whether it can be."""
        if self.shaping.shaper != "tc":
            return
        for role, report in evaluation.reports.items():
            self._interfaces[role]["counted"] = report["line"]
        if problems := line_problems(evaluation.reports, self.shaping):
            self.end("failed", "; ".join(problems))

    def _job(self) -> Job:
        cfg = self.config
        system, fault = cfg.system.name, self._fault
        return Job(system, self.options, self.workload, cfg.seed, self.user, cfg.trace, fault)

    def _verify(self, rounds: Sequence[Round], answers: Answers) -> None:
        self.progress.stage("checking the answer")
        revealed: list[list[Tensor]] = [
            [self.system.reveal(parts, self.workload, self.options) for parts in done.parts]
            for done in rounds
        ]
        found = self._correctness = answers.check(self.system, self._job(), revealed)
        if not found.ok:
            self.end("incorrect", f"{found.metric} {found.value:g}, allowed {found.tolerance:g}")

    def _calibrate(self, crew: Crew, roles: Sequence[Role]) -> list[str]:
        """Reasons why a link between `roles` is outside tolerance; none is good."""
        pairs = tuple(combinations(roles, 2))
        known = crew.calibration
        if known is None or not known.covers(pairs, self.config.calibration.max_age_s):
            known = crew.calibration = calibrate(crew.calibrate, pairs, self.progress)
        self._measured, self._calibrated_at = known.measured, known.date
        self._within = not known.outside
        return known.outside

    def _links(self) -> dict[str, LinkProfile]:
        profiles = self.config.network.profiles(self.system.online_roles)
        return {f"{a}>{b}": profile for (a, b), profile in profiles.items()}

    def _shaped_phases(self) -> tuple[Phase, ...]:
        if self.config.shaper.name == "none":
            return ()
        return ("calibrate", *PHASES) if self.config.shape == "all" else ("calibrate", "online")

    def record(self) -> Record:
        """What is known now."""
        profile = {pair: asdict(link) for pair, link in self._profiles.items()}
        name = self.config.network.name
        return Record(
            id=config_hash(self.config),
            config=resolved(self.config),
            status=self._status,
            error=self._error,
            network=NetworkRecord(
                name,
                profile,
                self._measured,
                self._within,
                cast(dict[str, Any], self._interfaces),
                self._calibrated_at,
            ),
            phases=self._phases,
            steps=self._steps,
            correctness=self._correctness,
            environment=self._environment,
            logs=self.logs,
            generated=self._generated,
        )
