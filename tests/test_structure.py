"""The structure of the code: which package may import which, and the rooms of harness."""

import ast
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Imports go down this list only; modules outside a room lie below all of them.
ROOMS = [
    "cli",
    "gate",
    "reproduce",
    "measure",
    "replay",
    "report",
    "parties",
    "runners",
    "machine",
    "records",
    "config",
    "transport",
]
MAY_IMPORT = {
    "netem": {"netem"},
    "protocols": {"protocols"},
    "baselines": {"baselines", "protocols"},
    "harness": {"harness", "baselines", "protocols", "netem", "conf"},
    "permbench": {"permbench", "harness", "baselines", "protocols", "netem"},
}


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imported(path: Path) -> Iterator[str]:
    """Every module that a file imports, wherever in it; of `from a import b`, a.b where that is one."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if is_module(inner) else node.module


def is_module(name: str) -> bool:
    return (ROOT / name.replace(".", "/")).with_suffix(".py").exists()


def room(name: str) -> int:
    """Its place in `ROOMS`; below all of them for a module of the root."""
    parts = name.split(".")
    return ROOMS.index(parts[1]) if len(parts) > 1 and parts[1] in ROOMS else len(ROOMS)


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_packages_import_one_way(package: str) -> None:
    ours = set(MAY_IMPORT)
    wrong = [
        f"{name_of(path)} imports {name}"
        for path in modules(package)
        for name in imported(path)
        if (first := name.split(".")[0]) in ours and first not in MAY_IMPORT[package]
    ]
    assert not wrong


def test_no_room_imports_one_above_it() -> None:
    wrong = [
        f"{name_of(path)} imports {name}"
        for path in modules("harness")
        if path.name != "__main__.py"
        for name in imported(path)
        if name.startswith("harness") and room(name) < room(name_of(path))
    ]
    assert not wrong


def test_no_file_name_occurs_twice_in_harness() -> None:
    names = Counter(path.name for path in modules("harness"))
    del names["__init__.py"]
    assert not [name for name, count in names.items() if count > 1]


def test_no_test_file_name_occurs_twice() -> None:
    """pytest imports tests by their file's name alone."""
    names = Counter(path.name for path in modules("tests") if path.name.startswith("test_"))
    assert not [name for name, count in names.items() if count > 1]


def test_few_loose_files_in_harness() -> None:
    assert len(list((ROOT / "harness").glob("*.py"))) <= 7


def test_no_modules_import_each_other_in_a_circle() -> None:
    @cache
    def below(name: str) -> frozenset[str]:
        path = (ROOT / name.replace(".", "/")).with_suffix(".py")
        return frozenset(n for n in imported(path) if n.startswith("harness.") and is_module(n))

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, f"a circle: {' → '.join([*path, name])}"
        if name in done:
            return
        for other in sorted(below(name)):
            visit(other, (*path, name))
        done.add(name)

    done: set[str] = set()
    for file in modules("harness"):
        visit(name_of(file), ())
