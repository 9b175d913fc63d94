"""Systems of other packages, as an installer leaves them, for this process and the parties it starts."""

import importlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness import registry
from harness.config.systems import system_schema


def install(site: Path, package: str, points: Mapping[str, str]) -> None:
    """What an installer leaves of a package besides its modules. points: the systems it brings."""
    info = site / f"{package.replace('-', '_')}-0.1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 0.1.0\n")
    lines = [f"{name} = {value}" for name, value in points.items()]
    (info / "entry_points.txt").write_text("\n".join([f"[{registry.GROUP}]", *lines, ""]))


@contextmanager
def importable(
    site: Path, modules: Sequence[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Inside, what is in `site` can be imported; `modules` of it are forgotten before and after."""
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setenv("PYTHONPATH", str(site))
    importlib.invalidate_caches()
    _forget(modules)
    yield
    _forget(modules)


def _forget(modules: Sequence[str]) -> None:
    for cached in (registry.others, registry.system_class, system_schema):
        cached.cache_clear()
    for module in modules:
        sys.modules.pop(module, None)
