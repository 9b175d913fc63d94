"""`permbench demo`: a small sweep, its tables and its figures."""

import argparse
from pathlib import Path

from harness.cli.verb_report import report
from harness.cli.verb_run import compose_points, run_points, show
from harness.measure import sweep as runs

# On a busy machine a link may be off; the demo flags that instead of refusing, and waits little for it.
LINK = ("calibration.strict=false", "calibration.patience_s=5")
COMMON = ("network=permllm-wan", "repeat=3", "warmup=1", *LINK)
SWEEPS = (
    ("experiment=argmax", "experiment.n=1000,10000,100000"),
    ("experiment=layer", "model=tiny,gpt2,chatglm-6b"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The folder for the results."""
    parser.description = (
        "Run PermLLM's argmax and transformer layer over the WAN of its paper, show the "
        "results and draw them. Takes under three minutes; stored results are used."
    )
    parser.add_argument(
        "arguments", nargs="*", metavar="KEY=VALUE", help="further keys for all runs, as of run"
    )


def run(args: argparse.Namespace) -> int:
    """Run, show, draw."""
    sweeps = [(*sweep, *COMMON, *args.arguments) for sweep in SWEEPS]
    configs = [config for sweep in sweeps for config in compose_points(sweep, multirun=True)]
    records = run_points(configs)
    show(records)
    for line in report(Path(configs[0].results_dir)):
        print(line)
    return runs.exit_code(records)
