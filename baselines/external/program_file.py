"""The file of an external system: each party's command, the lines that it prints, the right answer.

docs/external.md tells what each key means. `read` refuses a file in one line that names the key.
"""

import math
import re
import shlex
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, cast

import yaml

from baselines.external.placeholders import gaps
from protocols.party import ROLES, Role

PROGRAM = "program"  # the experiment of a program that computes what it likes
PLAINTEXT = "plaintext"  # the expected answer is that of permbench's own experiment
OFFLINE = "offline"  # the marker that ends the offline phase
OF_A_PEER = ("address", "host", "port")  # {address:P1}
OWN = (
    *("role", "index", "listen", "host", "port", "threads", "seed", "folder"),
    *("experiment", "workload", "inputs", "python"),
)
KEYS = ("description", "experiments", "install", "peer", "ready", "go", "stays", "environment")
ALL_KEYS = (*KEYS, "memory", "roles", "markers", "done", "answer")
ROLE_KEYS = ("command", "environment", "ready", "memory")
BYTES = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
SIZE = re.compile(rf"(\d+(?:\.\d+)?) ?({'|'.join(BYTES)})")
LARGEST_FILE_BYTES = 1 << 20


class ProgramError(ValueError):
    """What is wrong with a program file, in one line."""


@dataclass(frozen=True)
class RoleProgram:
    """One party's program: words with gaps, the environment beside the harness's, its ready line, and what
    it takes of memory at most, if that is known."""

    command: tuple[str, ...]
    environment: Mapping[str, str]
    ready: re.Pattern[str] | None
    memory_bytes: int | None

    def gaps(self) -> Iterator[str]:
        """The names in its texts."""
        for text in (*self.command, *self.environment.values()):
            yield from gaps(text)

    @property
    def reaches(self) -> tuple[Role, ...]:
        """The roles that it connects to."""
        named = (name.partition(":")[2] for name in self.gaps() if ":" in name)
        return cast(tuple[Role, ...], tuple(dict.fromkeys(named)))


@dataclass(frozen=True)
class AnswerRule:
    """The line with the answer, whose first group has it, and what it must be.

    expected: numbers, a text, or `PLAINTEXT`. tolerance: of numbers. functions: with `PLAINTEXT`, the
    system of permbench's whose functions in the clear give the answer; None: the exact ones do.
    """

    role: Role
    pattern: re.Pattern[str]
    expected: tuple[float, ...] | str
    tolerance: float
    functions: str | None = None


@dataclass(frozen=True)
class ProgramFile:
    """Everything that a file says.

    go: programs wait for a line on their standard
    input before they begin. stays: after an answer they get ready again. markers: of lines of the
    answer's role. peer: whose environment has the Python of the gap `{python}`; None: this one. done:
    the line of the answer's role that ends the time; None: the answer's own.
    """

    path: Path
    roles: Mapping[Role, RoleProgram]
    answer: AnswerRule
    description: str = ""
    experiments: tuple[str, ...] = (PROGRAM,)
    install: str = ""
    peer: str | None = None
    go: bool = False
    stays: bool = False
    markers: Mapping[str, re.Pattern[str]] = field(default_factory=dict)
    done: re.Pattern[str] | None = None

    @property
    def gaps(self) -> set[str]:
        """The names in all texts."""
        return {name for each in self.roles.values() for name in each.gaps()}

    @property
    def connections(self) -> tuple[tuple[Role, Role], ...]:
        """Who connects to whom."""
        pairs = ((role, peer) for role, each in self.roles.items() for peer in each.reaches)
        return tuple(pair for pair in pairs if pair[0] != pair[1])

    def named_files(self) -> Iterator[Path]:
        """The file itself, and those files beside it that its commands name: what a result depends on,
        as far as anybody can tell."""
        yield self.path
        words = dict.fromkeys(word for each in self.roles.values() for word in each.command)
        for word in words:
            if not any(gaps(word)) and (found := self.path.parent / word).is_file():
                yield found


