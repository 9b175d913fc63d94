"""One session of runs: it keeps the parties alive between runs that can share them.

A run = start parties → connect → calibrate the link → prepare → (offline → input → online) for each
warm-up and each sample → check every answer → record.
"""

import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict
from itertools import combinations
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

from torch import Tensor

from harness.calibration import calibrate
from harness.config.identity import config_hash, resolved
from harness.config.schema import RunConfig, RunnerConfig
from harness.crew import Crew, PartyFailure
from harness.environment import environment
from harness.evaluation import Course, Evaluation, phase_records, step_records, texts
from harness.inject import Fault
from harness.job import Job, Shaper, Shaping
from harness.lines import line_problems
from harness.progress import Progress
from harness.record import Correctness, NetworkRecord, PhaseRecord, Record, Status, StepRecord
from harness.registry import system_class
from harness.replay import file as trace_file
from harness.replay.collect import collect
from harness.runners.base import RunnerError
from harness.runners.registry import make_runner
from harness.transcript import transcript_of
from harness.verify import Answers
from netem.profile import LinkProfile
from protocols.party import PHASES, ROLES, Phase, Role
from protocols.system import System, Unsupported

REPO = Path(__file__).resolve().parents[1]


class RunInterrupted(KeyboardInterrupt):
    """Ctrl-C during a run; `record` is what is known of it."""

    def __init__(self, record: Record) -> None:
        super().__init__()
        self.record = record


class Session:
    """Runs configurations one after the other. A context manager: at its end no party is left."""

    def __init__(self) -> None:
        self._crew: Crew | None = None
        self._terms: tuple[RunnerConfig, bool, int, float] | None = None  # of this crew
        self._answers = Answers()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._dismiss()

    def run(self, config: RunConfig, progress: Progress) -> Record:
        """Measure one configuration. A failure is a record too; Ctrl-C raises RunInterrupted."""

        def act(run: Run) -> None:
            run.system.check(run.workload, run.options, run.user)
            run.measure(self._crew_for(config, progress), self._answers)

        return self._recorded(Run(config, progress), act)

    def calibrate(self, config: RunConfig, progress: Progress) -> Record:
        """Measure only the links of one configuration, those of the dealer too."""
        return self._recorded(
            Run(config, progress),
            lambda run: run.measure_links(self._crew_for(config, progress), ROLES),
        )

    def _recorded(self, run: "Run", act: "Callable[[Run], object]") -> Record:
        """The record of `act`, however it ends."""
        config = run.config
        try:
            act(run)
        except Unsupported as reason:
            run.end("unsupported", str(reason))
        except RunnerError as error:
            self._dismiss()
            run.end("failed", f"runner={config.runner.name}: {error}")
        except PartyFailure as failure:
            run.logs = self._logs()
            self._dismiss()
            run.end("timeout" if failure.timed_out else "failed", str(failure))
        except KeyboardInterrupt:
            self._dismiss()
            run.end("failed", "interrupted")
            raise RunInterrupted(run.record()) from None
        except Exception as error:
            run.logs = self._logs() | {"harness": traceback.format_exc().splitlines()}
            self._dismiss()
            run.end("failed", f"harness: {type(error).__name__}: {error}")
        return run.record()

    def pids(self) -> dict[Role, int | None]:
        """The parties' process ids, none before the first run."""
        return {} if self._crew is None else self._crew.pids()

    def _crew_for(self, config: RunConfig, progress: Progress) -> Crew:
        terms = (config.runner, config.shaper.name == "tc", config.threads, config.timeout_s)
        if self._crew and terms == self._terms:
            return self._crew
        self._dismiss()
        progress.stage("starting parties")
        runner, tc, threads, timeout_s = self._terms = terms
        self._crew = Crew(make_runner(runner, tc), threads, timeout_s)
        self._crew.start()
        return self._crew

    def _logs(self) -> dict[str, list[str]]:
        return (
            {} if self._crew is None else {r: list(lines) for r, lines in self._crew.logs.items()}
        )

    def _dismiss(self) -> None:
        if self._crew is not None:
            self._crew.close()
            self._crew = None


class Run:
    """One run under way: what its record will say. fault: see `harness.inject`."""

    def __init__(self, config: RunConfig, progress: Progress, fault: Fault | None = None) -> None:
        self.config = config
        self.progress = progress
        self.system: type[System] = system_class(config.system.name)
        self.workload = config.workload()
        self.options = config.system.options()
        self.user = config.experiment.user()
        self._fault = fault
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
        self._shaping = Shaping()
        self._interfaces: dict[Role, dict[str, Any]] = {}
        self._environment = environment(REPO)

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
        self._generated = transcript.ended()
        self.finish(course, answers)

    def begin(self, crew: Crew) -> Course:
        """Prepare for evaluations on a crew whose links are measured. Raises PartyFailure."""
        return Course(crew, self._job(), self.progress)

    def finish(self, course: Course, answers: Answers) -> None:
        """Take in what was measured, and verify it. Raises PartyFailure."""
        cfg = self.config
        evaluation = course.end(cfg.warmup)
        self._phases = phase_records(evaluation, self._profiles, self._shaped_phases())
        self._steps = step_records(evaluation)
        self._verify(evaluation, answers)
        self._lines(evaluation)
        if cfg.trace and self._status == "ok":
            roles, shaped = self.system.online_roles, bool(self._shaped_phases())
            trace = collect(evaluation, config_hash(cfg), roles, shaped)
            trace_file.save(Path(cfg.results_dir), trace)

    def measure_links(self, crew: Crew, roles: Sequence[Role]) -> bool:
        """Shape the links, and measure those between `roles`; whether the run may go on."""
        shaping = self._shaping = self._shaping_of(crew)
        self._interfaces = crew.shape(shaping)
        outside = self._calibrate(crew, roles)
        crew.shape(shaping)  # jitter starts afresh, however long calibration took
        if outside and self.config.calibration.strict:
            self.end("failed", f"link outside tolerance: {'; '.join(outside)}")
            return False
        return True

    def _shaping_of(self, crew: Crew) -> Shaping:
        """Raises RunnerError where the shaper asks for what the parties' machines lack."""
        shaper, ahead = self.config.shaper.name, crew.clock_offsets_ns
        if shaper == "emulated" and any(ahead.values()):
            far = max(ahead, key=lambda role: abs(ahead[role]))
            raise RunnerError(
                f"shaper=emulated needs one clock for all parties, but that of {far} is "
                f"{ahead[far] / 1e9:.3f} s ahead: use shaper=tc, or none on a real network"
            )
        links = {} if shaper == "none" else self._profiles
        return Shaping(cast(Shaper, shaper), links, self._shaped_phases(), self.config.seed or 0)

    def _lines(self, evaluation: Evaluation) -> None:
        """Kernel links: what their queues counted, and whether it can be."""
        if self._shaping.shaper != "tc":
            return
        for role, report in evaluation.reports.items():
            self._interfaces[role]["counted"] = report["line"]
        if problems := line_problems(evaluation.reports, self._shaping):
            self.end("failed", "; ".join(problems))

    def _job(self) -> Job:
        cfg = self.config
        system, fault = cfg.system.name, self._fault
        return Job(system, self.options, self.workload, cfg.seed, self.user, cfg.trace, fault)

    def _verify(self, evaluation: Evaluation, answers: Answers) -> None:
        self.progress.stage("checking the answer")
        revealed: list[list[Tensor]] = [
            [self.system.reveal(parts, self.workload, self.options) for parts in done.parts]
            for done in evaluation.rounds
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
