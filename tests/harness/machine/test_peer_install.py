"""Installing a peer, with a command in place of pip."""

import sys
from pathlib import Path

import pytest

from harness.config import peers
from harness.errors import ConfigError, RunnerError
from harness.machine import peer_install


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for environments, and a peer of two calls of pip."""
    monkeypatch.setenv(peers.VARIABLE, str(tmp_path / "peers"))
    made = peers.Peer("some peer", (("a==1", "b==2"), ("--no-deps", "c==3")), "nothing")
    monkeypatch.setitem(peers.PEERS, "spu", made)
    return tmp_path / "peers"


def test_in_steps_and_whole_only_at_the_end(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[list[str]] = []

    def run(command: list[str]) -> None:
        assert not peers.is_installed("spu")
        called.append(command)
        (home / "spu").mkdir(exist_ok=True)

    monkeypatch.setattr(peer_install, "_run", run)
    (home / "spu").mkdir(parents=True)
    (home / "spu" / peers.MARK).write_text("a==0\n")
    assert list(peer_install.install("spu"))[-1] == "spu: installed"
    assert called[0][1:] == ["-I", "-m", "venv", str(home / "spu")]
    assert [command[-2:] for command in called[1:]] == [["a==1", "b==2"], ["--no-deps", "c==3"]]
    assert {command[0] for command in called[1:]} == {str(peers.python_of("spu"))}
    assert peers.is_installed("spu")


def test_what_is_no_environment_stays(home: Path) -> None:
    (home / "spu").mkdir(parents=True)
    (home / "spu" / "notes").write_text("mine")
    with pytest.raises(RunnerError, match="spu is no environment of Python: remove it"):
        list(peer_install.install("spu"))
    assert (home / "spu" / "notes").read_text() == "mine"


def test_what_a_failing_command_printed_is_said(home: Path) -> None:
    text = "import sys; print('first\\nno such version'); sys.exit(1)"
    with pytest.raises(RunnerError, match="first no such version"):
        peer_install._run([sys.executable, "-c", text])
    assert not peers.is_installed("spu")
    with pytest.raises(ConfigError, match="peers: no peer spv; did you mean spu"):
        list(peer_install.install("spv"))
