"""Whose is it? Everything that outlives a process carries the label of the run that made it.

A label names the process: its pid namespace, its pid, and when it started, so that a later process
with the same pid is not taken for it. What belongs to a process that is gone is stale.
"""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

PREFIX = "permbench-"
_LABEL = re.compile(rf"^{PREFIX}(\d+)-(\d+)-(\d+)(?:-|$)")


@dataclass(frozen=True)
class Owner:
    """A process: inode of its pid namespace, pid in there, start in clock ticks since boot."""

    pid_namespace: int
    pid: int
    start_ticks: int


def run_label() -> str:
    """This process's label, the beginning of the names of all it makes."""
    me = Owner(_pid_namespace(), os.getpid(), _start_ticks(os.getpid()) or 0)
    return f"{PREFIX}{me.pid_namespace}-{me.pid}-{me.start_ticks}"


def owner_of(name: str) -> Owner | None:
    """The owner of what has this name, or label; None for what is none of ours."""
    found = _LABEL.match(name)
    return Owner(*map(int, found.groups())) if found else None


def is_alive(name: str) -> bool:
    """Whether the owner of what has this name runs, or might: nobody can tell of another pid
    namespace, or of what has no label."""
    owner = owner_of(name)
    if owner is None or owner.pid_namespace != _pid_namespace():
        return True
    return _start_ticks(owner.pid) == owner.start_ticks


def stale(names: Iterable[str]) -> list[str]:
    """Those of `names` that a process left behind which is gone."""
    return [name for name in names if not is_alive(name)]


def _pid_namespace() -> int:
    return os.stat("/proc/self/ns/pid").st_ino


def _start_ticks(pid: int) -> int | None:
    """None where no such process runs."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()  # the command's name may hold anything
    return None if fields[0] in "ZX" else int(fields[19])
