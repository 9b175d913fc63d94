"""One session of runs: it keeps the parties alive between runs that can share them.

A run = start parties → connect → calibrate the link → prepare → (offline → input → online) for each
warm-up and each sample → check every answer → record.
"""

import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Self

from harness.config.schema import RunConfig, RunnerConfig
from harness.errors import PartyFailure, RunInterrupted, RunnerError
from harness.measure.interleave import measure_interleaved
from harness.measure.run import Outcome, Run, measure, measure_links, record_of
from harness.measure.verify import Answers
from harness.parties.group import PartyGroup
from harness.progress import Progress
from harness.records.code_digest import code_digest
from harness.records.record import Record, Status
from harness.runners.make_runner import make_runner
from protocols.errors import Unsupported
from protocols.party import ROLES, Role


class Session:
    """Runs configurations one after the other. A context manager: at its end no party is left."""

    def __init__(self) -> None:
        self._parties: PartyGroup | None = None
        self._terms: tuple[RunnerConfig, bool, int, float, bool] | None = None  # of these parties
        self._answers = Answers()
        self._code = ""  # digest of what the parties were started from

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._close_parties()

    def run(self, config: RunConfig, progress: Progress) -> Record:
        """Measure one configuration. A failure is a record too; Ctrl-C raises RunInterrupted."""

        def act(run: Run) -> list[Record]:
            run.check()
            return [measure(run, self._parties_for(config, progress), self._answers, progress)]

        return self._recorded([Run(config)], act)[0]

    def run_interleaved(self, configs: Sequence[RunConfig], progress: Progress) -> list[Record]:
        """Measure configurations that differ in their links alone in one job, in turns
        (`harness.measure.interleave`)."""
        runs = [Run(config) for config in configs]

        def act(first: Run) -> list[Record]:
            first.check()
            parties = self._parties_for(first.config, progress)
            return measure_interleaved(runs, parties, self._answers, progress)

        return self._recorded(runs, act)

    def calibrate(self, config: RunConfig, progress: Progress) -> Record:
        """Measure only the links of one configuration, those of the dealer too."""

        def act(run: Run) -> list[Record]:
            links = measure_links(run, self._parties_for(config, progress), ROLES, progress)
            refusal = links.refusal(run)
            return [record_of(run, Outcome("failed" if refusal else "ok", refusal), links)]

        return self._recorded([Run(config)], act)[0]

    def _recorded(self, runs: Sequence[Run], act: Callable[[Run], list[Record]]) -> list[Record]:
        """The records of `act`, which measures `runs`, however it ends."""
        first = runs[0]
        try:
            return [self._dated(record) for record in act(first)]
        except Unsupported as reason:
            outcome = Outcome("unsupported", str(reason))
        except RunnerError as error:
            outcome = self._failed(Outcome("failed", f"runner={first.config.runner.name}: {error}"))
        except PartyFailure as failure:
            status: Status = "timeout" if failure.timed_out else "failed"
            outcome = self._failed(Outcome(status, str(failure), logs=self._logs()))
        except KeyboardInterrupt:
            outcome = self._failed(Outcome("failed", "interrupted"))
            raise RunInterrupted(record_of(first, outcome)) from None
        except Exception as error:
            logs = self._logs() | {"harness": traceback.format_exc().splitlines()}
            text = f"harness: {type(error).__name__}: {error}"
            outcome = self._failed(Outcome("failed", text, logs=logs))
        rest = Outcome(outcome.status, f"with the other runs of its job: {outcome.error}")
        return [record_of(first, outcome), *(record_of(run, rest) for run in runs[1:])]

    def _dated(self, record: Record) -> Record:
        """`record`, without a digest where the code changed after its parties were started: nobody
        knows which of both made it, so that it never counts as stored."""
        if not self._code or code_digest() == self._code:
            return record
        self._close_parties()
        print(
            "the code changed while this ran: its record does not count as stored", file=sys.stderr
        )
        return replace(record, environment={**record.environment, "sources": None})

    def _failed(self, outcome: Outcome) -> Outcome:
        """`outcome`, once no party is left."""
        self._close_parties()
        return outcome

    def pids(self) -> dict[Role, int | None]:
        """The parties' process ids, none before the first run."""
        return {} if self._parties is None else self._parties.pids()

    def _parties_for(self, config: RunConfig, progress: Progress) -> PartyGroup:
        tc, tls = config.shaper.name == "tc", bool(config.transport.tls)
        terms = (config.runner, tc, config.threads, config.timeout_s, tls)
        if self._parties and terms == self._terms:
            return self._parties
        self._close_parties()
        progress.stage("starting parties")
        self._code = code_digest()
        self._terms = terms
        runner = make_runner(config.runner, tc)
        self._parties = PartyGroup(runner, config.threads, config.timeout_s, tls)
        self._parties.start()
        return self._parties

    def _logs(self) -> dict[str, list[str]]:
        if self._parties is None:
            return {}
        return {role: list(lines) for role, lines in self._parties.logs.items()}

    def _close_parties(self) -> None:
        if self._parties is not None:
            self._parties.close()
            self._parties = None
