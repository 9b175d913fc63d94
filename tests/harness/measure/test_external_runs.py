"""Evaluations of external programs over proxies, without the parties that measure the links."""

import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import yaml

from baselines.puma.options import PumaOptions
from harness.config.compose import compose_run
from harness.config.program_files import check_programs, require_programs
from harness.errors import ConfigError, PartyFailure
from harness.measure import external_runs
from harness.measure.external_runs import ActivePrograms
from harness.measure.program_links import Counts, ProxiedLinks, links_of
from harness.measure.run import Outcome, Run
from harness.parties.group import PartyGroup
from harness.parties.programs import Programs
from harness.progress import SilentProgress
from harness.records.record import Sent
from harness.registry import system_class
from harness.runners.guarded import Usage
from harness.runners.proxied import Proxied
from protocols.errors import Unsupported
from protocols.party import ROLES, Role
from protocols.workload import Nonlinear

CONNECT = """
import os, socket, sys
role, host, port, folder = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
peer = socket.create_connection((host, port)) if role == "P1" else None
peer = peer or socket.create_server((host, port)).accept()[0]
def turn(size):
    if role == "P1":
        peer.sendall(bytes(size))
        peer.recv(1, socket.MSG_WAITALL)
    else:
        peer.recv(size, socket.MSG_WAITALL)
        peer.sendall(b"x")
def say(*words):
    print(*words, flush=True)
"""
PLAIN = "say('ready'); sys.stdin.readline(); turn(1000); say('answer 7')"
SETUP = "turn(500); say('ready'); sys.stdin.readline(); turn(1000); say('answer 7')"
STAYS = """
while say("ready") or sys.stdin.readline() == "go\\n":
    turn(1000)
    say("half")
    turn(30)
    say("answer 7")
"""
GROWS = """
say("ready")
sys.stdin.readline()
path = f"{folder}/{role}"
open(path, "a").write("x")
turn(100 * os.path.getsize(path))
say("answer 7")
"""
WORKS_ON = """
import os, time
say("ready")
sys.stdin.readline()
turn(1000)
begin, taken = time.process_time(), os.path.getsize("taken")
say("finished")
for _ in range(1000 if role == "P1" else 0):
    if os.path.getsize("taken") > taken:
        break
    time.sleep(0.01)
turn(50)
while time.process_time() < begin + 0.5:
    pass
say("answer 7")
"""
Measure = Callable[..., Outcome]


@pytest.fixture
def group() -> Iterator[PartyGroup]:
    """Proxies, and no parties."""
    with closing(Proxied()) as runner:
        runner.open()
        logs = {role: deque[str](maxlen=40) for role in ROLES}
        yield cast(PartyGroup, SimpleNamespace(runner=runner, logs=logs))


@pytest.fixture
def measure(group: PartyGroup, tmp_path: Path) -> Measure:
    """Two warm-ups and three evaluations of a program."""

    def act(program: str, overrides: tuple[str, ...] = (), **more: Any) -> Outcome:
        run = Run(compose_run([*words(tmp_path, program, **more), *overrides]))
        links = links_of(group, run.shaping)
        links.begin(on=False)
        with closing(ActivePrograms(run, group, SilentProgress())) as active:
            for number in range(run.config.warmup + run.config.repeat):
                active.evaluate(f"evaluation {number}")
            return active.finish()

    return act


def words(folder: Path, program: str, **more: Any) -> list[str]:
    (folder / "program.py").write_text(CONNECT + program)
    start = f"{sys.executable} program.py"
    commands = {"P0": "P0 {host} {port} {folder}", "P1": "P1 {host:P0} {port:P0} {folder}"}
    data = {
        "ready": "ready",
        "go": True,
        "roles": {role: {"command": f"{start} {text}"} for role, text in commands.items()},
        "answer": {"role": "P1", "pattern": "answer (.*)", "expected": 7},
    }
    (folder / "some.yaml").write_text(yaml.safe_dump(data | more))
    file = f"system.file={folder / 'some.yaml'}"
    return ["experiment=program", "system=external", file, "repeat=3", "warmup=2"]


def sent(outcome: Outcome, phase: str) -> tuple[Sent, Sent]:
    roles = outcome.phases[phase].roles
    return roles["P1"].sent["P0"], roles["P0"].sent["P1"]


def test_times_and_bytes_from_go_to_the_answer(measure: Measure) -> None:
    outcome = measure(PLAIN)
    assert (outcome.status, outcome.error, outcome.logs) == ("ok", None, {})
    online = outcome.phases["online"]
    assert (len(online.wall_ns), len(online.warmup_wall_ns)) == (3, 2)
    assert min(online.wall_ns) >= 10_000_000
    assert sent(outcome, "online") == (Sent(1, 1000, 1000), Sent(1, 1, 1))
    assert outcome.correctness is not None
    assert outcome.correctness.ok


@pytest.mark.parametrize(
    ("overrides", "go", "least_ns"),
    [((), True, 0), (("shape=all",), True, 30_000_000), ((), False, 30_000_000)],
)
def test_what_comes_before_go_is_slow_only_if_it_should(
    overrides: tuple[str, ...], go: bool, least_ns: int, measure: Measure
) -> None:
    """A connection takes 15 ms until its first bytes are there, and the answer 5."""
    program = SETUP if go else SETUP.replace("sys.stdin.readline();", "")
    outcome = measure(program, ("network.rtt_ms=20", "repeat=1", "warmup=0", *overrides), go=go)
    prepare = outcome.phases["prepare"]
    assert prepare.wall_ns[0] >= least_ns
    total = [a.wire_bytes for a in sent(outcome, "prepare")]
    total = [a + b.wire_bytes for a, b in zip(total, sent(outcome, "online"), strict=True)]
    assert total == [1500, 2]
    if go:
        assert sent(outcome, "prepare")[0].wire_bytes == 500


