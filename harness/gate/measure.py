"""Measuring this tree alone, or in turns with another checkout: A B, B A, A B, …"""

import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from harness.config.schema import RunConfig
from harness.errors import ConfigError, GateFailure, PartyFailure, RunnerError
from harness.machine.capabilities import require
from harness.measure.evaluation import ActiveJob, texts
from harness.measure.interleave import in_turn
from harness.measure.run import Run, measure_links, outcome_of, record_of
from harness.measure.verify import Answers
from harness.parties.faults import Fault
from harness.parties.group import PartyGroup
from harness.progress import Progress
from harness.records.record import Record
from harness.runners.base import WORKER, HarnessAddress, RunningParty
from harness.runners.local import Child, Local
from harness.runners.make_runner import make_runner
from harness.version import REPO
from protocols.errors import Unsupported
from protocols.party import Role


class Bench(Protocol):
    """What measures: `Sides`."""

    def measure(self, config: RunConfig, alone: bool = False) -> list[Record]:
        """A record of each side, this tree's last; alone: of nothing else. Raises GateFailure."""

    def renew(self) -> None:
        """Measure with fresh parties from here on."""


class Checkout(Local):
    """`runner=local`, with the code of some checkout under this interpreter."""

    def __init__(self, tree: Path, roles: Sequence[Role]) -> None:
        super().__init__(roles)
        self._tree = tree

    def launch(
        self, role: Role, harness: HarnessAddress, environment: Mapping[str, str]
    ) -> RunningParty:
        """See `Runner.launch`. What lies in the working directory is imported first."""
        argv = [sys.executable, *WORKER, *harness.arguments(role)]
        return Child(argv, harness.secret, {**environment, "PYTHONSAFEPATH": ""}, self._tree)


def checkout(folder: Path) -> Path:
    """`folder`, if it is a checkout of permbench. Raises ConfigError."""
    if not (folder / "harness" / "parties" / "worker.py").is_file():
        raise ConfigError("--against", f"{folder} is no checkout of permbench")
    return folder.resolve()


@dataclass
class _Side:
    """One checkout's parties. tree: None for those of the configured runner. name: for people."""

    name: str
    tree: Path | None
    fault: Fault | None = None
    parties: PartyGroup | None = None

    def started(self, config: RunConfig) -> PartyGroup:
        """Its parties, started if need be. Raises PartyFailure, RunnerError."""
        if self.parties is None:
            tc = config.shaper.name == "tc"
            roles = config.system.roles()
            made = Checkout(self.tree, roles) if self.tree else None
            runner = made or make_runner(config.runner, tc, roles)
            tls = bool(config.transport.tls)
            self.parties = PartyGroup(runner, config.threads, config.timeout_s, tls)
            self.parties.start()
        return self.parties

    def close(self) -> None:
        """End its parties."""
        if self.parties is not None:
            self.parties.close()
            self.parties = None


class Sides:
    """This tree's parties, and where `against` is given those of that checkout.

    All live on from one measurement to the next; those whose turn it is not sleep. fault: of this
    tree's parties. A context manager: at its end no party is left.
    """

    def __init__(
        self, progress: Progress, against: Path | None = None, fault: Fault | None = None
    ) -> None:
        self._progress = progress
        self._sides = [_Side("", REPO if against else None, fault)]
        if against:
            self._sides.insert(0, _Side(f"{against}: ", against))
        self._terms: object = None  # of the parties that live
        self._answers = Answers()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.renew()

    def renew(self) -> None:
        """See `Bench.renew`."""
        for side in self._sides:
            side.close()

    def measure(self, config: RunConfig, alone: bool = False) -> list[Record]:
        """See `Bench.measure`: `config.repeat` evaluations of each side, in turns."""
        try:
            return self._measure(config, self._sides[-1:] if alone else self._sides)
        except GateFailure:
            self.renew()
            raise
        except Exception as error:  # as for any run: the next row is not to suffer
            traceback.print_exc()
            self.renew()
            raise GateFailure(f"harness: {type(error).__name__}: {error}") from None

    def _measure(self, config: RunConfig, sides: Sequence[_Side]) -> list[Record]:
        self._check(config, len(sides))
        run = self._check(config, len(sides))
        runs = [replace(run, fault=side.fault) for side in sides]
        links, jobs = [], []
        for side, run in zip(sides, runs, strict=True):
            with _blaming(side):
                parties = side.started(config)
                found = measure_links(run, parties, run.online_roles, self._progress)
                if refusal := found.refusal(run):
                    raise PartyFailure(refusal)
                links.append(found)
        for side, run in zip(sides, runs, strict=True):
            with _blaming(side):
                jobs.append(ActiveJob(side.started(config), run.job, self._progress))
        self._evaluate(config, sides, jobs)
        records = []
        for side, run, found, job in zip(sides, runs, links, jobs, strict=True):
            with _blaming(side):
                result = job.finish(config.warmup)
                outcome = outcome_of(run, found, result, self._answers, self._progress)
                records.append(record_of(run, outcome, found))
        return records

    def _evaluate(
        self, config: RunConfig, sides: Sequence[_Side], jobs: Sequence[ActiveJob]
    ) -> None:
        """All evaluations of all sides: A B, B A, A B, …"""
        pairs = list(zip(sides, jobs, strict=True))
        for number, text in enumerate(texts(config.repeat, config.warmup)):
            for side, job in in_turn(pairs, number):
                with _blaming(side):
                    job.evaluate(text)

    def _check(self, config: RunConfig, sides: int) -> Run:
        """The run, if it can be measured; parties that were started otherwise end. Raises
        GateFailure."""
        run = Run(config)
        try:
            require(config)
            run.check()
        except Unsupported as reason:
            raise GateFailure(f"unsupported: {reason}") from None
        except ConfigError as found:
            raise GateFailure(str(found)) from None
        if sides > 1 and config.runner.name != "local":
            raise GateFailure(f"another checkout needs runner=local, not {config.runner.name}")
        tc = config.shaper.name == "tc"
        terms = (config.runner, tc, config.threads, config.timeout_s, config.transport, run.roles)
        if terms != self._terms:
            self.renew()
            self._terms = terms
        return run


@contextmanager
def _blaming(side: _Side) -> Iterator[None]:
    """What goes wrong inside is this side's fault."""
    try:
        yield
    except (PartyFailure, RunnerError) as failure:
        raise GateFailure(f"{side.name}{failure}") from None
