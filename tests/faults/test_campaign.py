"""Faults at moments and of kinds that chance chooses; a few of each here, many with --campaign N.

    python -m pytest -m campaign --campaign 1000 -s      half an hour; prints figures by kind

In each case nothing is left, what is said is clear, the exit code is right, and what was measured is there.
"""

import os
import random
import signal
import socket
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest

from harness.cli.main import main
from harness.config.compose import compose_run
from harness.measure import unsaved
from harness.measure.session import Session
from harness.parties import group
from harness.progress import SilentProgress
from harness.records.store import load_all
from harness.transport import SocketParty
from harness.transport.stream import Connection
from netem.tc_probe import namespaces_missing
from protocols.errors import PeerError
from protocols.party import ROLES
from tests.faults.program import ENDLESS, Program, hidden, left_of
from tests.faults.puppets import Stage, measure
from tests.faults.test_signals import INTERRUPTED, namespaces_of
from tests.faults.test_strangers import crowd
from tests.faults.test_wrong_parties import fuzz_control
from tests.harness.conftest import build_record
from tests.tcp import tcp_pair

pytestmark = [pytest.mark.slow, pytest.mark.campaign]


def ctrl_c(rng: random.Random, folder: Path, runner: str) -> None:
    """One to three, 5 to 500 ms apart, at a terminal or not, at any time of a run."""
    words = ("run", *ENDLESS, f"runner={runner}", "results_dir=results")
    program = Program(*words, folder=folder, terminal=rng.random() < 0.5)
    assert program.wait_for("starting parties")
    time.sleep(rng.choice((rng.uniform(0, 0.5), rng.uniform(0, 8))))
    for _ in range(rng.randint(1, 3)):
        program.press_ctrl_c()
        time.sleep(rng.uniform(0.005, 0.5))
        if program.process.poll() is not None:
            break
    assert_interrupted(program, folder)


def assert_interrupted(program: Program, folder: Path, code: int = INTERRUPTED) -> None:
    ended = program.end()
    assert ended.code == code, ended.err
    assert ended.left == []
    assert namespaces_of(program.process.pid) == []
    assert "Traceback" not in ended.err
    records = load_all(folder / "results")
    assert [(r.status, r.error) for r in records] == [("failed", "interrupted")]
    assert hidden(folder) == []


def ctrl_c_local(rng: random.Random, folder: Path) -> None:
    ctrl_c(rng, folder, "local")


def ctrl_c_netns(rng: random.Random, folder: Path) -> None:
    if not namespaces_missing():
        ctrl_c(rng, folder, "netns")


def hangup(rng: random.Random, folder: Path) -> None:
    """A terminal closes, or the signal comes without one."""
    terminal = rng.random() < 0.5
    runner = "local" if namespaces_missing() else rng.choice(("local", "netns"))
    words = ("run", *ENDLESS, f"runner={runner}", "results_dir=results")
    program = Program(*words, folder=folder, terminal=terminal)
    assert program.wait_for("starting parties")
    time.sleep(rng.uniform(0, 8))
    if terminal:
        program.close_terminal()
    else:
        program.process.send_signal(signal.SIGHUP)
    assert_interrupted(program, folder)


def early_signal(rng: random.Random, folder: Path) -> None:
    """Before there is anything to dismiss: from the interpreter's first instruction on."""
    program = Program("run", *ENDLESS, "results_dir=results", folder=folder)
    time.sleep(rng.uniform(0, 4))
    number = rng.choice((signal.SIGINT, signal.SIGTERM, signal.SIGHUP))
    program.process.send_signal(number)
    ended = program.end()
    # Python ends by SIGINT where the interrupt left text that it executed, as a dataclass has.
    assert ended.code in (INTERRUPTED, -number, -signal.SIGINT), ended.err
    assert ended.left == []
    assert hidden(folder) == []


def kill_party(rng: random.Random, folder: Path) -> None:
    """A failed record, which names it."""
    role = rng.choice(ROLES)
    config = compose_run([*ENDLESS])
    before = psutil.Process().children(recursive=True)  # of other tests: multiprocessing has one
    with Session() as session:

        def kill() -> None:
            while len(session.pids()) < 3:
                time.sleep(0.01)
            time.sleep(rng.uniform(0, 8))
            os.kill(session.pids()[role] or 0, signal.SIGKILL)

        thread = threading.Thread(target=kill)
        thread.start()
        record = session.run(config, SilentProgress())
        thread.join()
    assert (record.status, record.error) == ("failed", f"{role} was killed by SIGKILL")
    assert psutil.Process().children(recursive=True) == before


def kill_harness(rng: random.Random, folder: Path) -> None:
    """At any time from its start on; its parties are gone 3 s later."""
    program = Program("run", *ENDLESS, "results_dir=results", folder=folder)
    time.sleep(rng.uniform(0, 12))
    program.process.kill()
    program.process.wait()
    assert left_of(program.mark) == []
    program.end()
    assert load_all(folder / "results") == []


def broken_streams(rng: random.Random, folder: Path) -> None:
    """The code is that of the run, or says that the table is not there."""
    reader, broken = os.pipe()
    os.close(reader)
    full = os.open("/dev/full", os.O_WRONLY)
    choices = {"stdout": rng.choice((broken, full)), "stderr": rng.choice((broken, full))}
    streams = {name: choices[name] for name in rng.choice((["stdout"], ["stderr"], [*choices]))}
    words = ("run", *ENDLESS, "runner=remote", "results_dir=results")
    ended = Program(*words, folder=folder, streams=streams).end()
    os.close(broken)
    os.close(full)
    assert (ended.code, ended.left) == (1, [])
    assert "Traceback" not in ended.err
    assert len(load_all(folder / "results")) == 1


