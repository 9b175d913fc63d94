"""Two sets of records, and which record of one is the same run as which of the other."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.config.config_hash import flatten, resolved, restored
from harness.errors import ConfigError
from harness.records import store
from harness.records.environment import commit_of
from harness.records.record import Record
from harness.records.selection import code_key, commit_text, machine_key, matters, newest
from harness.version import REPO

COMMIT_DIGITS = 4  # at least, of a commit or of the digest of its code
RunKey = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Pair:
    """The same run in both sets. same_machine: whether its times may be compared."""

    before: Record
    after: Record
    same_machine: bool


@dataclass(frozen=True)
class Matched:
    """The runs of both sets, and those of one alone."""

    pairs: list[Pair]
    only_before: list[Record]
    only_after: list[Record]


def load_side(text: str, folder: Path) -> list[Record]:
    """The newest records that `text` names: a folder, a record's file, or the commit (also HEAD~1, a tag,
    or the digest of the code) that made them, of those in `folder`. Raises ConfigError."""
    path = Path(text)
    if path.is_file():
        record = store.load_or_warn(path)
        found = [] if record is None else [record]
    elif path.is_dir():
        found = store.load_all(path) or store.load_folder(path)
    else:
        found = _of_commit(text, folder)
    if not found:
        raise ConfigError(text, "has no record that can be read")
    return newest(found)


def _of_commit(text: str, folder: Path) -> list[Record]:
    """The records in `folder` that were made by a commit; with + by one that held other changes."""
    records = store.load_all(folder)
    commit = commit_of(REPO, text) or text
    if commit != text or len(text) >= COMMIT_DIGITS:
        dirty, commit = commit.endswith("+"), commit.rstrip("+")
        found = [r for r in records if _made_by(r, commit, dirty)]
        if found:
            return found
    known = ", ".join(dict.fromkeys(commit_text(record) for record in records)) or "none"
    raise ConfigError(
        text,
        f"is no folder, no file, and no commit with records in {folder}; commits there: {known} "
        "(results_dir=DIR: those of another folder)",
    )


def _made_by(record: Record, commit: str, dirty: bool) -> bool:
    git = record.environment.get("git") or {}
    by_commit = str(git.get("commit") or "").startswith(commit) and bool(git.get("dirty")) == dirty
    return by_commit or (not dirty and code_key(record).startswith(commit))


def match(before: Iterable[Record], after: Iterable[Record]) -> Matched:
    """Runs that are equal in every key that matters; on each machine that has both, else the newest of
    each side. Keys that are newer than a record have their defaults."""
    old, new = _by_run(before), _by_run(after)
    pairs = [pair for key in old if key in new for pair in _pairs(old[key], new[key])]
    return Matched(
        pairs,
        [record for key in old if key not in new for record in old[key]],
        [record for key in new if key not in old for record in new[key]],
    )


def _pairs(before: Sequence[Record], after: Sequence[Record]) -> list[Pair]:
    there = {machine_key(record): record for record in before}
    same = [Pair(there[m], record, True) for record in after if (m := machine_key(record)) in there]
    return same or [Pair(max(before, key=_date), max(after, key=_date), False)]


def _by_run(records: Iterable[Record]) -> dict[RunKey, list[Record]]:
    runs: dict[RunKey, list[Record]] = {}
    for record in newest(list(records)):
        runs.setdefault(_run_key(record), []).append(record)
    return runs


def _run_key(record: Record) -> RunKey:
    try:
        config = resolved(restored(record.config))
    except ConfigError:  # of a system that is not here
        config = record.config
    # What was not set then, or not decided, is as what is off.
    given = ((k, v) for k, v in flatten(config).items() if v is not None and v is not False)
    return tuple(sorted((k, repr(v)) for k, v in given if matters(k)))


def _date(record: Record) -> str:
    return str(record.environment.get("date"))
