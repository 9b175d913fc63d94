"""Does the gate find what it should, and only that? It is put to the test on this machine.

Each trial is a whole comparison of this tree with itself, with fresh parties: without a fault
(every regression it reports is a false alarm), with a slower online phase, with one message too many.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from math import ceil

from rich.console import Group
from rich.table import Table
from rich.text import Text

from harness.config.schema import RunConfig
from harness.gate.baseline import Row, counts_of
from harness.gate.check import Result, Timing, check_row, lenient
from harness.gate.measure import Bench
from harness.parties.faults import Fault
from harness.progress import Progress
from harness.report.tables import print_fitting

WORDS = ("experiment=argmax", "experiment.n=1000", "shaper=none", "repeat=20", "warmup=2")
SLOW = 0.10
FALSE_ALARMS, POWER = 0.05, 0.90  # at most, at least
BenchOf = Callable[[Fault | None], AbstractContextManager[Bench]]


@dataclass(frozen=True)
class Kind:
    """Trials of one kind. met: whether so many regressions among them are right; needed: in words."""

    name: str
    fault: Fault | None
    trials: int
    met: Callable[[int], bool]
    needed: str

    def timing(self, patience_s: float) -> Timing:
        """An extra message is seen in the counts, without timing anything."""
        counted = self.fault is not None and self.fault.extra_message
        return Timing(True, "counts tell" if counted else None, patience_s)


@dataclass(frozen=True)
class Outcome:
    """What came of all trials of one kind."""

    kind: Kind
    results: tuple[Result, ...]

    @property
    def regressions(self) -> int:
        """How many were called one."""
        return sum(result.verdict == "regression" for result in self.results)

    @property
    def met(self) -> bool:
        """Whether that is as it should be."""
        return self.kind.met(self.regressions)


def kinds(trials: int) -> tuple[Kind, ...]:
    """`trials` A/A comparisons, and half as many of each fault."""
    most, faulty = int(FALSE_ALARMS * trials), max(1, trials // 2)
    least = ceil(POWER * faulty)
    return (
        Kind("A/A", None, trials, lambda n: n <= most, f"at most {most}"),
        Kind(
            f"+{SLOW:.0%} online time at P1",
            Fault(slow=SLOW),
            faulty,
            lambda n: n >= least,
            f"at least {least}",
        ),
        Kind(
            "one message of 8 bytes more",
            Fault(extra_message=True),
            faulty,
            lambda n: n == faulty,
            f"all {faulty}",
        ),
    )


def self_test(
    config: RunConfig, trials: int, patience_s: float, bench_of: BenchOf, progress: Progress
) -> list[Outcome]:
    """Run all trials of `config`. Raises GateFailure where it cannot be measured at all."""
    with bench_of(None) as bench:
        (*_, record) = bench.measure(lenient(config), alone=True)
    row = Row("self-test", (), phases=counts_of(record))
    planned = kinds(trials)
    number, total = 0, sum(kind.trials for kind in planned)
    outcomes = []
    for kind in planned:
        results = []
        for _ in range(kind.trials):
            number += 1
            progress.run(number, total, kind.name)
            with bench_of(kind.fault) as bench:
                results.append(check_row(row, config, bench, kind.timing(patience_s)))
            progress.done(_summary(kind, results[-1]))
        outcomes.append(Outcome(kind, tuple(results)))
    return outcomes


def report(outcomes: Sequence[Outcome]) -> int:
    """Print a line for each kind of trial; 1 if a rate is not as it should be."""
    table = Table(box=None, padding=(0, 1))
    for head in ("trial", "trials", "regression", "cannot tell", "fine", "needed", ""):
        table.add_column(head, justify="left" if head in ("trial", "needed", "") else "right")
    for outcome in outcomes:
        verdicts = [result.verdict for result in outcome.results]
        counts = (str(verdicts.count(v)) for v in ("regression", "cannot tell", "fine"))
        met = Text("met", "green") if outcome.met else Text("not met", "red")
        table.add_row(outcome.kind.name, str(len(verdicts)), *counts, outcome.kind.needed, met)
    print_fitting([Group(Text("gate, tested on itself", "bold"), table)])
    return 0 if all(outcome.met for outcome in outcomes) else 1


def _summary(kind: Kind, result: Result) -> str:
    ratio = f" {result.ratio}" if result.ratio else ""
    lines = [line for check in result.checks for line in check.lines if check.verdict]
    return " · ".join([f"{kind.name}: {result.verdict}{ratio}", *lines])
