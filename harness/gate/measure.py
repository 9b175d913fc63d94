"""Measuring this tree alone, or in turns with another checkout: A B, B A, A B, …"""

import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from harness.config.errors import ConfigError
from harness.config.schema import RunConfig
from harness.crew import Crew, PartyFailure
from harness.evaluation import texts
from harness.inject import Fault
from harness.progress import Progress
from harness.record import Record
from harness.requirements import require
from harness.run import REPO, Run
from harness.runners.base import WORKER, Door, Place, RunnerError
from harness.runners.local import Child, Local
from harness.runners.registry import make_runner
from harness.verify import Answers
from protocols.party import Role
from protocols.system import Unsupported


class GateFailure(RuntimeError):
    """There is nothing to compare; the text says why."""


class Bench(Protocol):
    """What measures: `Sides`."""

    def measure(self, config: RunConfig, alone: bool = False) -> list[Record]:
        """A record of each side, this tree's last; alone: of nothing else. Raises GateFailure."""

    def renew(self) -> None:
        """Measure with fresh parties from here on."""


class Checkout(Local):
    """`runner=local`, with the code of some checkout under this interpreter."""

    def __init__(self, tree: Path) -> None:
        self._tree = tree

    def launch(self, role: Role, door: Door, environment: Mapping[str, str]) -> Place:
        """See `Runner.launch`. What lies in the working directory is imported first."""
        argv = [sys.executable, *WORKER, *door.arguments(role)]
        return Child(argv, door.secret, {**environment, "PYTHONSAFEPATH": ""}, self._tree)


def checkout(folder: Path) -> Path:
    """`folder`, if it is a checkout of permbench. Raises ConfigError."""
    if not (folder / "harness" / "worker.py").is_file():
        raise ConfigError("--against", f"{folder} is no checkout of permbench")
    return folder.resolve()


@dataclass
class _Side:
    """One checkout's parties. tree: None for those of the configured runner. name: for people."""

    name: str
    tree: Path | None
    fault: Fault | None = None
    crew: Crew | None = None

    def staffed(self, config: RunConfig) -> Crew:
        """Its parties, started if need be. Raises PartyFailure, RunnerError."""
        if self.crew is None:
            tc = config.shaper.name == "tc"
            runner = Checkout(self.tree) if self.tree else make_runner(config.runner, tc)
            tls = bool(config.transport.tls)
            self.crew = Crew(runner, config.threads, config.timeout_s, tls)
            self.crew.start()
        return self.crew

    def dismiss(self) -> None:
        """End its parties."""
        if self.crew is not None:
            self.crew.close()
            self.crew = None


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
            side.dismiss()

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
        runs = [(side, Run(config, self._progress, side.fault)) for side in sides]
        for side, run in runs:
            with _blaming(side):
                if not run.measure_links(side.staffed(config), run.system.online_roles):
                    raise GateFailure(f"{side.name}{run.record().error}")
        courses = []
        for side, run in runs:
            with _blaming(side):
                courses.append((side, run.begin(side.staffed(config))))
        for number, text in enumerate(texts(config.repeat, config.warmup)):
            for side, course in courses[:: 1 if number % 2 == 0 else -1]:
                with _blaming(side):
                    course.round(text)
        for (side, run), (_, course) in zip(runs, courses, strict=True):
            with _blaming(side):
                run.finish(course, self._answers)
        return [run.record() for _, run in runs]

    def _check(self, config: RunConfig, sides: int) -> None:
        """Raise GateFailure for what cannot be measured, and end parties started otherwise."""
        run = Run(config, self._progress)
        try:
            require(config)
            run.system.check(run.workload, run.options, run.user)
        except Unsupported as reason:
            raise GateFailure(f"unsupported: {reason}") from None
        except ConfigError as lack:
            raise GateFailure(str(lack)) from None
        if sides > 1 and config.runner.name != "local":
            raise GateFailure(f"another checkout needs runner=local, not {config.runner.name}")
        terms = (config.runner, config.shaper.name == "tc", config.threads, config.timeout_s)
        if terms != self._terms:
            self.renew()
            self._terms = terms


@contextmanager
def _blaming(side: _Side) -> Iterator[None]:
    """What goes wrong inside is this side's fault."""
    try:
        yield
    except (PartyFailure, RunnerError) as failure:
        raise GateFailure(f"{side.name}{failure}") from None