def test_programs_that_stay_prepare_once_and_have_an_offline_phase(measure: Measure) -> None:
    outcome = measure(STAYS, stays=True, markers={"offline": "half"})
    assert {name: len(phase.wall_ns) for name, phase in outcome.phases.items()} == {
        "prepare": 1,
        "offline": 3,
        "online": 3,
    }
    assert outcome.markers == {"offline": outcome.phases["offline"].wall_ns}
    both = [sent(outcome, name)[0].wire_bytes for name in ("offline", "online")]
    assert sum(both) == 1030
    assert both[0] >= 1000
    assert min(outcome.phases["offline"].wall_ns) >= 10_000_000


def test_the_counts_are_those_of_the_evaluation_in_the_middle(measure: Measure) -> None:
    outcome = measure(GROWS)
    assert sent(outcome, "online")[0].wire_bytes == 400
    assert outcome.logs == {"counts": ["301 to 501 bytes were sent, by the evaluation"]}


class LinksOfNow(ProxiedLinks):
    """They tell what they have counted until now, as interfaces do."""

    def counts(self, until_ns: int | None = None) -> Counts:
        return super().counts()


def test_what_a_program_does_after_done_does_not_count(
    measure: Measure, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def usages(programs: Programs) -> dict[Role, Usage]:
        found = taken(programs)
        with (tmp_path / "taken").open("a") as file:
            file.write("x")
        return found

    taken = Programs.usages
    monkeypatch.setattr(Programs, "usages", usages)
    monkeypatch.setattr(
        external_runs, "links_of", lambda group, shaping: LinksOfNow(group.runner, shaping)
    )
    online = measure(WORKS_ON, ("repeat=1", "warmup=0"), done="finished").phases["online"]
    assert online.roles["P1"].sent["P0"].wire_bytes == 1000
    assert max(role.cpu_ns[0] for role in online.roles.values()) < 0.3e9


def test_a_wrong_answer_and_a_marker_that_does_not_come(measure: Measure) -> None:
    answer = {"role": "P1", "pattern": "answer (.*)", "expected": 8, "tolerance": 0.5}
    outcome = measure(PLAIN, ("repeat=1", "warmup=0"), answer=answer)
    assert (outcome.status, outcome.error) == ("incorrect", "largest difference 1, allowed 0.5: 7")
    with pytest.raises(PartyFailure, match="P1 answered without marker half"):
        measure(PLAIN, ("repeat=1", "warmup=0"), markers={"half": "half"})


def test_answers_are_held_to_functions_of_ours(measure: Measure) -> None:
    """Those of Puma, whose GeLU is no exact one; the record has the distance from that one too."""
    work = Nonlinear("gelu", (50,))
    right = system_class("puma").plaintext(work, 0, PumaOptions())
    text = " ".join(f"{value:.9g}" for value in right.tolist())
    answer = {"role": "P1", "pattern": "answer (.*)", "expected": "plaintext", "functions": "puma"}
    outcome = measure(
        PLAIN.replace("answer 7", f"answer {text}"),
        ("experiment=nonlinear", "experiment.op=gelu", "experiment.shape=[50]", "seed=0"),
        experiments=["nonlinear"],
        answer={**answer, "tolerance": 1e-6},
    )
    found = outcome.correctness
    assert found is not None
    assert (outcome.status, found.metric) == ("ok", "relative rms")
    assert found.exact is not None
    assert found.value < 1e-8
    assert found.exact > 1e-4


def test_experiments_that_a_file_does_not_name(tmp_path: Path) -> None:
    given = words(tmp_path, PLAIN)
    with pytest.raises(Unsupported, match="computes experiment=program, not argmax"):
        check_programs(compose_run([*given, "experiment=argmax"]))


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["system.file=null"], "system.file: got null, must be a YAML file"),
        (["system.file=/absent.yaml"], "system.file: /absent.yaml: no such file or directory"),
        (["runner=netns"], "runner: system=external: got runner=netns with shaper=emulated"),
        (["trace=true"], "trace: got true, must be false with system=external"),
        (["transport.tls=true"], "transport.tls: got true, must be false or null"),
    ],
)
def test_what_external_runs_cannot_have(overrides: list[str], said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        compose_run([*words(tmp_path, PLAIN), *overrides])
    assert str(caught.value).startswith(said)


def test_a_program_that_is_not_installed(tmp_path: Path) -> None:
    more = {"install": "make it first"}
    config = compose_run(words(tmp_path, PLAIN, **more))
    require_programs(config)
    text = (tmp_path / "some.yaml").read_text()
    for command, said in (
        ("no-such-program", "roles.P0.command: no program no-such-program on the PATH"),
        ("./absent", f"roles.P0.command: no program {tmp_path}/absent"),
        ("./some.yaml", f"roles.P0.command: {tmp_path}/some.yaml cannot be executed"),
    ):
        (tmp_path / "some.yaml").write_text(
            text.replace(f"{sys.executable} program.py P0", command)
        )
        with pytest.raises(ConfigError) as caught:
            require_programs(config)
        assert said in str(caught.value)
        assert str(caught.value).endswith("; make it first")