def read(path: Path) -> ProgramFile:
    """The file at `path`. Raises ProgramError."""
    try:
        if path.stat().st_size > LARGEST_FILE_BYTES:
            raise ProgramError(
                f"{path}: more than {LARGEST_FILE_BYTES} bytes, which is no such file"
            )
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ProgramError(f"{path}: {(error.strerror or str(error)).lower()}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ProgramError(f"{path}: no YAML: {' '.join(str(error).split())}") from None
    try:
        return _program_file(path, _mapping("the file", data, ALL_KEYS, ("roles", "answer")))
    except ProgramError as error:
        raise ProgramError(f"{path}: {error}") from None


def _program_file(path: Path, data: Mapping[str, Any]) -> ProgramFile:
    shared = _role_keys("", data, RoleProgram((), {}, None, None))
    given = _mapping("roles", data["roles"], ROLES)
    roles = {
        role: _role(role, given[role], shared) for role in ROLES if given.get(role) is not None
    }
    if len(roles) < 2:
        raise ProgramError("roles: must be at least two of " + ", ".join(ROLES))
    marks = _mapping("markers", data.get("markers") or {})
    made = ProgramFile(
        path=path,
        roles=roles,
        answer=_answer(data["answer"], roles),
        description=_text("description", data.get("description", "")),
        experiments=_experiments(data.get("experiments", [PROGRAM])),
        install=_text("install", data.get("install", "")),
        peer=_text("peer", data["peer"]) if data.get("peer") is not None else None,
        go=_flag("go", data.get("go", False)),
        stays=_flag("stays", data.get("stays", False)),
        markers={name: _pattern(f"markers.{name}", text) for name, text in marks.items()},
        done=_pattern("done", data["done"]) if data.get("done") is not None else None,
    )
    _check_together(made)
    return made


def _check_together(made: ProgramFile) -> None:
    """What single keys cannot say."""
    if not made.connections:
        raise ProgramError(
            "roles: nobody connects to anybody; a command names its peer's place with {address:P1}"
        )
    for role, program in made.roles.items():
        if absent := [peer for peer in program.reaches if peer not in made.roles]:
            raise ProgramError(f"roles.{role}: names {absent[0]}, which is not among roles")
        if made.stays and program.ready is None:
            raise ProgramError(f"roles.{role}.ready: must be a pattern with stays: true")
    if made.stays and not made.go:
        raise ProgramError("go: must be true with stays: true, which begins each evaluation")
    if made.answer.expected == PLAINTEXT and PROGRAM in made.experiments:
        raise ProgramError(
            f"answer.expected: {PLAINTEXT} needs experiments other than {PROGRAM}, whose answer is not known"
        )
    if made.answer.functions and made.answer.expected != PLAINTEXT:
        raise ProgramError(f"answer.functions: needs expected: {PLAINTEXT}")


def _role(role: Role, data: Any, shared: RoleProgram) -> RoleProgram:
    at = f"roles.{role}"
    known = _mapping(at, data, ROLE_KEYS, ("command",))
    command = _command(f"{at}.command", known["command"])
    made = replace(_role_keys(f"{at}.", known, shared), command=command)
    allowed = [*OWN, *(f"{name}:{peer}" for name in OF_A_PEER for peer in ROLES)]
    for name in made.gaps():
        if name not in allowed:
            raise ProgramError(f"{at}: no value {{{name}}}; {_allowed(name, allowed)}")
    return made


def _role_keys(at: str, data: Mapping[str, Any], shared: RoleProgram) -> RoleProgram:
    """What may stand for all roles, or for one, before whose keys `at` stands. shared: what holds else."""
    environment = {
        **shared.environment,
        **_environment(f"{at}environment", data.get("environment")),
    }
    ready, memory = data.get("ready"), data.get("memory")
    return RoleProgram(
        (),
        environment,
        shared.ready if ready is None else _pattern(f"{at}ready", ready),
        shared.memory_bytes if memory is None else _bytes(f"{at}memory", memory),
    )


def _bytes(at: str, value: Any) -> int:
    found = SIZE.fullmatch(value) if isinstance(value, str) else None
    if found is None or not (size := round(float(found[1]) * BYTES[found[2]])):
        units = ", ".join(BYTES)
        raise ProgramError(
            f"{at}: got {value}, must be a number > 0 with a unit ({units}), as 1.5 GB"
        )
    return size


def _command(at: str, value: Any) -> tuple[str, ...]:
    """Words, or a text that is split as a shell would; no shell sees it."""
    try:
        words = shlex.split(value) if isinstance(value, str) else value
    except ValueError as error:
        raise ProgramError(f"{at}: {str(error).lower()}") from None
    if not isinstance(words, list) or not words or not all(_is_plain(word) for word in words):
        raise ProgramError(f"{at}: must be a program and its arguments, as a text or a list")
    return tuple(str(word) for word in words)


def _is_plain(value: Any) -> bool:
    return isinstance(value, str | int | float) and not isinstance(value, bool)


def _environment(at: str, value: Any) -> dict[str, str]:
    given = _mapping(at, value or {})
    if wrong := [name for name, each in given.items() if not _is_plain(each) or "=" in name]:
        raise ProgramError(f"{at}.{wrong[0]}: must be a text or a number")
    return {name: str(each) for name, each in given.items()}


def _answer(data: Any, roles: Collection[Role]) -> AnswerRule:
    keys = ("role", "pattern", "expected", "tolerance", "functions")
    known = _mapping("answer", data, keys, ("role", "pattern", "expected"))
    if known["role"] not in roles:
        raise ProgramError(f"answer.role: got {known['role']}, must be one of {', '.join(roles)}")
    pattern = _pattern("answer.pattern", known["pattern"])
    if pattern.groups < 1:
        raise ProgramError(
            "answer.pattern: must have a group, in parentheses, that holds the answer"
        )
    tolerance = known.get("tolerance", 0)
    if not _is_number(tolerance) or not 0 <= tolerance < math.inf:
        raise ProgramError(f"answer.tolerance: got {tolerance}, must be a number ≥ 0")
    functions = known.get("functions")
    return AnswerRule(
        known["role"],
        pattern,
        _expected(known["expected"]),
        float(tolerance),
        None if functions is None else _text("answer.functions", functions),
    )


def _expected(value: Any) -> tuple[float, ...] | str:
    if isinstance(value, str):
        return value
    numbers = value if isinstance(value, list) else [value]
    if not numbers or not all(_is_number(number) for number in numbers):
        raise ProgramError("answer.expected: must be numbers, a text, or plaintext")
    return tuple(float(number) for number in numbers)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _experiments(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or not all(isinstance(e, str) for e in value):
        raise ProgramError("experiments: must be a list of names, as [argmax, layer]")
    return tuple(value)


def _pattern(at: str, value: Any) -> re.Pattern[str]:
    try:
        return re.compile(_text(at, value))
    except re.error as error:
        raise ProgramError(f"{at}: no regular expression: {error}") from None


def _text(at: str, value: Any) -> str:
    if not isinstance(value, str):
        raise ProgramError(f"{at}: got {value}, must be a text")
    return value


def _flag(at: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise ProgramError(f"{at}: got {value}, must be true or false")
    return value


def _mapping(
    at: str, value: Any, allowed: Collection[str] = (), required: Collection[str] = ()
) -> dict[str, Any]:
    """A mapping by texts with only the keys `allowed`, if any are named, and all those `required`."""
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise ProgramError(
            f"{at}: must be a mapping" + (f" of {', '.join(allowed)}" * bool(allowed))
        )
    if allowed and (strange := [key for key in value if key not in allowed]):
        raise ProgramError(f"{at}: no key {strange[0]}; {_allowed(strange[0], allowed)}")
    if missing := [key for key in required if value.get(key) is None]:
        raise ProgramError(f"{at}: {missing[0]} is missing")
    return value


def _allowed(name: str, names: Collection[str]) -> str:
    guess = get_close_matches(name, list(names), n=1)
    hint = f"did you mean {guess[0]}? " if guess else ""
    return f"{hint}allowed: {', '.join(names)}"
