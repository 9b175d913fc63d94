"""The program as a user starts it, on pipes or on a terminal, and what is left of it."""

import fcntl
import os
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar
from uuid import uuid4

import pytest

from harness.records import store
from harness.records.record import Record
from harness.version import REPO

MARK = "PERMBENCH_FAULTS_CASE"  # in the environment of all that a case starts
TINY = (
    *("experiment=argmax", "experiment.n=8", "shaper=none", "repeat=1", "warmup=0"),
    *("calibration.strict=false", "calibration.patience_s=0", "memory.check=false"),
)
ENDLESS = (*TINY[:-1], "repeat=1000000")
START_S = 120.0
END_S = 60.0  # far more than anything takes: a hang, not a slow machine


@dataclass
class Ended:
    """How a program ended. left: command lines of what still runs of it."""

    code: int
    out: str
    err: str
    left: list[str]


def pseudo_terminal() -> tuple[int, int]:
    """Both ends of one. Skips the test where the machine has none. Ctrl-C does not discard what nobody has
    read yet: a window has."""
    try:
        master, slave = os.openpty()
    except OSError as error:
        pytest.skip(f"no pseudo-terminal here (is devpts mounted?): {error}")
    modes = termios.tcgetattr(slave)
    modes[3] |= termios.NOFLSH
    termios.tcsetattr(slave, termios.TCSANOW, modes)
    return master, slave


class Program:
    """`permbench ARGUMENTS`. terminal: on one of its own, of which it is the foreground job; `close_terminal`
    hangs up. ignore: signals, as nohup does. streams: descriptors by "stdout" or "stderr"."""

    marks: ClassVar[list[str]] = []  # of all that were started

    def __init__(
        self,
        *arguments: str,
        folder: Path,
        terminal: bool = False,
        ignore: Sequence[int] = (),
        environment: Mapping[str, str] | None = None,
        streams: Mapping[str, int] | None = None,
    ) -> None:
        self.mark = uuid4().hex
        self.marks.append(self.mark)
        self._screen = bytearray()
        self._master: int | None = None
        slave = None
        piped = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL}
        piped |= streams or {}
        if terminal:
            self._master, slave = pseudo_terminal()
            piped = dict.fromkeys(piped, slave)

        def prepare() -> None:
            for number in ignore:
                signal.signal(number, signal.SIG_IGN)
            if slave is not None:
                fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        self.process = subprocess.Popen(
            [sys.executable, "-m", "harness", *arguments],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(REPO), MARK: self.mark, **(environment or {})},
            start_new_session=True,
            preexec_fn=prepare,  # noqa: PLW1509 - there are no other threads here
            stdin=piped["stdin"],
            stdout=piped["stdout"],
            stderr=piped["stderr"],
        )
        if slave is not None:
            os.close(slave)

    def wait_for(self, text: str) -> bool:
        """Until it has said `text`; whether it has. On a terminal or on standard error."""
        number = self._master
        if number is None:
            assert self.process.stderr is not None
            number = self.process.stderr.fileno()
        os.set_blocking(number, False)
        deadline = time.monotonic() + START_S
        while text.encode() not in self._screen and time.monotonic() < deadline:
            if self.process.poll() is not None:
                break
            self._read(number)
            time.sleep(0.01)
        return text.encode() in self._screen

    def _read(self, number: int) -> None:
        with suppress(OSError):
            while data := os.read(number, 1 << 16):
                self._screen += data

    def press_ctrl_c(self) -> None:
        """As somebody at its terminal; or its signal where it has none."""
        if self._master is None:
            os.killpg(self.process.pid, signal.SIGINT)
        else:
            os.write(self._master, b"\x03")

    def close_terminal(self) -> None:
        """Hang up."""
        assert self._master is not None
        self._read(self._master)
        os.close(self._master)
        self._master = None

    def parties(self) -> list[int]:
        """Process ids of all that it has started and that runs."""
        return [pid for pid in marked(self.mark) if pid != self.process.pid]

    def end(self, limit_s: float = END_S) -> Ended:
        """Wait for its end, and 3 s for that of all it started."""
        out, err = b"", b""
        deadline = time.monotonic() + limit_s
        try:
            if self._master is not None:
                os.set_blocking(self._master, False)
                while self.process.poll() is None and time.monotonic() < deadline:
                    self._read(self._master)
                    time.sleep(0.01)
                self._read(self._master)
                os.close(self._master)
                self._master = None
            elif self.process.stderr is not None:
                os.set_blocking(self.process.stderr.fileno(), True)
            out, err = self.process.communicate(timeout=max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            _, err = self.process.communicate()
            raise AssertionError(
                f"it hangs; so far: {bytes(self._screen) + (err or b'')!r}"
            ) from None
        said = (bytes(self._screen) + (err or b"")).decode(errors="replace")
        return Ended(self.process.returncode, (out or b"").decode(), said, left_of(self.mark))


def marked(mark: str) -> list[int]:
    """Process ids of a case."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                if f"{MARK}={mark}".encode() in (entry / "environ").read_bytes():
                    found.append(int(entry.name))
    return found


def left_of(mark: str, limit_s: float = 3.0) -> list[str]:
    """Command lines of what of a case runs longer than that; it is ended then."""
    deadline = time.monotonic() + limit_s
    while (pids := marked(mark)) and time.monotonic() < deadline:
        time.sleep(0.02)
    left = []
    for pid in pids:
        with suppress(OSError):
            left.append(Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " "))
            os.kill(pid, signal.SIGKILL)
    return left


def hidden(folder: Path) -> list[Path]:
    """Temporary files and locks in a folder of results."""
    return [path for path in folder.rglob(".*") if path.is_file()]


def records(folder: Path) -> list[Record]:
    """All of a folder of results."""
    return store.load_all(folder)
