"""The programs of one external system: started, told to begin, listened to, and ended.

What they print is all that is known of them: that each is ready, what markers it passes, the answer.
"""

import re
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import NamedTuple, NoReturn

from baselines.external.placeholders import filled
from baselines.external.program_file import OF_A_PEER, ProgramFile
from harness.errors import PartyFailure
from harness.machine.interrupts import deferred
from harness.parties.control import readable
from harness.parties.group import exit_text
from harness.runners.guarded import GuardedProgram, Usage
from harness.runners.program_runner import Address, ProgramRunner
from protocols.errors import Unsupported
from protocols.party import ALL_ROLES, Role

UNSUPPORTED = 127  # the exit code of a program that cannot do what it is asked for
GO = "go"
SHOWN = 200  # characters of a line, in an error
LOG_CHARACTERS = 4096  # of a line, in a log
ENDING_S = 5.0  # after the answer, for programs to end by themselves
SETTLE_S = 1.0  # for a program that has closed its output to end

READY, DONE, ANSWER, MARKER = "ready", "done", "answer", "markers."  # patterns, by key of the file

OnLine = Callable[[str, int], None]  # told the key of a pattern, and when its line came


class Said(NamedTuple):
    """The keys of the patterns that a line of one role matches, when it came, in ns of CLOCK_MONOTONIC, and
    the answer if it has one. None: the program has ended."""

    at_ns: int
    role: Role
    keys: tuple[str, ...] | None
    answer: str = ""


@dataclass(frozen=True)
class Heard:
    """What was heard of one evaluation: the answer's text, when the time ended, and when each marker came."""

    answer: str
    done_ns: int
    markers: Mapping[str, int] = field(default_factory=dict)


