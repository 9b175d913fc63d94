"""`permbench replay`: what traced runs would take on other networks."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import runs, store
from harness.config.errors import ConfigError
from harness.progress import make_progress
from harness.replay.words import Words, split_words
from harness.requirements import require
from harness.verbs.run import session

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
  permbench replay 3fa2 compute=wall --validate
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Records, networks, and what to do with them."""
    parser.description = (
        "Predict the online time of traced runs (trace=true) on any network, by simulating their "
        "parties and links; with several runs, which is fastest and where they cross."
    )
    parser.epilog = f"{KEYS}\n{EXAMPLES}"
    parser.add_argument(
        "words",
        nargs="*",
        metavar="RECORD|KEY=VALUE",
        help="a record's file or the beginning of its id; none: all that have a trace and pass the "
        "filters, which are those of show",
    )
    parser.add_argument(
        "--format", choices=("table", "json", "csv"), default="table", help="default: table"
    )
    parser.add_argument("--figure", metavar="PATH", help="draw a grid, as PATH's .png and .svg")
    parser.add_argument(
        "--validate",
        action="store_true",
        help="trace again, measure each network with the emulated link in turns with that, and compare "
        "(runs with shaper=none, no whole models; results in results_dir/validation); without networks, "
        "six from 0.5 to 80 ms and 100 Mbit/s to 10 Gbit/s",
    )


def run(args: argparse.Namespace) -> int:
    """Predict and print, or validate."""
    words = split_words(args.words)
    return _validate(words) if args.validate else _predict(words, args.format, args.figure)


def _predict(words: Words, form: str, figure: str | None) -> int:
    from harness.replay.networks import named  # noqa: PLC0415 - Hydra and numpy are slow to import

    networks = words.networks() or named([], [])
    if figure and not networks.is_grid:
        raise ConfigError("--figure", "draws a grid: give rtt_ms=… or rate_mbit=…")
    predictions = _predictions(words, networks)
    _print(form, predictions, networks)
    if figure:
        from harness.replay.figure import save_figure  # noqa: PLC0415 - matplotlib is slow to import

        for path in save_figure(Path(figure), predictions, networks):
            print(path, file=sys.stdout if form == "table" else sys.stderr)
    return 0


def _predictions(words: Words, networks: "Networks") -> "list[Prediction]":
    from harness.replay.predict import predict  # noqa: PLC0415
    from harness.replay.subjects import find_subjects  # noqa: PLC0415

    compute, scale = words.compute(), words.scale()
    subjects = find_subjects(words.records, words.filters, words.results_dir)
    return [predict(subject, networks.configs, compute, scale) for subject in subjects]


def _validate(words: Words) -> int:
    """Measure what is predicted; 1 if a run failed."""
    from harness.config.restore import restored  # noqa: PLC0415
    from harness.replay import validate  # noqa: PLC0415
    from harness.replay.subjects import find_subjects  # noqa: PLC0415
    from harness.table import print_fitting  # noqa: PLC0415

    networks, compute = words.networks() or validate.points(), words.compute()
    found = find_subjects(words.records, words.filters, words.results_dir)
    subjects = validate.chosen(found, bool(words.records))
    folder = words.results_dir
    plans = [(subject, validate.configs_of(subject, networks, folder)) for subject in subjects]
    for config in (config for _, configs in plans for config in configs):
        store.check_writable(Path(config.results_dir))
        require(config)
    compared, records = [], []
    progress = make_progress()
    try:
        with session() as measures:
            for number, (subject, configs) in enumerate(plans, start=1):
                progress.run(number, len(plans), f"{subject.label} on {len(configs) - 1} networks")
                taken = runs.measured_in_turns(configs, measures, progress)
                records += taken
                points = validate.held(subject, taken, networks, folder, compute, words.scale())
                compared += points
                progress.done(f"{subject.label}: {validate.summary(points)}")
    finally:
        progress.close()
    print_fitting([validate.table_of(compared)])
    for record in (record for record in records if record.status != "ok"):
        print(runs.summary(record, restored(record.config).title()))
    print(validate.summary(compared))
    return runs.exit_code(records)


def _print(form: str, predictions: "Sequence[Prediction]", networks: "Networks") -> None:
    """As tables for people, JSON or CSV."""
    from harness.replay import report  # noqa: PLC0415

    if form != "table":
        rows = report.as_rows(predictions, networks)
        print(_as_json(rows) if form == "json" else _as_csv(rows), end="")
        return
    from harness.table import print_fitting  # noqa: PLC0415

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
