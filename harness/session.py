"""One session of runs: it keeps the parties alive between runs that can share them.

A run = start parties → connect → calibrate the link → prepare → (offline → input → online) for each
warm-up and each sample → check every answer → record.
"""

import traceback
from dataclasses import asdict
from itertools import combinations
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from torch import Tensor

from harness.config.identity import config_hash, resolved
from harness.config.schema import RunConfig, RunnerConfig
from harness.crew import Crew, PartyFailure
from harness.environment import environment
from harness.evaluation import Evaluation, evaluate, phase_records, step_records
from harness.job import Job, Shaping
from harness.progress import Progress
from harness.record import Correctness, NetworkRecord, PhaseRecord, Record, Status, StepRecord
from harness.registry import system_class
from harness.runners.base import RunnerError
from harness.runners.registry import make_runner
from harness.transcript import transcript_of
from harness.verify import Answers
from netem.profile import LinkProfile
from protocols.party import PHASES, Phase, Role
from protocols.system import System, Unsupported

CALIBRATIONS = 3  # a noisy machine gets that many attempts before a link is refused
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
        run = _Run(config, progress)
        try:
            run.system.check(run.workload, run.options)
            run.measure(self._crew_for(config, progress), self._answers)
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


class _Run:
    """One run under way: what its record will say."""

    def __init__(self, config: RunConfig, progress: Progress) -> None:
        self.config = config
        self.progress = progress
        self.system: type[System] = system_class(config.system.name)
        self.workload = config.workload()
        self.options = config.system.options()
        self.user = config.experiment.user()
        self.logs: dict[str, list[str]] = {}
        self._status: Status = "ok"
        self._error: str | None = None
        self._phases: dict[str, PhaseRecord] = {}
        self._steps: list[StepRecord] = []
        self._generated: dict[str, Any] | None = None
        self._correctness: Correctness | None = None
        self._measured: dict[str, Any] = {}
        self._within: bool | None = None
        self._profiles = self._links()
        self._environment = environment(REPO)

    def end(self, status: Status, error: str) -> None:
        """The run ended without a result."""
        self._status, self._error = status, error

    def measure(self, crew: Crew, answers: Answers) -> None:
        """Calibrate, evaluate, verify. Raises PartyFailure."""
        shaping = Shaping(self._shaped_links(), self._shaped_phases(), self.config.seed or 0)
        crew.tell("shape", **shaping.to_json())
        outside = self._calibrate(crew)
        crew.tell(
            "shape", **shaping.to_json()
        )  # jitter starts afresh, however long calibration took
        if outside and self.config.calibration.strict:
            self.end("failed", f"link outside tolerance: {'; '.join(outside)}")
            return
        cfg = self.config
        job = Job(cfg.system.name, self.options, self.workload, cfg.seed, self.user)
        transcript = transcript_of(cfg, self.system, self.progress)
        evaluation = evaluate(crew, job, cfg.repeat, cfg.warmup, self.progress, transcript.heard)
        self._generated = transcript.ended()
        self._phases = phase_records(evaluation, self._profiles, self._shaped_phases())
        self._steps = step_records(evaluation)
        self._verify(evaluation, job, answers)

    def _verify(self, evaluation: Evaluation, job: Job, answers: Answers) -> None:
        self.progress.stage("checking the answer")
        revealed: list[list[Tensor]] = [
            [self.system.reveal(parts, self.workload, self.options) for parts in done.parts]
            for done in evaluation.rounds
        ]
        found = self._correctness = answers.check(self.system, job, revealed)
        if not found.ok:
            self.end("incorrect", f"{found.metric} {found.value:g}, allowed {found.tolerance:g}")

    def _calibrate(self, crew: Crew) -> list[str]:
        """Reasons why the link is outside tolerance; none is good."""
        pairs = list(combinations(self.system.online_roles, 2))
        reasons: list[str] = []
        for attempt in range(CALIBRATIONS):
            self.progress.stage(
                "calibrating the link" + (f", attempt {attempt + 1}" * (attempt > 0))
            )
            measured = crew.calibrate(pairs)
            reasons = [
                f"{a}-{b}: {reason}" for (a, b), m in measured.items() for reason in m["outside"]
            ]
            self._measured = {f"{a}-{b}": m["measured"] for (a, b), m in measured.items()}
            self._within = not reasons
            if not reasons:
                break
        return reasons

    def _links(self) -> dict[str, LinkProfile]:
        profiles = self.config.network.profiles(self.system.online_roles)
        return {f"{a}>{b}": profile for (a, b), profile in profiles.items()}

    def _shaped_links(self) -> dict[str, LinkProfile]:
        return {} if self.config.shaper.name == "none" else self._profiles

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
            network=NetworkRecord(name, profile, self._measured, self._within),
            phases=self._phases,
            steps=self._steps,
            correctness=self._correctness,
            environment=self._environment,
            logs=self.logs,
            generated=self._generated,
        )
