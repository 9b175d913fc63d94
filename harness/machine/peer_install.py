"""Make a peer's environment: Python's venv, and pip in it."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from harness.config.peers import MARK, VARIABLE, folder, peer, python_of, versions
from harness.errors import RunnerError

SHOWN = 3  # last lines of a command that failed


def install(name: str) -> Iterator[str]:
    """A line for each step; an environment that was there before is removed. Raises ConfigError,
    RunnerError."""
    wanted, place = peer(name).requirements, (folder() / name).resolve()
    yield f"{name}: an environment in {place}"
    try:
        _remove(place)
        place.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunnerError(f"{place}: {error.strerror}") from None
    _run([sys.executable, "-I", "-m", "venv", str(place)])
    for words in wanted:
        packages = [word for word in words if "==" in word]
        yield f"{name}: {', '.join(packages)}"
        pip = [
            str(python_of(name)),
            "-I",  # nothing of the current folder, nor of PYTHONPATH
            "-m",
            "pip",
            "install",
            "--disable-pip-version-check",
            "--quiet",
        ]
        _run([*pip, *words])
    (place / MARK).write_text(versions(wanted), encoding="utf-8")
    yield f"{name}: installed"


def _remove(place: Path) -> None:
    """Its mark first, so that what is left of it does not count. Raises RunnerError, OSError."""
    if not place.exists():
        return
    ours = any((place / name).is_file() for name in (MARK, "pyvenv.cfg"))
    if not ours and (not place.is_dir() or any(place.iterdir())):
        raise RunnerError(
            f"{place} is no environment of Python: remove it, or choose by {VARIABLE}"
        )
    (place / MARK).unlink(missing_ok=True)
    shutil.rmtree(place)


def _run(command: list[str]) -> None:
    """Raises RunnerError with the last lines that a failing command printed."""
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode:
        last = " ".join(done.stdout.strip().splitlines()[-SHOWN:]) or "nothing was printed"
        raise RunnerError(f"{' '.join(command[1:])}: {last}")
