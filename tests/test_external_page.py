"""docs/external.md, followed: its program, its file, its command; and other programs in the same call."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from harness.records.record import Correctness, Record
from harness.records.store import load_all
from tests.test_docs_commands import ROOT, Block, blocks, commands

pytestmark = pytest.mark.slow
PAGE = ROOT / "docs/external.md"
TAG = "PERMBENCH_TEST_FOLDER"  # in the environment of all that a call starts
QUICK = ["repeat=2", "warmup=1", "calibration.strict=false", "calibration.patience_s=0"]
LOOP = """
import socket, sys
role, host, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
peer = socket.create_connection((host, port)) if role == "P1" else None
peer = peer or socket.create_server((host, port)).accept()[0]
while print("ready", flush=True) or sys.stdin.readline() == "go\\n":
    peer.sendall(bytes(1000))
    peer.recv(1000, socket.MSG_WAITALL)
    print("triples are there", flush=True)
    peer.sendall(bytes(500))
    peer.recv(500, socket.MSG_WAITALL)
    print("answer", *sys.argv[4:], flush=True)
"""
STAYS = {
    "ready": "ready",
    "go": True,
    "stays": True,
    "roles": {
        "P0": {"command": f"{sys.executable} loop.py P0 {{host}} {{port}} 1.0 -3"},
        "P1": {"command": f"{sys.executable} loop.py P1 {{host:P0}} {{port:P0}} 1.0 -3"},
    },
    "markers": {"offline": "triples"},
    "answer": {"role": "P1", "pattern": "answer (.*)", "expected": [1, -3.25], "tolerance": 0.5},
}
ARGMAX = """
import socket, sys, numpy
inputs, role, host, port = *sys.argv[1:4], int(sys.argv[4])
peer = socket.create_connection((host, port)) if role == "P1" else None
peer = peer or socket.create_server((host, port)).accept()[0]
print("ready", flush=True)
sys.stdin.readline()
peer.sendall(b"x")
peer.recv(1)
print("index", numpy.load(inputs)["x"].argmax(), flush=True)
"""
ARGMAX_FILE = {
    "experiments": ["argmax"],
    "ready": "ready",
    "go": True,
    "roles": {
        "P0": {"command": f"{sys.executable} argmax.py {{inputs}} P0 {{host}} {{port}}"},
        "P1": {"command": f"{sys.executable} argmax.py {{inputs}} P1 {{host:P0}} {{port:P0}}"},
    },
    "answer": {"role": "P1", "pattern": "index (.*)", "expected": "plaintext"},
}
IN_C = r"""
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
int main(int count, char **words) {
    struct sockaddr_in place = {.sin_family = AF_INET, .sin_port = htons(atoi(words[3]))};
    int peer = socket(AF_INET, SOCK_STREAM, 0), asks = words[1][1] == '1';
    unsigned char total = 0;
    inet_pton(AF_INET, words[2], &place.sin_addr);
    if (asks && connect(peer, (struct sockaddr *)&place, sizeof place)) return 1;
    if (!asks && (bind(peer, (struct sockaddr *)&place, sizeof place) || listen(peer, 1))) return 1;
    if (!asks) peer = accept(peer, NULL, NULL);
    setvbuf(stdout, NULL, _IONBF, 0);
    puts("ready");
    while (getchar() != '\n');
    for (int i = 0; i < 20; i++)
        if ((i + asks) % 2) write(peer, &total, 1);
        else if (read(peer, &total, 1) == 1) total += asks ? 0 : 4;
    printf("the total is %d\n", total);
}
"""


def texts(language: str) -> list[str]:
    return [block.text for block in blocks(PAGE) if block.language == language]


def permbench(folder: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    """A sweep in that folder."""
    return subprocess.run(
        [sys.executable, "-m", "harness", "run", "-m", *words, *QUICK],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), TAG: str(folder)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def first_command(block: Block) -> list[str]:
    return commands(block)[0]


def compiled(folder: Path) -> bool:
    """The page's file with a program in C; false where there is no compiler."""
    if shutil.which("cc") is None:
        return False
    (folder / "tally.c").write_text(IN_C)
    subprocess.run(["cc", "-o", "tally", "tally.c"], cwd=folder, check=True)
    text = texts("yaml")[0].replace("python3 tally.py", "./tally")
    (folder / "in_c.yaml").write_text(text)
    return True


