"""The digest of the code: an edit that can change a number changes it, others do not."""

from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from harness.records import code_digest


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small checkout that is digested in the place of this one."""
    for name in ("protocols/permllm/linear", "harness/measure/run", "harness/report/tables"):
        path = tmp_path / f"{name}.py"
        path.parent.mkdir(parents=True)
        path.write_text(f"# {name}\n")
    monkeypatch.setattr(code_digest, "REPO", tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("file", "counts"),
    [
        ("protocols/permllm/linear.py", True),
        ("harness/measure/run.py", True),
        ("harness/report/tables.py", False),
        ("protocols/permllm/notes.txt", False),
        ("baselines/new.py", True),
    ],
)
def test_edits(file: str, counts: bool, repo: Path) -> None:
    before = code_digest.code_digest()
    assert code_digest.code_digest() == before
    path = repo / file
    path.parent.mkdir(exist_ok=True)
    path.write_text("x = 1\n")
    assert (code_digest.code_digest() != before) == counts


def test_a_file_that_is_renamed_or_split_counts(repo: Path) -> None:
    before = code_digest.code_digest()
    path = repo / "protocols/permllm/linear.py"
    path.rename(path.with_name("affine.py"))
    assert code_digest.code_digest() != before


def test_a_system_of_another_package_has_a_digest_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = tmp_path / "some_own_system.py"
    module.write_text("x = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    point = EntryPoint("own", "some_own_system:Own", "permbench.systems")
    monkeypatch.setattr(code_digest, "others", lambda: {"own": point})
    found = code_digest.sources("own")
    assert found["code"] == code_digest.sources("permllm")["code"]
    assert code_digest.sources("permllm")["system"] is None
    module.write_text("x = 2\n")
    code_digest.system_digest.cache_clear()
    assert code_digest.sources("own")["system"] not in (None, found["system"])
    code_digest.system_digest.cache_clear()