class Programs:
    """One program for each role of `file`. Raises PartyFailure, RunnerError, Unsupported from every call.

    values: of all gaps but those of places. timeout_s: until all are ready, and from there to the answer.
    logs: where the last lines are kept.
    """

    def __init__(
        self,
        file: ProgramFile,
        runner: ProgramRunner,
        values: Mapping[str, str],
        timeout_s: float,
        logs: Mapping[Role, deque[str]],
    ) -> None:
        self._file, self._runner, self._values = file, runner, values
        self._timeout_s, self._logs = timeout_s, logs
        self._running: dict[Role, GuardedProgram] = {}
        self._ready: dict[Role, int] = {}  # when those got ready that are
        self._said: SimpleQueue[Said] = SimpleQueue()
        self._waiting: set[tuple[str, ...]] = set()  # role and keys of what is in it

    def start(self, environment: Mapping[str, str]) -> None:
        """Start all of them."""
        for log in self._logs.values():
            log.clear()
        places = {role: self._runner.place(role) for role in self._file.roles}
        for role, program in self._file.roles.items():
            values = {**self._values, **self._places(role, places)}
            command = [filled(word, values) for word in program.command]
            command[0] = str(Path(command[0]).expanduser()) if "~" in command[0] else command[0]
            own = {name: filled(text, values) for name, text in program.environment.items()}
            with deferred():
                started = self._runner.start_program(
                    role, command, {**environment, **own}, self._file.path.parent
                )
                self._running[role] = started
            Thread(target=self._listen, args=(role, started), daemon=True).start()

    def _places(self, role: Role, places: Mapping[Role, Address]) -> dict[str, str]:
        """Its own place, and where it reaches those that it connects to."""
        host, port = places[role]
        reaches = self._file.roles[role].reaches
        reached = {
            peer: places[peer] if peer == role else self._runner.reach(role, peer, places[peer])
            for peer in reaches
        }
        values = {"role": role, "index": str(ALL_ROLES.index(role)), "listen": f"{host}:{port}"}
        values |= {"host": host, "port": str(port)}
        for peer, (peer_host, peer_port) in reached.items():
            texts = (f"{peer_host}:{peer_port}", peer_host, str(peer_port))
            values |= {f"{n}:{peer}": text for n, text in zip(OF_A_PEER, texts, strict=True)}
        return values

    def wait_ready(self) -> int:
        """When the last of them was ready, in ns of CLOCK_MONOTONIC; now, where none says so."""
        begin_ns = time.monotonic_ns()
        asked = {role: each.ready for role, each in self._file.roles.items() if each.ready}
        while waiting := [role for role in asked if role not in self._ready]:
            role = waiting[0]
            lacking = f": no line matches '{asked[role].pattern}'"
            said = self._next(begin_ns, f"{role} was not ready", lacking)
            if said.keys is None:
                self._refuse_end(said.role, "before all were ready")
            elif said.role in self._ready and ANSWER in said.keys:
                text = f"{said.role} answered before {waiting[0]} was ready: let it wait for 'go' (go: true)"
                raise PartyFailure(text)
        return max(self._ready.values(), default=begin_ns)

    def go(self) -> int:
        """Tell all of them to begin; when that was."""
        self._ready.clear()
        begin_ns = time.monotonic_ns()
        for running in self._running.values():
            running.tell(GO)
        return begin_ns

    def usages(self) -> dict[Role, Usage]:
        """What each has taken so far."""
        return {role: running.usage() for role, running in self._running.items()}

    def wait_answer(self, on_line: OnLine) -> Heard:
        """Listen until the answer is there, and the line that ends the time. on_line: told of each pattern
        of the answer's role when its first line is heard."""
        begin_ns, role = time.monotonic_ns(), self._file.answer.role
        answer, came = "", dict[str, int]()
        while not {DONE, ANSWER} <= came.keys():
            said = self._next(begin_ns, f"{role} gave no answer")
            if said.keys is None and (said.role == role or self._code(said.role)):
                self._refuse_end(said.role, "before the answer")
            if said.keys is None or said.role != role:
                continue
            if ANSWER in said.keys and ANSWER not in came:
                answer = said.answer
            for key in said.keys:
                if key not in came:
                    came[key] = said.at_ns
                    on_line(key, said.at_ns)
        keys = {name: f"{MARKER}{name}" for name in self._file.markers}
        markers = {name: came[key] for name, key in keys.items() if key in came}
        return Heard(answer, came[DONE], markers)

    def finish(self) -> None:
        """After the last answer: let them end by themselves, for a while; then end them."""
        deadline = time.monotonic() + ENDING_S
        for running in self._running.values():
            running.close_input()
        for running in self._running.values():
            running.exit_code(max(0.0, deadline - time.monotonic()))
        self._runner.end_programs()

    def _listen(self, role: Role, program: GuardedProgram) -> None:
        """Queue the lines that matter. Of those that match the same patterns the first counts; so no more
        than one of them waits to be heard, however many there are."""
        patterns = _patterns(self._file, role)
        for at_ns, line in program.lines():
            self._logs[role].append(readable(line[:LOG_CHARACTERS]))
            found = {key: match for key, each in patterns.items() if (match := each.search(line))}
            if found and (role, *found) not in self._waiting:
                self._waiting.add((role, *found))
                answer = found[ANSWER][1] or "" if ANSWER in found else ""
                self._said.put(Said(at_ns, role, tuple(found), answer))
        self._said.put(Said(time.monotonic_ns(), role, None))

    def _next(self, begin_ns: int, late: str, why: str = "") -> Said:
        """The next line that matters, of anybody, until `timeout_s` after the begin; whether it says that
        its role is ready is noted. late, why: what is said about one that does not come."""
        left_s = self._timeout_s - (time.monotonic_ns() - begin_ns) / 1e9
        said = None
        with suppress(Empty):
            said = self._said.get(timeout=left_s) if left_s > 0 else None
        if said is None:
            text = f"{late} within {self._timeout_s:g} s{why}"
            raise PartyFailure(text, timed_out=True)
        if said.keys is not None:
            self._waiting.discard((said.role, *said.keys))
            if READY in said.keys:
                self._ready.setdefault(said.role, said.at_ns)
        return said

    def _code(self, role: Role) -> int | None:
        return self._running[role].exit_code(SETTLE_S)

    def _refuse_end(self, role: Role, when: str) -> NoReturn:
        """Raise for a program that has ended too early."""
        code = self._code(role)
        last = next((line for line in reversed(self._logs[role]) if line.strip()), "")
        tail = f": {last[:SHOWN]}" if last else ", and printed nothing"
        if code == UNSUPPORTED:
            raise Unsupported(f"{role} cannot do this (exit code {UNSUPPORTED}){tail}")
        how = exit_text(code) if code is not None else "closed its output"
        raise PartyFailure(f"{role} {how} {when}{tail}")


def _patterns(file: ProgramFile, role: Role) -> dict[str, re.Pattern[str]]:
    """What is looked for in the lines of a role, by key of the file."""
    ready, answer = file.roles[role].ready, file.answer
    found = {} if ready is None else {READY: ready}
    if role == answer.role:
        found |= {f"{MARKER}{name}": pattern for name, pattern in file.markers.items()}
        found |= {DONE: file.done or answer.pattern, ANSWER: answer.pattern}
    return found
