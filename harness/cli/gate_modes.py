"""What `permbench gate` does in each of its modes. Each returns what is left to do once the progress
display is closed: print, write, and give the exit code."""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path

from harness.cli.verb_run import compose_points
from harness.config.experiments import GenerateConfig
from harness.config.schema import RunConfig
from harness.errors import ConfigError, GateFailure
from harness.gate import outputs, self_test
from harness.gate.baseline import Baseline, Row, default_rows, load
from harness.gate.check import Result, Timing, check_row
from harness.gate.measure import Sides, checkout
from harness.gate.update import updated
from harness.progress import Progress
from harness.records.environment import environment, machine_of
from harness.version import REPO

Finish = Callable[[], int]


def gate(args: argparse.Namespace, progress: Progress) -> Finish:
    """Check every row of the baseline. Raises ConfigError."""
    baseline = load(args.baseline)
    rows = _composed(_chosen(baseline.rows, args.rows, args.baseline), args.arguments)
    timing, results = _timing(args, baseline), list[Result]()
    with Sides(progress, checkout(args.against) if args.against else None) as bench:
        for number, (row, config) in enumerate(rows, start=1):
            progress.run(number, len(rows), row.name)
            results.append(check_row(row, config, bench, timing))
            progress.done(f"{results[-1].verdict:11} {row.name}")
    return lambda: _report(args, results)


def _report(args: argparse.Namespace, results: Sequence[Result]) -> int:
    outputs.print_results(results)
    files = (args.summary, args.junit, args.benchmark)
    makers = (outputs.markdown, outputs.junit, outputs.benchmark)
    for path, make in zip(files, makers, strict=True):
        if path:
            outputs.write(path, make(results))
    return outputs.exit_code(results)


def update(args: argparse.Namespace, progress: Progress) -> Finish:
    """Write the baseline anew. Raises ConfigError, then the file is as before."""
    if args.rows:
        raise ConfigError("--rows", "cannot be used with --update: one baseline is of one machine")
    old = load(args.baseline).rows if args.baseline.exists() else default_rows()
    rows = _composed([replace(row, run=row.arguments(args.arguments)) for row in old], ())
    try:
        with Sides(progress) as bench:
            baseline = updated(rows, bench, progress)
    except GateFailure as failure:
        raise ConfigError(str(args.baseline), f"not updated: {failure}") from None
    baseline.save(args.baseline)
    return lambda: _say(f"{len(rows)} rows in {args.baseline}", 0)


def test_itself(args: argparse.Namespace, progress: Progress) -> Finish:
    """Measure the gate's false alarms and its power. Raises ConfigError."""
    if args.trials < 1:
        raise ConfigError("--trials", f"got {args.trials}, must be a whole number ≥ 1")
    ((row, config),) = _composed([Row("self-test", self_test.WORDS)], args.arguments)
    try:
        outcomes = self_test.self_test(
            config, args.trials, args.patience_s, lambda f: Sides(progress, REPO, f), progress
        )
    except GateFailure as failure:
        raise ConfigError(row.name, str(failure)) from None
    return lambda: self_test.report(outcomes)


def _say(text: str, code: int) -> int:
    print(text)
    return code


def _chosen(rows: Sequence[Row], pattern: str | None, file: Path) -> list[Row]:
    chosen = [row for row in rows if fnmatch(row.name, pattern or "*")]
    if not chosen:
        raise ConfigError(str(file), f"no row is called {pattern}" if pattern else "has no rows")
    return chosen


def _composed(rows: Sequence[Row], arguments: Sequence[str]) -> list[tuple[Row, RunConfig]]:
    """Every row with its configuration. Raises ConfigError, which names the row."""
    return [(row, _config(row, row.arguments(arguments))) for row in rows]


def _config(row: Row, arguments: Sequence[str]) -> RunConfig:
    try:
        (config,) = compose_points(arguments, multirun=False)
    except ConfigError as error:
        raise ConfigError(f"row {row.name}", str(error)) from None
    if isinstance(config.experiment, GenerateConfig):
        raise ConfigError(f"row {row.name}", "experiment=generate is no benchmark: use model")
    return config


def _timing(args: argparse.Namespace, baseline: Baseline) -> Timing:
    if args.counters_only:
        return Timing(why_not="--counters-only")
    if args.against:
        return Timing(against=True, patience_s=args.patience_s)
    here = machine_of(environment(REPO))
    other = [key for key in here if here[key] != baseline.machine.get(key)]
    why = f"the baseline is of another machine ({', '.join(other)}); --against DIR compares them"
    return Timing(why_not=why if other else None, patience_s=args.patience_s)
