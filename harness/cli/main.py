"""The command line: verbs, exit codes, and errors in one line."""

import argparse
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from itertools import pairwise
from typing import NoReturn

from harness.cli.standard_streams import make_output_robust, unwritten
from harness.errors import ConfigError, unknown
from harness.machine.interrupts import caught, end_in_good_order
from harness.version import version

OK, RUN_FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130
VERBS = {
    "run": "run one configuration, or with -m a sweep",
    "show": "show stored records as tables, pivots, JSON, CSV or Parquet",
    "compare": "compare two sets of records: folders, files, or commits",
    "list": "list systems, experiments, networks, models, …; explain one, or a key",
    "report": "draw the figures from stored records",
    "published": "show published numbers, also on another network",
    "calibrate": "measure the links of a network",
    "doctor": "check what this machine can do",
    "reproduce": "run a paper's experiments and say which claims held",
    "peers": "install original implementations of others, to stand beside ours",
    "docker": "build the image of runner=docker",
    "join": "be one party of runs with runner=remote",
    "replay": "predict traced runs on other networks",
    "timeline": "write one evaluation of a traced run for a trace viewer",
    "gate": "compare with a baseline; fail only for a real regression",
    "completion": "print a script for completion in bash, zsh or fish",
}
EPILOGUE = """\
first steps:
  permbench doctor                      is this machine fit?
  permbench reproduce --quick           three systems side by side, in minutes
  permbench run experiment.n=10000      one run; see permbench run --help

exit codes: 0 done; 1 a run failed or gave a wrong answer; 2 bad input; 130 interrupted
"""


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line. epilogue: makes the text below the options, when
    somebody asks for it."""

    epilogue: Callable[[], str] | None = None

    def format_help(self) -> str:
        """The help, with its epilogue."""
        if self.epilogue is not None:
            self.epilog = self.epilogue()
        return super().format_help()

    def error(self, message: str) -> NoReturn:
        """Raise `ConfigError` instead of printing the usage."""
        raise ConfigError("command line", f"{message}; see {self.prog} --help")


def make_parser(verb: str | None = None) -> Parser:
    """The parser of the whole program; only `verb` gets its arguments."""
    parser = Parser(
        prog="permbench",
        description="Benchmark private LLM inference over an emulated network.",
        epilog=EPILOGUE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"permbench {version()}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    for name, summary in VERBS.items():
        child = verbs.add_parser(
            name, help=summary, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        if name == verb:
            import_module(f"harness.cli.verb_{name}").add_arguments(child)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb and return the exit code."""
    try:
        end_in_good_order()
        make_output_robust()
        code = _run(list(sys.argv[1:] if argv is None else argv))
        if error := unwritten():
            print(f"permbench: standard output: {error.strerror}", file=sys.stderr)
            return code or RUN_FAILED
    except (KeyboardInterrupt, Exception) as error:
        if not caught() and not isinstance(error, KeyboardInterrupt):
            return _said(error)
        # Libraries make other exceptions of an interrupt that falls into their imports.
        print("permbench: interrupted", file=sys.stderr)
        return INTERRUPTED
    return code


def _said(error: Exception) -> int:
    """The exit code of an error that a line explains; raises any other."""
    if isinstance(error, ConfigError):
        print(f"permbench: {error}", file=sys.stderr)
        return BAD_INPUT
    if isinstance(error, OSError) and error.filename is not None:  # of a file, not of this program
        print(f"permbench: {error.filename}: {error.strerror}", file=sys.stderr)
        return RUN_FAILED
    raise error


def _run(arguments: list[str]) -> int:
    if not arguments:
        make_parser().print_help()
        return OK
    args = _parse(arguments, next((each for each in arguments if not each.startswith("-")), None))
    code: int = import_module(f"harness.cli.verb_{args.verb}").run(args)
    return code


def _parse(arguments: Sequence[str], verb: str | None) -> argparse.Namespace:
    if verb is not None and verb not in VERBS:
        raise unknown("command line", f"no verb {verb}", VERBS, of=verb)
    parser = make_parser(verb)
    args, rest = parser.parse_known_args(arguments)
    # argparse takes a verb's arguments up to its first option; the others come back as `rest`.
    options = [argument for argument in rest if argument.startswith("-")]
    if options or (rest and not hasattr(args, "arguments")):
        parser.error(f"unrecognized arguments: {' '.join(options or rest)}")
    if rest:
        args.arguments.extend(rest)
    _check_commas(getattr(args, "arguments", []))
    return args


def _check_commas(arguments: Sequence[str]) -> None:
    """Raise `ConfigError` for a list that a space has cut in two."""
    for text, after in pairwise([*arguments, ""]):
        if "=" in text and (text.endswith(",") or after.startswith(",")):
            whole = f"{text}{after}" if after else text.rstrip(",")
            raise ConfigError(text.partition("=")[0], f"a list has no spaces: write {whole}")
