"""`runner=local`: one process per role on this machine, connected by TCP on loopback."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from harness.config.schema import RunnerConfig
from harness.machine.parent_process import PARENT_VARIABLE
from harness.runners.base import LINE_BYTES, WORKER, HarnessAddress, Runner, RunningParty
from protocols.party import Role


def make(config: RunnerConfig, tc: bool, roles: Sequence[Role]) -> Runner:
    """The runner of `config`; processes on loopback have no interface of their own for tc."""
    return Local(roles)


class Local(Runner):
    """Child processes of the harness."""

    def launch(
        self, role: Role, harness: HarnessAddress, environment: Mapping[str, str]
    ) -> RunningParty:
        """See `Runner.launch`."""
        argv = [sys.executable, *WORKER, *harness.arguments(role)]
        return Child(argv, harness.secret, environment)


class Child(RunningParty):
    """A child process in a session of its own; the secret goes in on its standard input."""

    def __init__(
        self,
        argv: Sequence[str],
        secret: str,
        environment: Mapping[str, str],
        cwd: Path | None = None,
    ) -> None:
        self._process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=os.environ | environment | {PARENT_VARIABLE: str(os.getpid())},
            cwd=cwd,
            start_new_session=True,  # Ctrl-C is for the harness, which then ends its parties
        )
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.write(secret.encode() + b"\n")
            self._process.stdin.close()

    def lines(self) -> Iterator[str]:
        """See `RunningParty.lines`."""
        assert self._process.stdout is not None
        with self._process.stdout as out:
            while line := out.readline(LINE_BYTES):
                yield line.decode(errors="replace").rstrip()

    def exit_code(self, wait_s: float = 0.0) -> int | None:
        """See `RunningParty.exit_code`."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(wait_s)
        return self._process.poll()

    def kill(self) -> None:
        """See `RunningParty.kill`."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    @property
    def pid(self) -> int | None:
        """See `RunningParty.pid`."""
        return self._process.pid
