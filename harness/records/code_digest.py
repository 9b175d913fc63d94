"""The code that a number comes from, as a digest: a stored run counts only where it was made by this code.

Counted is every Python file that can change a result: the protocols, the baselines, the network, and
what of harness starts parties, connects them, measures and verifies. What only reads records is not.
A file counts by its bytes, comments too: whether an edit matters is not for a program to say.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator
from functools import cache, lru_cache
from importlib.util import find_spec
from pathlib import Path

from harness.registry import others
from harness.version import REPO

COUNTED = (
    "protocols",
    "baselines",
    "netem",
    "harness/transport",
    "harness/parties",
    "harness/runners",
    "harness/measure",
    "harness/config/network.py",
    "harness/registry.py",
)


def code_digest() -> str:
    """16 hex digits over the counted files as they are now."""
    files = tuple(sorted(path for name in COUNTED for path in _python_files(REPO / name)))
    return _digest_of_state(files, tuple(_state(path) for path in files))


@lru_cache(maxsize=4)
def _digest_of_state(files: tuple[Path, ...], states: tuple[tuple[int, int], ...]) -> str:
    """`digest_of`, made again only where a file has changed."""
    return digest_of(REPO, files)


def _state(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_mtime_ns, found.st_size


def _python_files(place: Path) -> Iterator[Path]:
    """Below a folder; one that goes away meanwhile, as Python's caches do, has none."""
    if place.is_file():
        yield place
    for folder, _, names in os.walk(place):
        yield from (Path(folder, name) for name in names if name.endswith(".py"))


@cache
def system_digest(system: str) -> str | None:
    """The same of the package that brings `system`; None for ours, which `code_digest` counts."""
    point = others().get(system)
    spec = find_spec(point.module.partition(".")[0]) if point else None
    if spec is None:
        return None
    if spec.submodule_search_locations is None:
        return digest_of(Path(spec.origin or "").parent, [Path(spec.origin or "")])
    folders = [Path(folder) for folder in spec.submodule_search_locations]
    return digest_of(folders[0], (path for folder in folders for path in folder.rglob("*.py")))


def digest_of(root: Path, files: Iterable[Path]) -> str:
    """16 hex digits over the names below `root` and the contents of `files`."""
    total = hashlib.sha256()
    for part in _parts(root, files):
        total.update(len(part).to_bytes(8, "big") + part)
    return total.hexdigest()[:16]


def _parts(root: Path, files: Iterable[Path]) -> Iterator[bytes]:
    for path in sorted(files):
        yield path.relative_to(root).as_posix().encode() if path.is_relative_to(root) else b""
        yield path.read_bytes()


def programs_digest(file: str) -> str:
    """The same of the file of an external system, with the files beside it that its commands name."""
    from baselines.external.program_file import read  # noqa: PLC0415 - torch is slow to import

    path = Path(file)
    return digest_of(path.parent, read(path).named_files())


def sources(system: str, file: str | None = None) -> dict[str, str | None]:
    """What a record keeps: `code`, and `system` for one of another package, or for `external` with its
    file."""
    own = system_digest(system) if file is None else programs_digest(file)
    return {"code": code_digest(), "system": own}
