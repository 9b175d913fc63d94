"""Runs the system's network tools: ip, tc, ethtool."""

import os
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence

TIMEOUT_S = 10.0

Argv = tuple[str, ...]


class TcError(RuntimeError):
    """A network tool is absent, failed, or did not do what it was told; the text names the command
    and what it said, `reason` is the latter alone."""

    def __init__(self, text: str, reason: str = "") -> None:
        super().__init__(text)
        self.reason = reason or text


def run(argv: Sequence[str], timeout_s: float = TIMEOUT_S) -> str:
    """What the command prints. Raises TcError."""
    program = find(argv[0])
    if program is None:
        raise TcError(f"{argv[0]} not found: install iproute2 and ethtool")
    text = shlex.join(argv)
    try:
        done = subprocess.run(
            [program, *argv[1:]],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
            env=_environment(),
            start_new_session=True,  # Ctrl-C is not for a tool that is tidying up
        )
    except subprocess.TimeoutExpired:
        raise TcError(f"`{text}` did not end in {timeout_s:g} s") from None
    except OSError as error:
        raise TcError(f"`{text}` cannot be run: {error}") from None
    if done.returncode:
        reason = _reason(done.stderr) or f"exit code {done.returncode}"
        raise TcError(f"`{text}`: {reason}", reason)
    return done.stdout


def find(program: str) -> str | None:
    """Where `program` is; administrators' folders are looked at too, which users' PATHs may lack."""
    return shutil.which(program, path=_environment()["PATH"])


def _environment() -> Mapping[str, str]:
    path = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
    return {**os.environ, "PATH": path, "LC_ALL": "C"}


def _reason(stderr: str) -> str:
    """What a tool said, on one line and without the usage that some print after it."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    said = [line for i, line in enumerate(lines) if not any("Usage:" in x for x in lines[: i + 1])]
    return "; ".join(said)[:500]
