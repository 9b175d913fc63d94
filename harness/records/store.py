"""Where records live: <results_dir>/<experiment>/<id>.json, each written whole or not at all.

A result that another record of the same run replaces is kept beside it, as <id>.<digest>.json, the
digest being of its content.
"""

import fcntl
import hashlib
import os
import re
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from harness.errors import ConfigError, RecordError
from harness.records.record import Record

# Results; a run that ended in any other way is worth another try.
FINISHED = ("ok", "unsupported")
KEPT_DIGITS = 8
TEMPORARY = re.compile(r"\..+\.[0-9a-f]{32}\.tmp")  # of `write_whole`
STALE_S = 60.0  # a writer takes its lock well within
Stamp = tuple[int, int] | None


def path_of(results_dir: Path, experiment: str, record_id: str) -> Path:
    """The file of one record."""
    return results_dir / experiment / f"{record_id}.json"


def save(results_dir: Path, record: Record) -> Path:
    """Write `record` atomically and return its path; a result that was there is kept beside it. A crash
    leaves the old file or none."""
    path = path_of(results_dir, str(record.config["experiment"]["name"]), record.id)
    path.parent.mkdir(parents=True, exist_ok=True)
    content = record.to_json().encode()
    _keep_result(path, content)
    write_whole(path, content, _mode(record))
    return path


def _mode(record: Record) -> int:
    """For its owner alone where a prompt is in it."""
    return 0o600 if record.generated or "prompt" in record.config["experiment"] else 0o666


def _keep_result(path: Path, new: bytes) -> None:
    old = load_or_warn(path)
    if old is None or old.status not in FINISHED:
        return
    content = path.read_bytes()
    if content != new:
        digest = hashlib.sha256(content).hexdigest()[:KEPT_DIGITS]
        write_whole(path.with_name(f"{path.stem}.{digest}.json"), content, _mode(old))


def write_whole(path: Path, content: bytes, mode: int = 0o666) -> None:
    """Write a file atomically, with permissions `mode` as far as the umask lets it. Its folder may be
    shared with other machines. Raises OSError, which names the file."""
    temporary = path.with_name(f".{path.name}.{uuid4().hex}.tmp")
    try:
        number = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with open(number, "wb") as file:
            with suppress(OSError):  # a file system without locks
                fcntl.flock(file, fcntl.LOCK_EX)  # for `remove_stale`: somebody writes this
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def remove_stale(results_dir: Path) -> None:
    """Remove what killed runs have left half-written in a folder of records: temporary files of ours
    that are not new and that nobody writes."""
    for path in results_dir.glob("*/.*.tmp"):
        if not TEMPORARY.fullmatch(path.name):
            continue
        with suppress(OSError):  # somebody else's, or removed meanwhile
            if time.time() - path.stat().st_mtime > STALE_S and not _is_written(path):
                path.unlink()


def _is_written(path: Path) -> bool:
    """Whether a process holds its lock; also where nobody can tell."""
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


def load(path: Path) -> Record:
    """Read one record. Raises RecordError, OSError."""
    try:
        return Record.from_json(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise RecordError(f"not text: {error}") from None


def load_or_warn(path: Path) -> Record | None:
    """Read one record; None if there is none, or if it is broken, which is said in one line."""
    try:
        return load(path)
    except FileNotFoundError:
        return None
    except (RecordError, OSError) as error:
        print(f"warning: {path}: {' '.join(str(error).split())}", file=sys.stderr)
        return None


def load_all(results_dir: Path) -> list[Record]:
    """Every readable record, those that others have replaced too, by experiment and id. A broken file
    is a warning, not an end. Removes what is stale."""
    remove_stale(results_dir)
    return _loaded(results_dir.glob("*/*.json"))


def load_folder(folder: Path) -> list[Record]:
    """Every readable record that lies in `folder` itself, as in one experiment's."""
    return _loaded(folder.glob("*.json"))


def load_current(results_dir: Path) -> list[Record]:
    """The last record of every run, by experiment and id."""
    return _loaded(current_files(results_dir))


def current_files(results_dir: Path, beginning: str = "") -> list[Path]:
    """The files of the last record of every run whose id begins so."""
    found = results_dir.glob(f"*/{beginning}*.json")
    return sorted(path for path in found if "." not in path.stem)


def _loaded(paths: Iterable[Path]) -> list[Record]:
    records = [load_or_warn(path) for path in sorted(paths)]
    return [record for record in records if record is not None]


def finished(path: Path) -> Record | None:
    """The record at `path` if there is one and it is a result, whatever code made it."""
    record = load_or_warn(path)
    return record if record is not None and record.status in FINISHED else None


def stamp(path: Path) -> Stamp:
    """What changes when a file is replaced; None where there is none."""
    with suppress(FileNotFoundError):
        found = path.stat()
        return found.st_ino, found.st_mtime_ns
    return None


def check_writable(folder: Path) -> None:
    """Raise `ConfigError` unless `folder`, of results, is, or can become, a folder to write to."""
    existing = folder.absolute()
    while not _is_there(existing):
        existing = existing.parent
    if not existing.is_dir():
        raise ConfigError("results_dir", f"{existing} is not a folder")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise ConfigError("results_dir", f"{existing} cannot be written to")


def _is_there(path: Path) -> bool:
    """Whether there is something that can be looked at. Raises ConfigError where there never can be."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        if path.is_symlink():
            raise ConfigError("results_dir", f"{path} is a link to nothing") from None
        return False
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", error)
        raise ConfigError("results_dir", f"{path}: {reason}") from None
    return True
