"""Removes network namespaces with all that runs in them and all links that end in them."""

import json
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from netem.command import TcError, run
from netem.process_labels import is_alive, owner_of

NAMES = Path("/run/netns")
ENDING_S = 5.0  # for killed processes to be gone


def stale() -> list[str]:
    """Names of the namespaces and links (by alias) that processes left behind which are gone."""
    return [name for name in (*_namespaces(), *_links()) if not is_alive(name)]


def remove_stale() -> list[str]:
    """Remove what `stale` finds, and nothing else; a line for each thing removed. Raises TcError."""
    return remove(lambda name: not is_alive(name))


def remove(chosen: Callable[[str], bool]) -> list[str]:
    """Remove every namespace of ours whose name, and every link whose alias, is `chosen`.

    Returns a line for each thing removed. Raises TcError.
    """
    lines = []
    namespaces = [name for name in _namespaces() if chosen(name)]
    for name in namespaces:
        if ended := _end_processes(name):
            lines.append(f"{ended} processes in network namespace {name}")
    for alias, link in _links().items():
        if chosen(alias):
            _delete(("ip", "link", "del", "dev", link), partial(_has_link, alias))
            lines.append(f"link {link} of {alias}")
    for name in namespaces:
        _delete(("ip", "netns", "del", name), (NAMES / name).exists)
        lines.append(f"network namespace {name}")
    return lines


def _namespaces() -> list[str]:
    """Names of all network namespaces of ours, whoever made them."""
    with suppress(OSError):
        return sorted(name for name in os.listdir(NAMES) if owner_of(name))
    return []


def _links() -> dict[str, str]:
    """Names of all links of ours in this namespace, by alias."""
    rows = json.loads(run(("ip", "-j", "link", "show")) or "[]")
    return {row["ifalias"]: row["ifname"] for row in rows if owner_of(row.get("ifalias", ""))}


def _end_processes(name: str) -> int:
    """End what runs in a namespace; returns how many processes did."""
    ended: set[int] = set()
    deadline = time.monotonic() + ENDING_S
    while pids := {int(pid) for pid in run(("ip", "netns", "pids", name)).split()}:
        if time.monotonic() > deadline:
            raise TcError(f"processes {sorted(pids)} in {name} do not end")
        for pid in pids - ended:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        ended |= pids
        time.sleep(0.01)
    return len(ended)


def _has_link(alias: str) -> bool:
    return alias in _links()


def _delete(argv: tuple[str, ...], still_there: Callable[[], bool]) -> None:
    """Somebody else may remove the same at the same time."""
    try:
        run(argv)
    except TcError:
        if still_there():
            raise
