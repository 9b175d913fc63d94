"""Peers: where their environments are, when they count as installed, and what a run says without them."""

import sys
from pathlib import Path

import pytest
import yaml

from harness.config import peers
from harness.config.compose import compose_run
from harness.config.program_files import check_programs, program_file, python_for, require_programs
from harness.errors import ConfigError
from harness.registry import OURS, PEERS
from protocols.errors import Unsupported


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for environments."""
    monkeypatch.setenv(peers.VARIABLE, str(tmp_path))
    return tmp_path


def installed(name: str) -> None:
    """An environment that is this one, by another name."""
    python = peers.python_of(name)
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    mark = peers.folder() / name / peers.MARK
    mark.write_text(peers.versions(peers.PEERS[name].requirements))


def test_environments_are_outside_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(peers.VARIABLE, raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert peers.python_of("spu") == Path("/data/permbench/peers/spu/bin/python")
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert peers.folder() == Path("/home/somebody/.local/share/permbench/peers")


def test_other_versions_and_half_an_install_do_not_count(home: Path) -> None:
    assert not peers.is_installed("spu")
    installed("spu")
    assert peers.is_installed("spu")
    (home / "spu" / peers.MARK).write_text("spu==0.9.4\n")
    assert not peers.is_installed("spu")


@pytest.mark.parametrize("name", PEERS)
def test_a_peer_that_is_not_installed_is_unsupported_with_the_remedy(name: str, home: Path) -> None:
    config = compose_run([f"system={name}", "experiment=argmax"])
    require_programs(config)  # a row of its own, and no end of a sweep
    file = program_file(config)
    with pytest.raises(Unsupported, match=f"permbench peers install {file.peer}$"):
        check_programs(config)
    assert file.peer is not None
    installed(file.peer)
    check_programs(config)
    assert python_for(file) == str(home / file.peer / "bin" / "python")


@pytest.mark.parametrize("name", PEERS)
def test_what_a_peer_s_file_says(name: str) -> None:
    """Its driver is part of what a result depends on; its answers are held to the one of ours it is like."""
    file = program_file(compose_run([f"system={name}", "experiment=argmax"]))
    drivers = [path.name for path in file.named_files() if path.suffix == ".py"]
    assert drivers == [f"{file.peer}_party.py"]
    assert file.answer.functions in OURS
    assert PEERS[name] in (None, file.answer.functions)
    assert file.peer is not None
    (version,) = (
        word.partition("==")[2]
        for call in peers.PEERS[file.peer].requirements
        for word in call
        if word.startswith(f"{file.peer}==")
    )
    assert version in file.description  # which a result depends on, as on all of the file
    with pytest.raises(Unsupported, match="not model"):
        check_programs(compose_run([f"system={name}", "experiment=model"]))


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("peer", "spv", "peer: no peer spv; did you mean spu?"),
        ("functions", "pumas", "answer.functions: no system pumas; did you mean puma?"),
    ],
)
def test_names_that_a_file_has_wrong(key: str, value: str, said: str, tmp_path: Path) -> None:
    role = {"command": "{python} x.py {address:P0}"}
    answer = {"role": "P1", "pattern": "(.*)", "expected": "plaintext"}
    data = {"experiments": ["argmax"], "roles": {"P0": role, "P1": role}, "answer": answer}
    (answer if key == "functions" else data)[key] = value
    (tmp_path / "some.yaml").write_text(yaml.safe_dump(data))
    with pytest.raises(ConfigError) as caught:
        compose_run(["system=external", f"system.file={tmp_path / 'some.yaml'}"])
    assert str(caught.value).startswith(f"system.file: {tmp_path / 'some.yaml'}: {said}")


@pytest.mark.parametrize("name", PEERS)
def test_a_peer_s_runs_have_what_programs_can_have(name: str) -> None:
    with pytest.raises(ConfigError, match=f"system={name}: programs of others leave no trace"):
        compose_run([f"system={name}", "experiment=argmax", "trace=true"])