@pytest.fixture(scope="module")
def call(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder and the output of the page's command, with other files besides."""
    if shutil.which("python3") is None:
        pytest.skip("no program python3 on the PATH")
    folder = tmp_path_factory.mktemp("external")
    (folder / "tally.py").write_text(texts("python")[0])
    (folder / "tally.yaml").write_text(texts("yaml")[0])
    (folder / "loop.py").write_text(LOOP)
    (folder / "stays.yaml").write_text(yaml.safe_dump(STAYS))
    wrong = texts("yaml")[0].replace("expected: 40", "expected: 41")
    (folder / "wrong.yaml").write_text(wrong)
    refuses = texts("yaml")[0].replace("python3 tally.py", "sh -c 'exit 127'")
    (folder / "refuses.yaml").write_text(refuses)
    others = ["in_c"] if compiled(folder) else []
    (shell,) = [b for b in blocks(PAGE) if b.language == "bash"][:1]
    given = first_command(shell)[1:]
    names = ",".join(f"{name}.yaml" for name in ("tally", "stays", "wrong", "refuses", *others))
    words = [f"system.file={names}" if word.startswith("system.file=") else word for word in given]
    assert words[0] == "run"
    done = permbench(folder, *words[1:], "results_dir=out")
    output = f"{shlex.join(words)}\n{done.stdout}{done.stderr}"
    assert done.returncode == 1, output  # one of the answers is wrong
    return folder, output


def record(call: tuple[Path, str], name: str) -> Record:
    found = [r for r in load_all(call[0] / "out") if name in r.config["system"]["file"]]
    assert len(found) == 1, call[1]
    return found[0]


def sent(found: Record, phase: str, role: str, peer: str) -> tuple[int, int]:
    each = found.phases[phase].roles[role].sent[peer]
    assert each.payload_bytes == each.wire_bytes
    return each.messages, each.wire_bytes


def test_the_page_has_the_files_that_the_repository_has() -> None:
    assert texts("python")[0] + "\n" == (ROOT / "examples/external/tally.py").read_text()
    assert texts("yaml")[0] + "\n" == (ROOT / "examples/external/tally.yaml").read_text()
    assert len(texts("python")[0].splitlines()) <= 20


def test_a_program_of_20_lines_is_measured_as_the_page_says(call: tuple[Path, str]) -> None:
    found = record(call, "tally")
    assert (found.status, found.error) == ("ok", None)
    online = found.phases["online"]
    assert len(online.wall_ns) == 2
    assert min(online.wall_ns) >= 100_000_000
    assert (online.hops, online.no_hops) == (
        None,
        "messages of external programs do not say which they follow",
    )
    assert sent(found, "online", "P0", "P1") == sent(found, "online", "P1", "P0") == (10, 80)
    assert found.phases["prepare"].roles["P0"].sent["P1"].wire_bytes == 0
    assert online.roles["P0"].peak_rss_bytes > 1_000_000
    assert found.network.measured["P0-P1"]["rtt_s"] >= 10e-3
    assert found.correctness is not None
    assert (found.correctness.metric, found.correctness.value) == ("largest difference", 0)
    assert Record.from_json(found.to_json()) == found
    assert "P2" not in online.roles


def test_a_program_in_c_needs_nothing_else_than_the_page_says(call: tuple[Path, str]) -> None:
    if shutil.which("cc") is None:
        pytest.skip("no program cc on the PATH")
    assert len(IN_C.strip().splitlines()) <= 20
    found = record(call, "in_c")
    assert (found.status, found.error) == ("ok", None)
    assert min(found.phases["online"].wall_ns) >= 100_000_000  # ten round trips of 10 ms
    assert sent(found, "online", "P0", "P1") == sent(found, "online", "P1", "P0") == (10, 10)
    assert found.correctness is not None
    assert found.correctness.value == 0


def test_programs_that_stay_are_measured_from_go_to_go(call: tuple[Path, str]) -> None:
    found = record(call, "stays")
    assert (found.status, found.error) == ("ok", None)
    assert [len(found.phases[name].wall_ns) for name in ("prepare", "offline", "online")] == [
        1,
        2,
        2,
    ]
    assert found.markers == {"offline": found.phases["offline"].wall_ns}
    for role, peer in (("P0", "P1"), ("P1", "P0")):
        sizes = [sent(found, name, role, peer)[1] for name in ("offline", "online")]
        assert sum(sizes) == 1500
        assert sizes[0] >= 1000
    assert found.correctness is not None
    assert found.correctness.value == 0.25


def test_a_wrong_answer_is_no_result(call: tuple[Path, str]) -> None:
    found = record(call, "wrong")
    assert (found.status, found.error) == ("incorrect", "largest difference 1, allowed 0: 40")


def test_exit_code_127_says_that_a_program_cannot(call: tuple[Path, str]) -> None:
    found = record(call, "refuses")
    assert found.status == "unsupported"
    assert found.error is not None
    assert "cannot do this (exit code 127)" in found.error


def test_nothing_is_left_of_a_call(call: tuple[Path, str]) -> None:
    mark = f"{TAG}={call[0]}".encode()
    left = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            environment = Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:
            continue
        left += [pid] if mark in environment else []
    assert not left


def test_a_program_takes_turns_with_a_system_of_ours(call: tuple[Path, str]) -> None:
    """Evaluation by evaluation; its answer is held to our plaintext."""
    folder = call[0]
    (folder / "argmax.py").write_text(ARGMAX)
    (folder / "argmax.yaml").write_text(yaml.safe_dump(ARGMAX_FILE))
    words = ["experiment=argmax", "experiment.n=50", "system=plaintext,external"]
    done = permbench(folder, *words, "external.file=argmax.yaml", "results_dir=turns")
    assert done.returncode == 0, done.stdout + done.stderr
    found = {r.config["system"]["name"]: r for r in load_all(folder / "turns")}
    starts = {name: r.phases["online"].started_ns for name, r in found.items()}
    first, second = starts["external"], starts["plaintext"]
    assert first[0] < second[0] < second[1] < first[1]
    assert found["external"].correctness == Correctness("wrong answers", 0, 0, True)
