"""Whether a machine has the memory and the disk that a run's parties will need.

Asked before anything is sent: a party that runs out of memory is killed without a word.
"""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from protocols.errors import Unsupported
from protocols.party import Role

GB = 1e9
_LIMIT, _USED = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")


@dataclass(frozen=True)
class Need:
    """What one role takes at most, as far as it can be told ahead. folder: where its disk space is."""

    memory_bytes: int
    disk_bytes: int = 0
    folder: str | None = None


def check_room(needs: Mapping[Role, Need]) -> None:
    """Raise Unsupported unless all these roles together have room on this machine."""
    if not needs:
        return
    roles = " and ".join(needs)
    total = sum(need.memory_bytes for need in needs.values())
    if total > (free := available_memory()):
        raise Unsupported(
            f"{roles}: about {total / GB:.1f} GB of memory needed, {free / GB:.1f} GB available; "
            "take fewer tokens, a smaller offline_batch or tied layers, or keep masked weights on "
            "disk (weights_store=disk)"
        )
    for role, need in needs.items():
        if need.folder is not None:
            _check_disk(role, need.disk_bytes, need.folder)


def available_memory() -> int:
    """Bytes that can be had without swapping, within this process's container."""
    free = psutil.virtual_memory().available
    try:
        return min(free, int(_LIMIT.read_text()) - int(_USED.read_text()))
    except (OSError, ValueError):  # no container, or one without a limit
        return free


def _check_disk(role: Role, needed: int, folder: str) -> None:
    if not Path(folder).is_dir():
        raise Unsupported(f"{role}: store_dir={folder} is no folder; name one that exists")
    free = shutil.disk_usage(folder).free
    if needed > free:
        text = f"{needed / GB:.1f} GB of disk needed in {folder}, {free / GB:.1f} GB free"
        raise Unsupported(f"{role}: {text}; name another store_dir")
