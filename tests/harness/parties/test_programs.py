"""Programs of others: what they print is understood, and nothing of them is left."""

import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
import yaml

from baselines.external.program_file import read
from harness.errors import PartyFailure
from harness.parties.programs import Heard, Programs
from harness.runners.guarded import GuardedProgram
from harness.runners.netns import Netns
from harness.runners.proxied import Proxied
from netem.tc_probe import namespaces_missing
from protocols.errors import Unsupported
from protocols.party import ROLES

PATIENCE_S = 60.0
VALUES = dict.fromkeys(("threads", "seed", "folder", "experiment", "workload"), "1")
TALK = "echo {address:P0}"  # so that somebody connects to somebody
Make = Callable[..., Programs]


@pytest.fixture
def runner() -> Iterator[Proxied]:
    made = Proxied()
    with closing(made):
        made.open()
        yield made


@pytest.fixture
def programs(runner: Proxied, tmp_path: Path) -> Make:
    """Starts a shell command as each of two roles."""

    def make(p0: str, p1: str, timeout_s: float = PATIENCE_S, **more: object) -> Programs:
        commands = {"P0": p0, "P1": f"{TALK}; {p1}"}
        roles = {role: {"command": ["sh", "-c", text]} for role, text in commands.items()}
        answer = {"role": "P1", "pattern": "answer (.*)", "expected": 1}
        path = tmp_path / "some.yaml"
        path.write_text(yaml.safe_dump({"roles": roles, "answer": answer, "ready": "^on$", **more}))
        logs = {role: deque[str](maxlen=40) for role in ROLES}
        made = Programs(read(path), runner, VALUES, timeout_s, logs)
        made.start({"TAG": str(tmp_path)})
        return made

    return make


def answered(made: Programs) -> Heard:
    """What comes of one evaluation."""
    made.wait_ready()
    made.go()
    return made.wait_answer(lambda key, at_ns: None)


def running(tag: Path) -> list[int]:
    """Processes with this folder's name in their environment."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            environment = Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:
            continue
        if f"TAG={tag}".encode() in environment and int(pid) != os.getpid():
            found.append(int(pid))
    return found


def wait_until_gone(tag: Path) -> bool:
    deadline = time.monotonic() + PATIENCE_S
    while running(tag) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not running(tag)


def test_lines_are_told_apart_and_dated(programs: Make) -> None:
    made = programs("echo on; read go; exit 0", "echo on; read go; echo half; echo answer 1")
    ready_ns = made.wait_ready()
    go_ns = made.go()
    heard = made.wait_answer(lambda key, at_ns: None)
    assert heard.answer == "1"
    assert ready_ns <= go_ns <= heard.done_ns <= time.monotonic_ns()
    made.finish()


def test_an_answer_before_all_are_ready_is_refused(programs: Make) -> None:
    made = programs("sleep 1; echo on; sleep 1000", "echo on; echo answer 1; sleep 1000")
    with pytest.raises(PartyFailure, match="P1 answered before P0 was ready: let it wait for 'go'"):
        made.wait_ready()
    made.finish()


def test_markers_and_the_line_that_ends_the_time(programs: Make) -> None:
    told: dict[str, int] = {}
    made = programs(
        "echo on; echo triples; read go",
        "echo on; read go; echo triples; echo finished; echo answer 1",
        markers={"offline": "triples"},
        done="finished",
    )
    made.wait_ready()
    made.go()
    heard = made.wait_answer(told.__setitem__)
    assert heard.markers == {"offline": told["markers.offline"]}
    assert told["markers.offline"] <= told["done"] == heard.done_ns <= told["answer"]


def test_programs_that_stay_get_ready_again(programs: Make) -> None:
    loop = "while echo on && read go; do echo {}; done"
    made = programs(loop.format("x"), loop.format("answer $go"), go=True, stays=True)
    for _ in range(3):
        assert answered(made).answer == "go"
    made.finish()


def test_of_many_lines_few_are_kept(programs: Make) -> None:
    """Those that nobody has asked for yet, and those that say the same again; the answer is among them."""
    lines = "seq 20000; yes on | head -n 20000; yes half | head -n 20000"
    made = programs(
        "echo on; read go; exit 0",
        f"echo on; read go; {lines}; echo answer 1; {lines}; echo the end; sleep 1000",
        markers={"half": "half"},
    )
    made.wait_ready()
    made.go()
    deadline = time.monotonic() + PATIENCE_S
    while "the end" not in made._logs["P1"] and time.monotonic() < deadline:
        time.sleep(0.02)
    assert made._said.qsize() <= 4
    assert made.wait_answer(lambda key, at_ns: None).answer == "1"
    made.finish()


FAILURES = {
    "fails": ("echo oh no; exit 3", "sleep 1000", "P0 exited with code 3 before all were ready: oh no"),
    "is killed": ("kill -9 $$", "sleep 1000", "P0 was killed by SIGKILL before all were ready"),
    "ends": ("echo on; sleep 99", "echo on; read go; exit 0", "P1 exited with code 0 before the answer: on"),
    "fails late": ("echo on; read go; exit 4", "echo on; sleep 9", "P0 exited with code 4 before the answer"),
}  # fmt: skip


@pytest.mark.parametrize("kind", FAILURES)
def test_a_program_that_ends_too_early_is_named(
    kind: str, programs: Make, runner: Proxied, tmp_path: Path
) -> None:
    p0, p1, said = FAILURES[kind]
    made = programs(p0, p1)
    with pytest.raises(PartyFailure) as caught:
        answered(made)
    assert str(caught.value).startswith(said)
    assert not caught.value.timed_out
    runner.end_programs()
    assert wait_until_gone(tmp_path)


def test_a_program_that_cannot_be_started(programs: Make, tmp_path: Path) -> None:
    made = programs("exec ./absent", "sleep 1000")
    with pytest.raises(Unsupported, match=r"P0 cannot do this \(exit code 127\)"):
        made.wait_ready()
    guarded = GuardedProgram([str(tmp_path / "absent")], {}, tmp_path)
    assert [line for _, line in guarded.lines()] == [
        f"{tmp_path}/absent: No such file or directory"
    ]
    assert guarded.exit_code(PATIENCE_S) == 126
    guarded.end()


@pytest.mark.parametrize(
    ("p1", "said"),
    [
        ("sleep 1000", "P1 was not ready within 0.5 s: no line matches '^on$'"),
        ("timeout 10 yes x", "P1 was not ready within 0.5 s: no line matches '^on$'"),
        ("echo on; sleep 1000", "P1 gave no answer within 0.5 s"),
        ("timeout 10 yes on", "P1 gave no answer within 0.5 s"),
    ],
)
def test_silence_and_chatter_end_a_run(
    p1: str, said: str, programs: Make, runner: Proxied, tmp_path: Path
) -> None:
    made = programs("echo on; sleep 1000", p1, timeout_s=0.5)
    with pytest.raises(PartyFailure) as caught:
        answered(made)
    assert str(caught.value) == said
    assert caught.value.timed_out
    runner.end_programs()
    assert wait_until_gone(tmp_path)


def test_nothing_of_a_program_is_left_not_even_what_has_left_its_session(
    programs: Make, runner: Proxied, tmp_path: Path
) -> None:
    made = programs("setsid sleep 1000 & sleep 1000 & echo on; wait", "echo on; sleep 1000")
    made.wait_ready()
    assert len(running(tmp_path)) >= 6
    runner.end_programs()
    assert wait_until_gone(tmp_path)


def test_programs_end_when_the_harness_is_killed(tmp_path: Path) -> None:
    text = f"""
