"""Where records live: <results_dir>/<experiment>/<id>.json, each written whole or not at all."""

import os
import sys
from pathlib import Path
from uuid import uuid4

from harness.errors import ConfigError, RecordError
from harness.records.record import Record

# Results; a run that ended in any other way is worth another try.
FINISHED = ("ok", "unsupported")


def path_of(results_dir: Path, experiment: str, record_id: str) -> Path:
    """The file of one record."""
    return results_dir / experiment / f"{record_id}.json"


def save(results_dir: Path, record: Record) -> Path:
    """Write `record` atomically and return its path. A crash leaves the old file or none."""
    path = path_of(results_dir, str(record.config["experiment"]["name"]), record.id)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, record.to_json().encode())
    return path


def write_whole(path: Path, content: bytes) -> None:
    """Write a file atomically. Its folder may be shared with other machines."""
    temporary = path.with_name(f".{path.name}.{uuid4().hex}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


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
    """Every readable record, by experiment and id. A broken file is a warning, not an end."""
    records = [load_or_warn(path) for path in sorted(results_dir.glob("*/*.json"))]
    return [record for record in records if record is not None]


def finished(results_dir: Path, experiment: str, record_id: str) -> Record | None:
    """The stored record if it is a result, so that measuring it again would be waste."""
    record = load_or_warn(path_of(results_dir, experiment, record_id))
    return record if record is not None and record.status in FINISHED else None


def check_writable(results_dir: Path) -> None:
    """Raise `ConfigError` unless `results_dir` is, or can become, a folder to write to."""
    existing = next(
        path for path in (results_dir, *results_dir.absolute().parents) if path.exists()
    )
    if not existing.is_dir():
        raise ConfigError("results_dir", f"{existing} is not a folder")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise ConfigError("results_dir", f"{existing} cannot be written to")
