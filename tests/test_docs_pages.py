"""README and docs/ as pages: links that lead somewhere, lines that fit, a reference without gaps."""

import importlib.util
import re
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

from harness.config.reference import keys

ROOT = Path(__file__).parents[1]
READ = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
LINK = re.compile(r"\]\(([^)#\s]*)(?:#[^)]*)?\)")
COLUMNS, README_LINES = 100, 200


@cache
def hooks() -> ModuleType:
    """docs/hooks.py, which mkdocs reads."""
    spec = importlib.util.spec_from_file_location("hooks", ROOT / "docs/hooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", READ, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text("utf-8")
    targets = [target for target in LINK.findall(text) if target and ":" not in target]
    assert not [target for target in targets if not (page.parent / target).exists()]


@pytest.mark.parametrize("page", READ, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_lines_fit(page: Path) -> None:
    lines = page.read_text("utf-8").splitlines()
    exempt = ("|", "<!-- table:")  # cannot be broken
    long = [line for line in lines if len(line) > COLUMNS]
    assert not [line for line in long if not line.lstrip().startswith(exempt)]
    if page.name == "README.md":
        assert len(lines) <= README_LINES


def test_the_site_has_every_page() -> None:
    text = (ROOT / "mkdocs.yml").read_text("utf-8")
    listed = set(re.findall(r": ([\w/-]+\.md)$", text, re.M))
    written = {p.relative_to(ROOT / "docs").as_posix() for p in (ROOT / "docs").rglob("*.md")}
    assert listed == written | set(hooks().pages())


def test_every_key_has_a_meaning() -> None:
    assert not [key.key for key in keys() if not key.meaning]
