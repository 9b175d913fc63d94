"""A program of others, started and watched: its lines with their times, what it took, and its whole end."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from harness.runners import guard
from harness.transport.handshake import SECRET_VARIABLE

LINE_BYTES = 64 << 20  # an answer may be long; a longer line is several
END_S = 5.0  # for a guard to end what it guards
GUARD = (sys.executable, "-IS", guard.__file__)


@dataclass(frozen=True)
class Usage:
    """Of a program and all that it started: processor time, and the largest resident size."""

    cpu_ns: int = 0
    peak_rss_bytes: int = 0


class GuardedProgram:
    """One program, in a session of its own, under `harness.runners.guard`.

    within: the beginning of the command line that puts it where it is to live. environment: beside the
    harness's own, without its secret. Raises OSError where not even the guard can be started.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        folder: Path,
        within: Sequence[str] = (),
    ) -> None:
        own = {name: text for name, text in os.environ.items() if name != SECRET_VARIABLE}
        self._life, theirs = socket.socketpair()
        with theirs:
            number = str(theirs.fileno())
            self._process = subprocess.Popen(
                [*within, *GUARD, number, str(folder), *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env={**own, **environment},
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # Ctrl-C is for the harness, which then ends it
            )
        self._last = Usage()

    def lines(self) -> Iterator[tuple[int, str]]:
        """What it prints, line by line, each with when it came, in ns of CLOCK_MONOTONIC; until it and all
        that it started have ended."""
        assert self._process.stdout is not None
        with self._process.stdout as out:
            while line := out.readline(LINE_BYTES):
                yield time.monotonic_ns(), line.decode(errors="replace").rstrip("\r\n")

    def tell(self, line: str) -> None:
        """Write a line to its standard input, if it is still there."""
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.write(f"{line}\n".encode())
            self._process.stdin.flush()

    def close_input(self) -> None:
        """Its standard input ends."""
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.close()

    def exit_code(self, wait_s: float = 0.0) -> int | None:
        """Its exit code (−N: ended by signal N); None while it runs."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(wait_s)
        return self._process.poll()

    def usage(self) -> Usage:
        """What it has taken so far; processor time in steps of the kernel's clock while it runs."""
        found = self._final() if self._process.poll() is not None else self._running()
        cpu_ns = max(self._last.cpu_ns, found.cpu_ns)
        peak = max(self._last.peak_rss_bytes, found.peak_rss_bytes)
        self._last = Usage(cpu_ns, peak)
        return self._last

    def end(self) -> None:
        """End it now, with all it started."""
        self.usage()
        self._life.close()
        self.close_input()
        if self.exit_code(END_S) is None:
            self._process.kill()
            self._process.wait()

    def _final(self) -> Usage:
        """What the guard wrote last."""
        with suppress(OSError, ValueError):
            self._life.setblocking(False)
            cpu_ns, peak = map(int, self._life.recv(100).split())
            return Usage(cpu_ns, peak)
        return Usage()

    def _running(self) -> Usage:
        cpu_s, peak = 0.0, 0
        with suppress(psutil.Error):
            for process in psutil.Process(self._process.pid).children(recursive=True):
                with suppress(psutil.Error, OSError, ValueError):
                    times = process.cpu_times()
                    cpu_s += sum(times[:4])  # its own, and of those that it has waited for
                    peak += _peak_rss_bytes(process.pid)
        return Usage(round(cpu_s * 1e9), peak)


def _peak_rss_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0
