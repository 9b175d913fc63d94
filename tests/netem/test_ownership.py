import os
import signal
import subprocess
from dataclasses import astuple
from pathlib import Path

import pytest

from netem import process_labels
from netem.process_labels import Owner, is_alive, owner_of, run_label, stale


def label(owner: Owner) -> str:
    return process_labels.PREFIX + "-".join(map(str, astuple(owner)))


def me() -> Owner:
    owner = owner_of(run_label())
    assert owner is not None
    return owner


def test_a_label_names_its_process_and_begins_the_names_of_what_it_made() -> None:
    assert me().pid == os.getpid()
    assert owner_of(f"{run_label()}-a1b2c3-P0") == me()
    assert is_alive(run_label())


@pytest.mark.parametrize(
    "name", ["", "eth0", "docker0", "permbench", "permbench-1-2", "my-permbench-1-2-3"]
)
def test_what_is_not_ours_is_never_stale(name: str) -> None:
    assert owner_of(name) is None
    assert stale([name]) == []


def test_a_process_that_is_gone_or_not_yet_reaped_is_dead() -> None:
    child = subprocess.Popen(["sleep", "60"])
    start = int(Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[19])
    name = label(Owner(me().pid_namespace, child.pid, start))
    assert is_alive(name)
    os.kill(child.pid, signal.SIGKILL)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # a zombie from here on
    assert stale([name, run_label()]) == [name]
    child.wait()
    assert stale([name, run_label()]) == [name]


def test_a_pid_that_another_process_has_now_is_dead() -> None:
    assert not is_alive(label(Owner(me().pid_namespace, me().pid, me().start_ticks - 1)))


def test_nobody_can_tell_of_another_pid_namespace() -> None:
    assert is_alive(label(Owner(me().pid_namespace + 1, 1, 1)))
