"""`permbench reproduce`: a paper's claims, each with what is run for it and what came of it."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.cli.verb_report import report
from harness.cli.verb_run import run_points
from harness.cli.verb_show import split_folder
from harness.config.config_hash import config_hash
from harness.measure.sweep import exit_code
from harness.records.record import Record
from harness.reproduce.claims import Paper, load_paper, papers

if TYPE_CHECKING:
    from harness.reproduce.claim_runs import ClaimRuns
    from harness.reproduce.outcomes import Outcome

DEFAULT = "paper"
EXAMPLES = """\
examples:
  permbench reproduce --quick              three systems at argmax and at a layer, in minutes
  permbench reproduce --dry-run            the claims, what they take, and what is left to run
  permbench reproduce                      all claims of the PermLLM paper
  permbench reproduce layer-bytes token    two of them
  permbench reproduce results_dir=/tmp/paper calibration.strict=true
  permbench reproduce --stored results_dir=results/reference/paper
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which claims, and how."""
    parser.description = (
        "Run the experiments of a paper and say of each claim whether it held. Stored runs count, so "
        "that the same command goes on where it was stopped. What this machine has too little memory or "
        "disk for is not run, and said. Ends with a table of all claims, a table of systems side by side, "
        "and the figures."
    )
    parser.epilog = EXAMPLES
    parser.add_argument(
        "arguments",
        nargs="*",
        metavar="PAPER|CLAIM|KEY=VALUE",
        help=f"a paper ({', '.join(papers())}; default: {DEFAULT}), some of its claims (default: all), "
        "keys of run for all runs",
    )
    parser.add_argument("--quick", action="store_true", help="fewer and smaller runs, in minutes")
    parser.add_argument(
        "--dry-run", action="store_true", help="print the claims and what is left, and run nothing"
    )
    parser.add_argument(
        "--stored",
        action="store_true",
        help="judge what is stored, whatever code and machine made it, and run nothing",
    )


def run(args: argparse.Namespace) -> int:
    """Run, judge, show and draw; 1 if a run failed or gave a wrong answer."""
    from harness.reproduce.claim_runs import (  # noqa: PLC0415 - torch and
        distinct,
        records_of,
        runs_of,
        stored,
    )
    from harness.reproduce.outcomes import (  # noqa: PLC0415 - Hydra are slow
        judged,
        judged_declared,
        save_outcomes,
    )

    names = [text for text in args.arguments if "=" not in text]
    more = [text for text in args.arguments if "=" in text]
    paper, ids = _paper(names)
    runs = runs_of(paper, paper.chosen(ids, args.quick), args.quick, more)
    if args.dry_run:
        _print_left(paper, runs)
        return 0
    folder, _ = split_folder(more)
    if args.stored:
        runs, records = stored(runs)
    else:
        records = run_points(distinct(runs))
    outcomes = []
    for each in runs:
        if each.claim.declared:
            outcomes.append(judged_declared(each.claim, each.configs))
            continue
        found, missing = records_of(each, records)
        outcomes.append(judged(each.claim, found, folder, missing))
    save_outcomes(folder, outcomes, paper, args.quick)
    _show(paper, outcomes, records)
    for line in _drawn(paper, records, folder, args.quick):
        print(line)
    return exit_code(records)


def _paper(names: Sequence[str]) -> tuple[Paper, Sequence[str]]:
    """The paper, and the claims' ids."""
    first = names[0] if names and names[0] in papers() else None
    return load_paper(first or DEFAULT), names[1:] if first else names


def _print_left(paper: Paper, runs: "Sequence[ClaimRuns]") -> None:
    from harness.report.tables import print_fitting  # noqa: PLC0415 - rich is slow to import
    from harness.report.text_table import for_terminal  # noqa: PLC0415
    from harness.reproduce.artifact import left_table  # noqa: PLC0415

    print_fitting([for_terminal(left_table(paper, runs))])
    ids = {
        config_hash(config) for each in runs if not each.claim.declared for config in each.configs
    }
    print(f" {len(ids)} runs in all; claims share some of them")


def _show(paper: Paper, outcomes: "Sequence[Outcome]", records: Sequence[Record]) -> None:
    """The claims' table, then systems side by side."""
    from harness.report.headline_table import headline_tables  # noqa: PLC0415 - rich is slow to import
    from harness.report.tables import print_fitting  # noqa: PLC0415
    from harness.report.text_table import for_terminal  # noqa: PLC0415
    from harness.reproduce.outcomes import outcome_table  # noqa: PLC0415

    shaped = [record for record in records if record.config["shaper"]["name"] != "none"]
    for table in (outcome_table(outcomes, paper), *headline_tables(shaped)):
        print_fitting([for_terminal(table)])
        for note in table.notes:
            print(f" {note}")
        print()


def _drawn(paper: Paper, records: Sequence[Record], folder: Path, quick: bool) -> list[str]:
    """Where the figures are: the paper's, of all its runs, and those of `permbench report`."""
    from harness.reproduce.paper_figures import save_figures  # noqa: PLC0415 - matplotlib is slow

    own = [] if quick else save_figures(paper, records, folder)
    return [*own, *report(folder)]
