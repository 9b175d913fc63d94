"""`permbench replay`: what traced runs would take on other networks."""

import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from harness.cli.verb_show import split_folder
from harness.errors import ConfigError, rejected

if TYPE_CHECKING:
    from harness.replay.networks import Networks
import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

from harness.cli.verb_run import session
from harness.machine.capabilities import require
from harness.machine.interrupts import deferred
from harness.measure import sweep as runs
from harness.progress import make_progress
from harness.records import store

if TYPE_CHECKING:
    from harness.replay.networks import Networks
    from harness.replay.predict import Prediction

KEYS = """\
keys:
  network=a,b            presets; none: all of them. network.rate_mbit=…, network.dealer.rtt_ms=…
  rtt_ms=1..200:log20    a grid of round-trip times (or 1,10,100, or 0..100:11, or one number)
  rate_mbit=100,1000     … and of rates; an axis not given is that of network
  compute=cpu            parties on machines of their own; wall: this machine, as it was
  compute_scale=1        2: machines half as fast
  results_dir=DIR        where records and traces are
"""
EXAMPLES = """\
examples:
  permbench run -m experiment=layer model=gpt2 experiment.q_len=1 system=permllm,puma \\
      shaper=none trace=true                             traces to replay
  permbench replay                                       all of them, on every preset
  permbench replay 3fa2 network=permllm-wan,puma
  permbench replay experiment=layer rtt_ms=1..200:log20 rate_mbit=10..10000:log20
  permbench replay experiment=layer rtt_ms=1..200:log40 rate_mbit=100 --figure layer.png
  permbench replay 3fa2 77c0 rtt_ms=1..200:log40 rate_mbit=10..10000:log40 --figure ratio.png
  permbench replay 3fa2 compute=wall --validate
"""


OWN_KEYS = ("network", "rtt_ms", "rate_mbit", "compute", "compute_scale")


@dataclass(frozen=True)
class ReplayArguments:
    """records: files and beginnings of ids. filters: as of show. network_overrides:
    `network.key=value`. own: the other keys of replay itself."""

    records: list[str]
    filters: list[str]
    network_overrides: list[str]
    own: dict[str, str]
    results_dir: Path

    def command(self, figure: str) -> str:
        """What draws the same figure again."""
        own = [f"{key}={value}" for key, value in self.own.items()]
        parts = [*self.records, *self.filters, *self.network_overrides, *own]
        folder = f"results_dir={self.results_dir}"
        return shlex.join(["permbench", "replay", *parts, folder, "--figure", figure])

    def compute(self) -> Literal["cpu", "wall"]:
        """Whose time a segment takes. Raises ConfigError."""
        given = self.own.get("compute", "cpu")
        if given not in ("cpu", "wall"):
            raise rejected("compute", given, "cpu or wall")
        return "wall" if given == "wall" else "cpu"

    def scale(self) -> float:
        """How many times as long the parties' work takes. Raises ConfigError."""
        text = self.own.get("compute_scale", "1")
        try:
            scale = float(text)
        except ValueError:
            scale = math.nan
        if not 0 <= scale < math.inf:
            raise rejected("compute_scale", text, "a number ≥ 0 (2: machines half as fast)")
        return scale

    def networks(self) -> "Networks | None":
        """What they say about networks; None if nothing. Raises ConfigError."""
        from harness.replay.networks import check_predictable, grid, named  # noqa: PLC0415 - slow

        names = self.own["network"].split(",") if "network" in self.own else []
        axes = self.own.get("rtt_ms"), self.own.get("rate_mbit")
        if axes != (None, None):
            return check_predictable(grid(names, self.network_overrides, *axes))
        if not names and not self.network_overrides:
            return None
        return check_predictable(named(names, self.network_overrides))