def full_disk(rng: random.Random, folder: Path) -> None:
    """Records on a disk that is full at times: a file stands where their folder should be."""
    results, made = folder / "results", []
    results.mkdir()
    in_the_way = results / "argmax"
    for n in range(rng.randint(2, 6)):
        if rng.random() < 0.5 and not in_the_way.exists():
            in_the_way.touch()
        elif in_the_way.is_file():
            in_the_way.unlink()
        made.append(build_record([f"experiment.n={n + 2}"]))
        unsaved.keep_record(results, made[-1])
    if in_the_way.is_file():
        in_the_way.unlink()
    unsaved.finish()
    assert not unsaved.any_left()
    assert {r.id for r in load_all(results)} == {r.id for r in made}


def odd_folder(rng: random.Random, folder: Path) -> None:
    """A strange name is a name; what cannot be a folder is bad input."""
    names = [" a b ", "new\nline", "ü·×", "=,'\"", "-x", "a" * 200, "\x1b[31m", "[1,2]", "{x}", "#"]
    name = "".join(rng.sample(names, rng.randint(1, 2)))[:250]
    where = folder / name
    bad = rng.choice(("", "file", "link"))
    if bad == "file":
        where.write_text("")
    if bad == "link":
        where.symlink_to(where.name)
    quoted = str(where).replace("\\", "\\\\").replace("'", "\\'")
    code = main(["run", *ENDLESS, "runner=remote", f"results_dir='{quoted}'"])
    assert code == (2 if bad else 1)
    if not bad:
        assert len(load_all(where)) == 1
        assert hidden(where) == []


def silent_strangers(rng: random.Random, folder: Path) -> None:
    says = bytes(rng.randbytes(rng.randint(1, 60))) if rng.random() < 0.5 else b""
    number = rng.randint(1, 100)
    with ExitStack() as stack:
        record = measure(Stage(before=lambda address: crowd(stack, address, number, says)))
    assert record.status == "ok", record.error


def control_messages(rng: random.Random, folder: Path) -> None:
    fuzz_control(rng.randrange(1 << 60))


def data_messages(rng: random.Random, folder: Path) -> None:
    """A frame with some bytes changed, cut or added is a message or a PeerError; no thread is left."""
    import torch  # noqa: PLC0415

    from harness.transport.frame import encode  # noqa: PLC0415
    from protocols.events import Stamp  # noqa: PLC0415

    tensors = [torch.arange(rng.randint(0, 50)), torch.ones(rng.randint(1, 3), 2)]
    data = bytearray(b"".join(encode(Stamp("online", 1, 1, 0), tensors).views))
    for _ in range(rng.randint(1, 4)):
        data[rng.randrange(len(data))] = rng.randrange(256)
    data = data[: rng.choice((len(data), rng.randrange(len(data))))]
    data += rng.randbytes(rng.choice((0, 0, 30)))
    near, far = tcp_pair()
    party = SocketParty("P1", {"P0": Connection(near)}, timeout_s=0.2, max_message_bytes=1 << 20)
    far.sendall(data)
    if rng.random() < 0.7:
        far.shutdown(socket.SHUT_WR)
    with suppress(PeerError), party.phase("online"):
        assert all(isinstance(tensor, torch.Tensor) for tensor in party.recv("P0"))
    party.close(0.0)
    far.close()


def damaged_record(rng: random.Random, folder: Path) -> None:
    """A record with some bytes changed is shown, or warned of in a line."""
    unsaved.keep_record(folder, build_record(["experiment.n=5"]))
    (path,) = folder.glob("argmax/*.json")
    data = bytearray(path.read_bytes())
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(data))
        data[at : at + rng.choice((0, 1, 20))] = rng.choice((b"", b"null", b"-1", b'"x"', b"[]"))
    path.write_bytes(data)
    assert main(["show", f"results_dir={folder}"]) == 0


class Kind(NamedTuple):
    """case: raises AssertionError. here: how many without --campaign; weight: with it, of a hundred."""

    case: Callable[[random.Random, Path], None]
    here: int
    weight: int


KINDS = [
    Kind(ctrl_c_local, 1, 4),
    Kind(ctrl_c_netns, 0, 4),
    Kind(hangup, 0, 1),
    Kind(early_signal, 1, 2),
    Kind(kill_party, 1, 2),
    Kind(kill_harness, 1, 2),
    Kind(broken_streams, 1, 2),
    Kind(full_disk, 3, 5),
    Kind(odd_folder, 4, 6),
    Kind(silent_strangers, 4, 7),
    Kind(control_messages, 4, 25),
    Kind(data_messages, 20, 30),
    Kind(damaged_record, 4, 10),
]


@pytest.mark.parametrize("kind", KINDS, ids=[kind.case.__name__ for kind in KINDS])
def test_campaign(
    kind: Kind,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    total = request.config.getoption("--campaign")
    count = round(total * kind.weight / 100) if total else kind.here
    monkeypatch.setattr(group, "SETTLE_S", 0.3)
    wrong = []
    for number in range(count):
        folder = tmp_path / str(number)
        folder.mkdir()
        try:
            kind.case(random.Random(f"{kind.case.__name__} {number}"), folder)
        except AssertionError as error:
            wrong.append(f"case {number}: {error}")
            print(f"{kind.case.__name__} {wrong[-1]}", flush=True)
    print(f"{kind.case.__name__}: {count - len(wrong)} of {count} as they should be", flush=True)
    assert not wrong, "\n".join(wrong)
