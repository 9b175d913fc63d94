"""Parties that are threads of the test: they speak the control channel as workers do, or worse."""

import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import torch

from harness.config.compose import compose_run
from harness.measure.session import Session
from harness.parties.control import HARNESS, VERSION, Control, Notice
from harness.progress import SilentProgress
from harness.records.record import Record
from harness.runners.base import HarnessAddress, Runner, RunningParty
from harness.transport.handshake import Credentials, Trust, connect
from protocols.expected_answer import answer
from protocols.party import P1, PHASES, ROLES, Role
from protocols.workload import Argmax

ARGMAX = ("experiment=argmax", "experiment.n=8", "system=plaintext")
WORDS = (
    *("shaper=none", "repeat=1", "warmup=0", "timeout_s=1"),
    *("calibration.strict=false", "calibration.patience_s=0"),
)
Say = Callable[[str, dict[str, Any]], dict[str, Any]]  # kind and fields: what is said instead
Act = Callable[[Control], None]
Parts = Callable[[Role], list[torch.Tensor]]  # of the answer


def honest(kind: str, fields: dict[str, Any]) -> dict[str, Any]:
    return fields


def index(role: Role) -> list[torch.Tensor]:
    """What the run of ARGMAX gives P1."""
    return [answer(Argmax(8), 1)] if role == P1 else []


@dataclass
class Puppet(RunningParty):
    """One role. say: what becomes of each notice. acts: what it does instead of sending one of a kind.
    parts: what it has of the answer."""

    role: Role
    harness: HarnessAddress
    say: Say = honest
    acts: Mapping[str, Act] = field(default_factory=dict)
    parts: Parts = index

    def __post_init__(self) -> None:
        self._thread = threading.Thread(target=self._live, daemon=True)
        self._control: Control | None = None
        self._ends: dict[str, list[int]] = {phase: [] for phase in PHASES}
        self._thread.start()

    def lines(self) -> Iterator[str]:
        return iter(())

    def exit_code(self, wait_s: float = 0.0) -> int | None:
        return None

    def kill(self) -> None:
        if self._control:
            with suppress(OSError):
                self._control._connection.sock.shutdown(socket.SHUT_RDWR)
        self._thread.join(5)
        assert not self._thread.is_alive()

    def _live(self) -> None:
        with suppress(OSError, EOFError):
            address, secret = (
                (self.harness.host, self.harness.port),
                bytes.fromhex(self.harness.secret),
            )
            me, trust = Credentials(self.role), Trust(secret)
            self._control = control = Control(connect(address, me, HARNESS, trust))
            try:
                self._tell("hello", host="127.0.0.1", port=9, version=VERSION)
                while (notice := control.recv()).kind != "stop":
                    self._answer(control, notice)
            finally:
                control.close()

    def _answer(self, control: Control, notice: Notice) -> None:
        if notice.kind == "peers":
            self._tell("connected")
        if notice.kind == "clock":
            self._tell("clock", now_ns=time.monotonic_ns())
        if notice.kind == "shape":
            self._tell("shaped")
        if notice.kind == "calibrate":
            for a, _ in notice.fields["pairs"]:
                self._tell("ready")
                control.recv()
                measured: dict[str, Any] = {"measured": {"rtt_s": 1e-4}, "outside": []}
                self._tell("calibrated", None, **(measured if a == self.role else {}))
        if notice.kind == "run":
            self._tell("stage", text="building the model")
            self._tell("ready")
        if notice.kind == "go":
            self._go(notice.fields["phase"], notice.fields["start_ns"])
        if notice.kind == "end":
            self._tell("result", **self._report())

    def _go(self, phase: str, start_ns: int) -> None:
        time.sleep(max(0, start_ns - time.monotonic_ns()) / 1e9)
        self._ends[phase].append(time.monotonic_ns())
        if phase == "online":
            self._tell("output", self.parts(self.role))
        self._tell("ready")

    def _report(self) -> dict[str, Any]:
        phases = {
            phase: [{"end_ns": ns, "cpu_ns": 1000, "depth": 1, "sent": {}} for ns in ends]
            for phase, ends in self._ends.items()
        }
        return {
            "phases": phases,
            "peak_rss_bytes": dict.fromkeys(phases, 1_000_000),
            "interface": {},
        }

    def _tell(self, kind: str, tensors: list[torch.Tensor] | None = None, **fields: Any) -> None:
        assert self._control is not None
        if kind in self.acts:
            self.acts[kind](self._control)
            raise EOFError
        said = self.say(kind, {"kind": kind, **fields})
        self._control.send(tensors=tensors or (), **said)


class Stage(Runner):
    """Where puppets live. before: called with the harness's address before the first of them is there."""

    def __init__(
        self,
        says: Mapping[Role, Say] | None = None,
        acts: Mapping[Role, Mapping[str, Act]] | None = None,
        before: Callable[[tuple[str, int]], None] = lambda _: None,
        absent: tuple[Role, ...] = (),
        roles: Sequence[Role] = ROLES,
        parts: Parts = index,
    ) -> None:
        super().__init__(roles)
        self._says, self._acts, self._before, self._absent = says or {}, acts or {}, before, absent
        self._parts = parts

    def launch(
        self, role: Role, harness: HarnessAddress, environment: Mapping[str, str]
    ) -> RunningParty:
        if role == ROLES[0]:
            self._before((harness.host, harness.port))
        if role in self._absent:
            return Nobody()
        say, acts = self._says.get(role, honest), self._acts.get(role, {})
        return Puppet(role, harness, say, acts, self._parts)


class Nobody(RunningParty):
    """A party that never comes."""

    def lines(self) -> Iterator[str]:
        return iter(())

    def exit_code(self, wait_s: float = 0.0) -> int | None:
        return None

    def kill(self) -> None: ...


class Listening(SilentProgress):
    """Notes what would be shown."""

    def __init__(self) -> None:
        self.shown: list[str] = []

    def stage(self, text: str) -> None:
        self.shown.append(text)


def measure(
    runner: Runner,
    progress: Listening | None = None,
    words: Sequence[str] = ARGMAX,
    limit_s: float = 30.0,
) -> Record:
    """The record of a run of `words` with that runner's parties; a run that does not end fails the test."""
    found: list[Record] = []

    def act() -> None:
        with patch("harness.measure.session.make_runner", lambda *_: runner), Session() as session:
            found.append(session.run(compose_run([*words, *WORDS]), progress or SilentProgress()))

    thread = threading.Thread(target=act, daemon=True)
    thread.start()
    thread.join(limit_s)
    assert found, "the harness hangs"
    return found[0]
