"""Every command in README and docs/ is one that this program takes.

A block of ```bash is read as a shell would read it. A run is composed as with --dry-run, tables and figures
are made from the committed records, a block of ```python is run; whatever else permbench does is
parsed by the real parser. `<!-- needs: root -->` above a block says that a reader needs more than a clone
for it: then commands are checked in the same way, but an extra, a package or the records of its own runs
may be missing, and Python is compiled alone.
"""

import argparse
import os
import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import pytest

from harness.cli import main as cli
from harness.cli.verb_replay import split_arguments
from harness.cli.verb_run import compose_points
from harness.errors import ConfigError
from harness.records import query, store

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "METHODOLOGY.md", ROOT / "SECURITY.md"]
PAGES += [
    p for p in (ROOT / "ARTIFACT.md", ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md") if p.exists()
]
PAGES += sorted((ROOT / "docs").rglob("*.md"))
FENCE = re.compile(r"^ *```(\w*)$")
NEEDS = re.compile(r"^<!-- needs: (.+) -->$")
SHOWN = ("text", "yaml", "toml")  # not run
CHECKPOINT = "/tmp/small"  # as README has it
MISSING = ("needs the extra", "system: no option", "no record has")
VARIABLE = re.compile(r"^[A-Z_]+=")
FREE = (
    "cat",
    "cd",
    "export",
    "git",
    "openssl",
    "printf",
    "umask",
)  # nothing of ours to be wrong about


@dataclass(frozen=True)
class Block:
    """A fenced block: the page and line where its text begins."""

    page: str
    line: int
    language: str
    text: str
    needs: str | None

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(page: Path) -> Iterator[Block]:
    """The fenced blocks of a page."""
    needs, begun, language, text = None, 0, "", list[str]()
    for number, line in enumerate(page.read_text("utf-8").splitlines(), start=1):
        fence = FENCE.match(line)
        if fence and not begun:
            begun, language, text = number, fence[1], []
        elif fence:
            name = page.relative_to(ROOT).as_posix()
            yield Block(name, begun + 1, language, "\n".join(text), needs)
            needs, begun = None, 0
        elif begun:
            text.append(line)
        elif line.strip():
            found = NEEDS.match(line)
            needs = found[1] if found else None


def commands(block: Block) -> list[list[str]]:
    """The command lines of a block, as a shell splits them."""
    lines = block.text.replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


ALL = [block for page in PAGES for block in blocks(page)]
SHELL = [b for b in ALL if b.language in ("bash", "console")]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to be in: with results, and what a clone has."""
    shutil.copytree(ROOT / "results/reference/demo", tmp_path / "results/runs")
    for name in ("examples", "tests", "docs"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "results/reference").symlink_to(ROOT / "results/reference")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_block_says_what_it_is() -> None:
    known = (*SHOWN, "bash", "console", "python")
    assert not [str(block) for block in ALL if block.language not in known]
    assert len(SHELL) > 30


@pytest.mark.parametrize("block", SHELL, ids=str)
def test_commands_are_ones_that_the_program_takes(
    block: Block, here: Path, request: pytest.FixtureRequest
) -> None:
    for words in commands(block):
        if any(CHECKPOINT in word for word in words) and "model.checkpoint=" in " ".join(words):
            made = str(request.getfixturevalue("gpt2_checkpoint"))
            words = [word.replace(CHECKPOINT, made) for word in words]  # noqa: PLW2901
        check(words, block)


@pytest.mark.parametrize("block", [b for b in ALL if b.language == "python"], ids=str)
def test_python_runs(block: Block, here: Path) -> None:
    code = compile(block.text, str(block), "exec")
    if not block.needs:
        exec(code, {})


def check(words: list[str], block: Block) -> None:
    """Raise, or fail, for a command line that is wrong."""
    program, rest = words[0], words[1:]
    if program == "sudo" or VARIABLE.match(program):
        check(rest, block)
    elif program == "permbench":
        check_permbench(rest, block)
    elif program in CHECKS:
        CHECKS[program](rest)
    else:
        assert program in FREE or (program == "docker" and block.needs), f"{block}: {program}"


def check_permbench(arguments: list[str], block: Block) -> None:
    args = cli._parse(arguments, arguments[0] if arguments else None)
    try:
        code = VERBS[args.verb](args) if args.verb in VERBS else 0
    except ConfigError as error:
        if block.needs and any(text in str(error) for text in MISSING):
            return
        raise AssertionError(f"{block}: permbench {shlex.join(arguments)}\n{error}") from None
    assert code == 0


def run_dry(args: argparse.Namespace) -> int:
    args.dry_run = True
    return act(args)


def act(args: argparse.Namespace) -> int:
    code: int = import_module(f"harness.cli.verb_{args.verb}").run(args)
    return code


def compose(args: argparse.Namespace) -> int:
    compose_points(args.arguments, multirun=False)
    return 0


def replay(args: argparse.Namespace) -> int:
    asked = split_arguments(args.arguments)
    asked.networks(), asked.compute(), asked.scale()
    query.parse_filters(asked.filters, store.load_all(asked.results_dir))
    return 0


VERBS: dict[str, Callable[[argparse.Namespace], int]] = {
    "run": run_dry,
    "show": act,
    "report": act,
    "list": act,
    "calibrate": compose,
    "reproduce": run_dry,
    "published": act,
    "replay": replay,
}


def check_make(words: list[str]) -> None:
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text("utf-8"), re.M)
    assert {word for word in words if "=" not in word} <= set(targets)


def check_pip(words: list[str]) -> None:
    assert words[0] == "install"
    for word in words[1:]:
        if word.startswith("."):
            folder, _, extras = word.partition("[")
            assert (ROOT / folder / "pyproject.toml").is_file()
            declared = (ROOT / folder / "pyproject.toml").read_text("utf-8")
            for extra in filter(None, extras.rstrip("]").split(",")):
                assert re.search(rf"^{extra} = \[", declared, re.M)


def check_python(words: list[str]) -> None:
    if words[0] != "-m":
        assert (ROOT / words[0]).is_file()
    elif words[1] == "pytest":
        assert all((ROOT / word).exists() for word in words[2:] if word.startswith("tests"))
    else:
        modules = [words[1], *(w for w in words[2:] if w.startswith("tests."))]
        assert all((ROOT / m.replace(".", os.sep)).with_suffix(".py").is_file() for m in modules)


CHECKS: dict[str, Callable[[list[str]], None]] = {
    "make": check_make,
    "pip": check_pip,
    "python": check_python,
}
