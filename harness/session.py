"""One session of runs: it keeps the parties alive between runs that can share them.

A run = start parties → connect → calibrate the link → prepare → (offline → input → online) for each
warm-up and each sample → check every answer → record.
"""

import traceback
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

from harness.config.schema import RunConfig, RunnerConfig
from harness.crew import Crew, PartyFailure
from harness.progress import Progress
from harness.record import Record
from harness.run import Run
from harness.runners.base import RunnerError
from harness.runners.registry import make_runner
from harness.turns import measure_in_turns
from harness.verify import Answers
from protocols.party import ROLES, Role
from protocols.system import Unsupported


class RunInterrupted(KeyboardInterrupt):
    """Ctrl-C during a run; `record` is what is known of it."""

    def __init__(self, record: Record) -> None:
        super().__init__()
        self.record = record


class Session:
    """Runs configurations one after the other. A context manager: at its end no party is left."""

    def __init__(self) -> None:
        self._crew: Crew | None = None
        self._terms: tuple[RunnerConfig, bool, int, float, bool] | None = None  # of this crew
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

    def run_in_turns(self, configs: Sequence[RunConfig], progress: Progress) -> list[Record]:
        """Measure configurations that differ in their links alone in one job: see `harness.turns`."""
        taken = [Run(config, progress) for config in configs]

        def act(run: Run) -> None:
            run.system.check(run.workload, run.options, run.user)
            measure_in_turns(taken, self._crew_for(run.config, progress), self._answers)

        first = self._recorded(taken[0], act)
        for run in taken[1:]:
            if run.status == "ok" and not run.complete:
                run.end(first.status, f"with the other runs of its job: {first.error}")
        return [first, *(run.record() for run in taken[1:])]

    def calibrate(self, config: RunConfig, progress: Progress) -> Record:
        """Measure only the links of one configuration, those of the dealer too."""
        return self._recorded(
            Run(config, progress),
            lambda run: run.measure_links(self._crew_for(config, progress), ROLES),
        )

    def _recorded(self, run: Run, act: Callable[[Run], object]) -> Record:
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
        tc, tls = config.shaper.name == "tc", bool(config.transport.tls)
        terms = (config.runner, tc, config.threads, config.timeout_s, tls)
        if self._crew and terms == self._terms:
            return self._crew
        self._dismiss()
        progress.stage("starting parties")
        self._terms = terms
        self._crew = Crew(make_runner(config.runner, tc), config.threads, config.timeout_s, tls)
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