import time
from pathlib import Path
from harness.runners.guarded import GuardedProgram
command = ["sh", "-c", "setsid sleep 1000 & echo on; sleep 1000"]
print(next(GuardedProgram(command, {{"TAG": "{tmp_path}"}}, Path("/")).lines())[1], flush=True)
time.sleep(1000)
"""
    harness = subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE)
    assert harness.stdout is not None
    assert harness.stdout.readline() == b"on\n"
    harness.send_signal(signal.SIGKILL)
    harness.wait()
    harness.stdout.close()
    assert wait_until_gone(tmp_path)


def test_what_a_program_takes_is_that_of_all_it_starts(tmp_path: Path) -> None:
    burn = "import time; x = bytearray(50_000_000)\nwhile time.process_time() < 0.3: pass\n"
    burn += "print('on', flush=True)"
    command = ["sh", "-c", f'{sys.executable} -c "$0"; read go', burn]
    program = GuardedProgram(command, {}, tmp_path)
    lines = program.lines()
    next(lines)
    live = program.usage()
    program.tell("go")
    assert program.exit_code(PATIENCE_S) == 0
    after = program.usage()
    program.end()
    assert 0.25e9 < live.cpu_ns <= after.cpu_ns
    assert after.peak_rss_bytes > 50_000_000


TALKS = """
import socket, sys, time
role, own, host, port = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
peer = socket.create_server((host, port)).accept()[0] if role == "P0" else None
while peer is None:
    try:
        peer = socket.create_connection((host, port))
    except ConnectionRefusedError:
        time.sleep(0.05)
print("ready", flush=True)
input()
peer.sendall(role.encode())
print("answer", peer.recv(2).decode(), "at", own, flush=True)
time.sleep(1000)
"""


@pytest.mark.parametrize("kind", ["proxied", "netns"])
def test_programs_reach_each_other_where_they_live(kind: str, tmp_path: Path) -> None:
    if kind == "netns" and (why := namespaces_missing()):
        pytest.skip(why)
    (tmp_path / "talks.py").write_text(TALKS)
    start = f"{sys.executable} talks.py"
    roles = {"P0": "P0 {listen} {host} {port}", "P1": "P1 {listen} {host:P0} {port:P0}"}
    data = {
        "ready": "ready",
        "roles": {role: {"command": f"{start} {text}"} for role, text in roles.items()},
        "answer": {"role": "P1", "pattern": "answer (.*)", "expected": "P0"},
    }
    (tmp_path / "some.yaml").write_text(yaml.safe_dump(data))
    logs = {role: deque[str](maxlen=40) for role in ROLES}
    runner = Proxied() if kind == "proxied" else Netns(tc=False)
    with closing(runner):
        runner.open()
        for _ in range(2):
            made = Programs(read(tmp_path / "some.yaml"), runner, VALUES, PATIENCE_S, logs)
            made.start({"TAG": str(tmp_path)})
            assert answered(made).answer.startswith("P0 at ")
            runner.end_programs()
        assert wait_until_gone(tmp_path)
