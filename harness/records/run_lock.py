"""A lock for each run of a folder, so that two sweeps at once do not measure the same run.

<results_dir>/<experiment>/.<id>.lock, held by flock(2): it ends with the process that holds it, however
that ends, and works between the machines of a shared file system that supports it. The file says who
holds it, for people, and is removed at the end.
"""

import errno
import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from harness.progress import warn

UNSUPPORTED = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)


def lock_path(record_path: Path) -> Path:
    """The lock of the run whose record is at `record_path`."""
    return record_path.with_name(f".{record_path.stem}.lock")


@contextmanager
def locked(record_path: Path) -> Iterator[str | None]:
    """Try to hold the lock of a run. Yields None while it is held, or who else holds it."""
    path = lock_path(record_path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = _taken(path)
    except OSError as error:  # a full disk is no reason not to measure
        warn(f"{path} cannot be made ({error.strerror}): run one sweep at a time")
        yield None
        return
    if file is None:
        yield _holder(path)
        return
    try:
        yield None
    finally:
        with suppress(OSError):
            path.unlink(missing_ok=True)
        os.close(file)


def _taken(path: Path) -> int | None:
    """An open file that holds the lock; None where somebody else has it. Raises OSError."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        if not _flock(file, path):
            os.close(file)
            return None
        if _is_at(file, path):
            with suppress(OSError):  # for people
                os.ftruncate(file, 0)
                os.write(file, f"process {os.getpid()} on {socket.gethostname()}".encode())
            return file
        os.close(file)  # who held it before has removed it since


def _flock(file: int, path: Path) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
        warn(f"{path.parent} has no locks: run one sweep at a time")
    return True


def _is_at(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False


def _holder(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8") or "another process"
    except OSError:
        return "another process"