def split_arguments(arguments: Sequence[str]) -> ReplayArguments:
    """Sort arguments by what they say. Raises ConfigError for a key given twice."""
    folder, rest = split_folder(arguments)
    split = ReplayArguments([], [], [], {}, folder)
    for argument in rest:
        key, equals, value = argument.partition("=")
        if not equals:
            split.records.append(argument)
        elif key.startswith("network."):
            split.network_overrides.append(argument)
        elif key not in OWN_KEYS:
            split.filters.append(argument)
        elif key in split.own:
            raise ConfigError(key, "is given twice")
        else:
            split.own[key] = value
    return split


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Records, networks, and what to do with them."""
    parser.description = (
        "Predict the online time of traced runs (trace=true) on any network, by simulating their "
        "parties and links; with several runs, which is fastest and where they cross."
    )
    parser.epilog = f"{KEYS}\n{EXAMPLES}"
    parser.add_argument(
        "arguments",
        nargs="*",
        metavar="RECORD|KEY=VALUE",
        help="a record's file or the beginning of its id; none: all that have a trace and pass the "
        "filters, which are those of show",
    )
    parser.add_argument(
        "--format", choices=("table", "json", "csv"), default="table", help="default: table"
    )
    parser.add_argument(
        "--figure",
        metavar="PATH",
        help="draw a grid, as PATH's .png, .svg, .pdf, .csv and .txt: one run's time, two runs' ratio",
    )
    parser.add_argument(
        "--validate",
        action="store_true",
        help="trace again, measure each network with the emulated link in turns with that, and compare "
        "(runs with shaper=none, no whole models; results in results_dir/validation); without networks, "
        "six from 0.5 to 80 ms and 100 Mbit/s to 10 Gbit/s",
    )


def run(args: argparse.Namespace) -> int:
    """Predict and print, or validate."""
    arguments = split_arguments(args.arguments)
    return _validate(arguments) if args.validate else _predict(arguments, args.format, args.figure)


def _predict(arguments: ReplayArguments, form: str, figure: str | None) -> int:
    from harness.replay.networks import named  # noqa: PLC0415 - Hydra and numpy are slow to import

    networks = arguments.networks() or named([], [])
    if figure and not networks.is_grid:
        raise ConfigError("--figure", "draws a grid: give rtt_ms=… or rate_mbit=…")
    predictions = _predictions(arguments, networks)
    _print(form, predictions, networks)
    if figure:
        from harness.replay.grid_figure import save_figure  # noqa: PLC0415 - matplotlib is slow to import
        from harness.report.figure_files import listing  # noqa: PLC0415

        path = save_figure(Path(figure), predictions, networks, arguments.command(figure))
        print(listing(path), file=sys.stdout if form == "table" else sys.stderr)
    return 0


def _predictions(arguments: ReplayArguments, networks: "Networks") -> "list[Prediction]":
    from harness.replay.predict import predict  # noqa: PLC0415
    from harness.replay.traced_runs import find_traced_runs  # noqa: PLC0415

    compute, scale = arguments.compute(), arguments.scale()
    traced_runs = find_traced_runs(arguments.records, arguments.filters, arguments.results_dir)
    return [predict(traced_run, networks.configs, compute, scale) for traced_run in traced_runs]


def _validate(arguments: ReplayArguments) -> int:
    """Measure what is predicted; 1 if a run failed."""
    from harness.config.config_hash import restored  # noqa: PLC0415
    from harness.measure import replay_validation as validate  # noqa: PLC0415
    from harness.measure import unsaved  # noqa: PLC0415
    from harness.replay.traced_runs import find_traced_runs  # noqa: PLC0415
    from harness.report.tables import print_fitting  # noqa: PLC0415

    networks, compute = arguments.networks() or validate.points(), arguments.compute()
    found = find_traced_runs(arguments.records, arguments.filters, arguments.results_dir)
    traced_runs = validate.chosen(found, bool(arguments.records))
    folder = arguments.results_dir
    plans = [
        (traced_run, validate.configs_of(traced_run, networks, folder))
        for traced_run in traced_runs
    ]
    for config in (config for _, configs in plans for config in configs):
        store.check_writable(runs.path_of(config).parent)
        require(config)
    compared, records = [], []
    progress = make_progress()
    try:
        with deferred(), session() as measures:
            for number, (traced_run, configs) in enumerate(plans, start=1):
                progress.run(
                    number, len(plans), f"{traced_run.label} on {len(configs) - 1} networks"
                )
                taken = runs.measured_interleaved(configs, measures, progress)
                records += taken
                points = validate.held(
                    traced_run, taken, networks, folder, compute, arguments.scale()
                )
                compared += points
                progress.done(f"{traced_run.label}: {validate.summary(points)}")
    finally:
        unsaved.finish()
        progress.close()
    print_fitting([validate.table_of(compared)])
    for record in (record for record in records if record.status != "ok"):
        print(runs.summary(record, restored(record.config).title()))
    print(validate.summary(compared))
    return runs.exit_code(records)


def _print(form: str, predictions: "Sequence[Prediction]", networks: "Networks") -> None:
    """As tables for people, JSON or CSV."""
    from harness.replay import prediction_tables as report  # noqa: PLC0415

    if form != "table":
        rows = report.as_rows(predictions, networks)
        print(_as_json(rows) if form == "json" else _as_csv(rows), end="")
        return
    from harness.report.tables import print_fitting  # noqa: PLC0415

    for table in report.tables(predictions, networks):
        print_fitting([table])
        print()
    for line in report.crossing_lines(predictions, networks):
        print(line)
    print_fitting([report.note(networks)])


def _as_json(rows: list[dict[str, Any]]) -> str:
    return json.dumps(rows, indent=1) + "\n"


def _as_csv(rows: list[dict[str, Any]]) -> str:
    import pandas as pd  # noqa: PLC0415 - slow to import

    return pd.DataFrame(rows).to_csv(index=False)
