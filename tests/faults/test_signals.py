"""Ctrl-C once and often, closed terminals and kills: what is left, what is said, what is saved."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.cli import main as cli
from harness.records.store import load_all
from harness.version import REPO
from netem.command import run
from netem.process_labels import PREFIX
from netem.tc_probe import namespaces_missing
from tests.faults.program import ENDLESS, TINY, Ended, Program, hidden

pytestmark = pytest.mark.slow

INTERRUPTED = 130


def namespaces_of(pid: int) -> list[str]:
    """Network namespaces and links of a harness, by its process id."""
    if namespaces_missing():
        return []
    mark = f"{PREFIX}{os.stat('/proc/self/ns/pid').st_ino}-{pid}-"
    lines = run(("ip", "netns", "list")) + run(("ip", "link", "show"))
    return [line for line in lines.splitlines() if mark in line]


def needs_namespaces(runner: str) -> None:
    if runner == "netns" and (why := namespaces_missing()):
        pytest.skip(f"network namespaces: {why}")


def assert_dismissed(program: Program, ended: Ended, folder: Path) -> None:
    """In good order: nothing is left, one line says so, and the run has a record."""
    assert ended.code == INTERRUPTED, ended.err
    assert ended.left == []
    assert namespaces_of(program.process.pid) == []
    assert "Traceback" not in ended.err
    last = ended.err.rstrip("^C\r\n ")  # a terminal echoes what is pressed
    assert last.endswith("permbench: interrupted")
    assert [(r.status, r.error) for r in load_all(folder)] == [("failed", "interrupted")]
    assert hidden(folder) == []


@pytest.mark.parametrize("runner", ["local", "netns"])
def test_three_ctrl_c_at_a_terminal_are_as_good_as_one(runner: str, tmp_path: Path) -> None:
    needs_namespaces(runner)
    words = (*ENDLESS, f"runner={runner}", "results_dir=results")
    program = Program("run", *words, folder=tmp_path, terminal=True)
    assert program.wait_for("measuring")
    for _ in range(3):
        program.press_ctrl_c()
        time.sleep(0.12)
    assert_dismissed(program, program.end(), tmp_path / "results")


def test_ctrl_c_until_the_very_end_changes_nothing(tmp_path: Path) -> None:
    """Also while Python takes itself apart."""
    program = Program("run", *ENDLESS, "results_dir=results", folder=tmp_path)
    assert program.wait_for("starting parties")
    while program.process.poll() is None:
        program.process.send_signal(signal.SIGINT)
        time.sleep(0.002)
    assert_dismissed(program, program.end(), tmp_path / "results")


SWALLOWED = """
import os, signal, time
from harness.machine import interrupts
interrupts.AGAIN_S = 0.1
interrupts.end_in_good_order()
try:
    os.kill(os.getpid(), signal.SIGHUP)
    time.sleep(5)
except BaseException:  # as some library has it around an import
    pass
try:
    time.sleep(5)
except KeyboardInterrupt:
    interrupts.caught()
    time.sleep(0.3)
    print("ended")
"""


def test_an_interrupt_that_a_library_swallows_comes_again_until_it_is_caught() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", SWALLOWED], check=False, capture_output=True, text=True
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "ended\n", "")


def test_an_interrupt_that_a_library_makes_another_error_of_is_one_still(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As an import hook does that wraps whatever is raised below it."""

    def hurt(_: list[str]) -> int:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)
        except BaseException as error:
            raise ImportError("could not be imported") from error
        return 0

    monkeypatch.setattr(cli, "_run", hurt)
    assert cli.main([]) == INTERRUPTED
    assert capsys.readouterr().err == "permbench: interrupted\n"


def test_a_terminal_that_closes_ends_a_run_in_good_order(tmp_path: Path) -> None:
    program = Program("run", *ENDLESS, "results_dir=results", folder=tmp_path, terminal=True)
    assert program.wait_for("measuring")
    program.close_terminal()
    ended = program.end()
    assert (ended.code, ended.left) == (INTERRUPTED, [])
    records = load_all(tmp_path / "results")
    assert [(r.status, r.error) for r in records] == [("failed", "interrupted")]


def test_nohup_survives_its_terminal(tmp_path: Path) -> None:
    """Of a sweep all runs are made, though nobody can read what is said of them."""
    words = ("run", "-m", *TINY, "experiment.n=8,9", "results_dir=results")
    program = Program(*words, folder=tmp_path, terminal=True, ignore=[signal.SIGHUP])
    assert program.wait_for("starting parties")
    program.close_terminal()
    ended = program.end(120)
    assert (ended.code, ended.left) == (0, [])
    assert [r.status for r in load_all(tmp_path / "results")] == ["ok", "ok"]


@pytest.mark.parametrize("delay_s", [0.0, 0.6])
def test_parties_that_are_starting_end_with_a_killed_harness(
    delay_s: float, tmp_path: Path
) -> None:
    """Long before they look for it: they import what they need for seconds."""
    program = Program("run", *ENDLESS, folder=tmp_path)
    assert program.wait_for("starting parties")
    while len(program.parties()) < 3:
        time.sleep(0.005)
    time.sleep(delay_s)
    program.process.kill()
    assert program.end().left == []


def test_a_killed_join_takes_its_worker_along(tmp_path: Path) -> None:
    secret = {"PERMBENCH_SECRET": "ab" * 32}
    program = Program("join", "P0", "127.0.0.1:9", folder=tmp_path, environment=secret)
    while not program.parties():
        time.sleep(0.01)
        assert program.process.poll() is None
    program.process.kill()
    assert program.end().left == []


def test_a_run_in_namespaces_removes_what_a_killed_one_has_left(tmp_path: Path) -> None:
    needs_namespaces("netns")
    killed = Program("run", *ENDLESS, "runner=netns", folder=tmp_path)
    assert killed.wait_for("measuring")
    killed.process.kill()
    killed.end()
    assert namespaces_of(killed.process.pid)
    ended = Program("run", *TINY, "runner=netns", folder=tmp_path).end(120)
    assert ended.code == 0, ended.err
    assert namespaces_of(killed.process.pid) == []


SHIELDED = """
import os, signal, sys, time
from harness.machine.interrupts import deferred, end_in_good_order, interruptible

def send(number=signal.SIGINT):
    os.kill(os.getpid(), number)
    for _ in range(1000): pass

end_in_good_order()
try:
    with deferred():
        send(); print("not yet")
        with deferred(): send(signal.SIGTERM)
        print("nor here")
    print("never")
except KeyboardInterrupt:
    send(); send(signal.SIGHUP); print("once")

end_in_good_order()
try:
    with deferred():
        with interruptible(): send()
        print("never")
except KeyboardInterrupt:
    print("at once")

class Swallowing:
    def __del__(self): send()

end_in_good_order()
try:
    Swallowing()
    time.sleep(5)
    print("never")
except KeyboardInterrupt:
    print("again")
"""


def test_signals_wait_for_what_must_be_whole_and_are_not_lost() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SHIELDED], cwd=REPO, capture_output=True, text=True, check=False
    )
    assert done.stdout.splitlines() == ["not yet", "nor here", "once", "at once", "again"]
    assert done.stderr == ""
