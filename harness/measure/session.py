"""One session of runs: it keeps the parties alive between runs that can share them.

A run = start parties → connect → calibrate the link → prepare → (offline → input → online) for each
warm-up and each sample → check every answer → record.
"""

import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Self

from harness.config.program_files import check_programs
from harness.config.schema import RunConfig
from harness.errors import RunInterrupted
from harness.machine.interrupts import caught, deferred, interruptible
from harness.machine.resource_check import fits
from harness.measure.external_runs import (
    measure_program_links,
    measure_programs,
)
from harness.measure.interleave import measure_in_turns, measure_interleaved
from harness.measure.run import FAILURES, Outcome, Run, ended_by, measure, measure_links, record_of
from harness.measure.verify import Answers
from harness.parties.group import PartyGroup
from harness.progress import Progress, warn
from harness.records.code_digest import code_digest
from harness.records.record import Record
from harness.registry import is_external
from harness.runners.make_runner import make_runner
from harness.runners.proxied import Proxied
from protocols.party import Role


class Session:
    """Runs configurations one after the other. A context manager: at its end no party is left."""

    def __init__(self) -> None:
        self._groups: dict[int, PartyGroup] = {}  # by the place of their run among those in turns
        self._terms: tuple[object, ...] | None = None  # of these parties
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
            if run.external:
                check_programs(run.config)
                return [measure_programs(run, self._parties_for(config, progress), progress)]
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

    def run_in_turns(self, configs: Sequence[RunConfig], progress: Progress) -> list[Record]:
        """Measure configurations of which each has parties of its own, evaluation by evaluation in turns
        (`harness.measure.interleave`)."""
        runs = [Run(config) for config in configs]

        def parties(place: int) -> PartyGroup:
            return self._parties_for(runs[place].config, progress, place, len(runs))

        def act(_: Run) -> list[Record]:
            return measure_in_turns(runs, parties, self._close_parties, self._answers, progress)

        return self._recorded(runs, act)

    def calibrate(self, config: RunConfig, progress: Progress) -> Record:
        """Measure only the links of one configuration, those of the dealer too."""

        def act(run: Run) -> list[Record]:
            measure = measure_program_links if run.external else measure_links
            links = measure(run, self._parties_for(config, progress), run.roles, progress)
            refusal = links.refusal(run)
            return [record_of(run, Outcome("failed" if refusal else "ok", refusal), links)]

        return self._recorded([Run(config)], act)[0]

    @deferred()
    def _recorded(self, runs: Sequence[Run], act: Callable[[Run], list[Record]]) -> list[Record]:
        """The records of `act`, which measures `runs`, however it ends."""
        first = runs[0]
        try:
            with interruptible():
                records = act(first)
            return [self._dated(record) for record in records]
        except FAILURES as failure:
            outcome = ended_by(failure, first, self._logs())
            if outcome.status != "unsupported":
                self._close_parties()
        except (KeyboardInterrupt, Exception) as error:
            if caught() or isinstance(error, KeyboardInterrupt):
                outcome = self._failed(Outcome("failed", "interrupted"))
                raise RunInterrupted(record_of(first, outcome)) from None
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
        warn("the code changed while this ran: its record does not count as stored")
        return replace(record, environment={**record.environment, "sources": None})

    def _failed(self, outcome: Outcome) -> Outcome:
        """`outcome`, once no party is left."""
        self._close_parties()
        return outcome

    def pids(self) -> dict[Role, int | None]:
        """The parties' process ids, none before the first run."""
        return self._groups[0].pids() if 0 in self._groups else {}

    def _parties_for(
        self, config: RunConfig, progress: Progress, place: int = 0, places: int = 1
    ) -> PartyGroup:
        """The parties of one of `places` runs. Those of places that are not needed sleep on for a later
        run, while there is memory for this one beside them."""
        tc, tls = config.shaper.name == "tc", bool(config.transport.tls)
        terms = (config.runner, tc, config.threads, config.timeout_s, tls)
        if terms != self._terms:
            self._close_parties()
        unused = [other for other in self._groups if other >= places]
        if unused and not fits(config):
            for each in unused:
                self._close_parties(each)
        proxied = is_external(config.system.name) and not tc
        roles = config.system.roles()
        if known := self._groups.get(place):
            if isinstance(known.runner, Proxied) == proxied and known.roles == roles:
                return known
            self._close_parties(place)
        progress.stage("starting parties")
        if not self._groups:
            self._code = code_digest()
        self._terms = terms
        runner = Proxied(roles) if proxied else make_runner(config.runner, tc, roles)
        group = PartyGroup(runner, config.threads, config.timeout_s, tls)
        self._groups[place] = group
        group.start()
        return group

    def _logs(self) -> dict[str, list[str]]:
        if 0 not in self._groups:
            return {}
        return {role: list(lines) for role, lines in self._groups[0].logs.items()}

    def _close_parties(self, place: int | None = None) -> None:
        """End the parties of one place, or all."""
        for each in [place] if place is not None else list(self._groups):
            if group := self._groups.pop(each, None):
                group.close()
