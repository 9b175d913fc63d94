"""What was measured and cannot be saved where it belongs: kept where there is room, named, and tried again.

Records and traces are saved through `save` alone. A full disk or a folder that nobody may write to then
costs no result, and no run after it.
"""

import shutil
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from harness.machine.interrupts import deferred
from harness.progress import warn
from harness.records.record import Record
from harness.records.store import save as save_record

Save = Callable[[Path], Path]  # into a folder of results; the file's path. Raises OSError
ELSEWHERE = (None, "/var/tmp")  # None: the system's folder for temporary files


@dataclass
class _Unsaved:
    """folder: where it belongs. at: where it is meanwhile; None: in memory alone. text: to be printed
    in the latter case."""

    folder: Path
    save: Save
    text: str
    at: Path | None = None


_left: list[_Unsaved] = []
_places: list[Path] = []  # folders of results that were made for them


def keep_record(folder: Path, record: Record) -> Path | None:
    """Save a record, or keep it."""
    return save(folder, lambda where: save_record(where, record), record.to_json())


def save(folder: Path, act: Save, text: str = "") -> Path | None:
    """Save something in a folder of results and return its path, or keep it, which is said in one line.

    text: what to print at the end where it could be kept nowhere.
    """
    with deferred():
        retry()
        try:
            return act(folder)
        except OSError as error:
            kept = _Unsaved(folder, act, text)
            _left.append(kept)
            kept.at = _elsewhere(act)
            where = f"kept as {kept.at}" if kept.at else "kept in memory"
            warn(f"{error.filename or folder}: {error.strerror}; {where}, to be tried again")
            return None


def retry() -> None:
    """Try what is left once more."""
    for kept in list(_left):
        with suppress(OSError):
            path = kept.save(kept.folder)
            _left.remove(kept)
            if kept.at:
                kept.at.unlink(missing_ok=True)
            warn(f"{path} is saved after all")
    if not _left:
        while _places:
            shutil.rmtree(_places.pop(), ignore_errors=True)


def any_left() -> bool:
    """Whether something that was measured is not where it belongs."""
    return bool(_left)


def finish() -> None:
    """Try for the last time, say where the rest is, and print what could be kept nowhere."""
    with deferred():
        retry()
        for place in _places:
            warn(f"not saved: what is in {place}; see it with: permbench show results_dir={place}")
        for kept in _left:
            if kept.at is None and kept.text:
                warn("not saved: the record that is printed here")
                sys.stdout.write(kept.text)


def _elsewhere(act: Save) -> Path | None:
    """Where it was saved instead; None: nowhere."""
    for place in _places:
        with suppress(OSError):
            return act(place)
    for parent in ELSEWHERE:
        with suppress(OSError):
            place = Path(tempfile.mkdtemp(prefix="permbench-unsaved-", dir=parent))
            try:
                path = act(place)
            except OSError:
                shutil.rmtree(place, ignore_errors=True)
                continue
            _places.append(place)
            return path
    return None
