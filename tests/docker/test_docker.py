"""Real parties in containers: what they compute and cost, what they may do, and what stays behind.

Skipped where there is no daemon or no image of these sources; with PERMBENCH_CI=docker that fails.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from harness.config.compose import compose_run
from harness.errors import DockerError
from harness.machine import docker_leftovers as clean
from harness.machine.docker_daemon import RUN_LABEL, connect, default_tag, find_image
from harness.measure.session import Session
from harness.progress import PlainProgress
from harness.records.record import Record
from harness.records.store import load_all
from harness.version import REPO
from netem.process_labels import run_label

pytestmark = pytest.mark.slow

ARGMAX = ("experiment=argmax", "experiment.n=10000", "network=permllm-wan")
USER = 12345  # an ordinary one
AT_ONCE = ("calibration.strict=false", "calibration.patience_s=0")  # over any link
QUICK = ("repeat=2", "warmup=1", *AT_ONCE)


@pytest.fixture(scope="module")
def client() -> Any:
    """A client of a daemon that has the image."""
    try:
        client = connect()
        find_image(client, default_tag())
    except DockerError as error:
        if os.environ.get("PERMBENCH_CI") == "docker":
            raise
        pytest.skip(f"runner=docker cannot be used here: {error}")
    return client


class Progress(PlainProgress):
    """Calls back, once, when a stage of a name begins."""

    def __init__(self, name: str = "", then: Callable[[], None] = lambda: None) -> None:
        super().__init__()
        self._name, self._then = name, then

    def stage(self, text: str) -> None:
        if self._name and text.startswith(self._name):
            self._name = ""
            self._then()


def measure(session: Session, *arguments: str, progress: Progress | None = None) -> Record:
    return session.run(compose_run([*ARGMAX, *QUICK, *arguments]), progress or Progress())


def outcome(record: Record) -> dict[str, object]:
    """What must not depend on where the parties live."""
    phases = {
        name: (phase.hops, {role: r.sent for role, r in phase.roles.items()})
        for name, phase in record.phases.items()
    }
    return {"status": record.status, "answer": record.correctness, "phases": phases}


def ours(client: Any, owner: str) -> list[str]:
    """All containers and networks of one process."""
    labelled = {"label": RUN_LABEL}
    containers = client.containers.list(all=True, filters=labelled)
    networks = client.networks.list(filters=labelled)
    labels = {c.name: c.labels for c in containers} | {n.name: n.attrs["Labels"] for n in networks}
    return [name for name, of in labels.items() if of[RUN_LABEL].startswith(owner)]


def links() -> set[str]:
    """This machine's network interfaces."""
    return set(os.listdir("/sys/class/net"))


def test_containers_give_what_processes_give_and_leave_nothing(client: Any) -> None:
    systems = ("system=permllm", "system=puma")
    before = links()
    with Session() as session:
        safe = "transport.tls=true"  # as it is by default in containers
        local = [outcome(measure(session, system, safe)) for system in systems]
        docker = [outcome(measure(session, system, "runner=docker")) for system in systems]
        assert len(ours(client, run_label())) == 4
    assert [found["status"] for found in local] == ["ok", "ok"]
    assert docker == local
    assert ours(client, run_label()) == []
    assert links() <= before


def test_a_container_may_do_nothing_but_compute_and_talk_to_its_peers(client: Any) -> None:
    """Limits hold; no capability, no way out, nothing to write to, no secret to be seen."""
    found: dict[str, Any] = {}

    def look() -> None:
        name = next(n for n in ours(client, run_label()) if n.endswith("-P1"))
        container = client.containers.get(name)
        found["inspected"] = container.attrs
        found["status"] = Path(f"/proc/{session.pids()['P1']}/status").read_text()
        found["cores"] = psutil.Process(session.pids()["P1"]).cpu_affinity()
        arguments = "touch /x || touch /permbench/x || ip link set eth0 mtu 1000"
        found["tried"] = container.exec_run(["sh", "-c", arguments])
        (network,) = container.attrs["NetworkSettings"]["Networks"]
        found["internal"] = client.networks.get(network).attrs["Internal"]

    core = max(os.sched_getaffinity(0))
    limits = ("runner=docker", "runner.memory_mb=2000", f"runner.cpus.P1={core}")
    with Session() as session:
        record = measure(session, *limits, progress=Progress("measuring", look))
    assert record.status == "ok"
    assert record.environment["image"] == find_image(client, default_tag()).id
    host = found["inspected"]["HostConfig"]
    assert (host["Memory"], found["cores"]) == (2_000_000_000, [core])
    assert re.search(r"CapEff:\t0+\n", found["status"])
    assert "NoNewPrivs:\t1" in found["status"]
    assert found["internal"]
    assert found["tried"].exit_code != 0
    assert not re.search(r"[0-9a-f]{64}", json.dumps(found["inspected"]["Config"]["Env"]))
    assert not re.search(r"[0-9a-f]{64}", " ".join(found["inspected"]["Args"]))


def test_a_party_that_dies_or_wants_too_much_is_named(client: Any) -> None:
    """SIGKILL to the process; and a model that does not fit into what its container may use."""
    with Session() as session:

        def kill() -> None:
            os.kill(session.pids()["P0"] or 0, signal.SIGKILL)

        record = measure(session, "runner=docker", progress=Progress("measuring", kill))
        assert (record.status, record.error) == ("failed", "P0 was killed by SIGKILL")
        big = ("experiment=layer", "model=chatglm-6b", "runner=docker", "runner.memory_mb=600")
        record = session.run(compose_run([*big, *QUICK]), Progress())
        assert record.status == "failed"
        assert any("runner.memory_mb" in line for log in record.logs.values() for line in log)
    assert ours(client, run_label()) == []


def test_what_a_killed_harness_leaves_can_be_removed_and_nothing_else(
    client: Any, tmp_path: Path
) -> None:
    """Meanwhile another run goes on; both have networks of their own."""
    arguments = [*ARGMAX, *AT_ONCE, "runner=docker", f"results_dir={tmp_path}"]
    program = subprocess.Popen(
        [sys.executable, "-m", "harness", "run", *arguments, "repeat=100000", "shaper=none"],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert program.stderr is not None
    for line in program.stderr:
        if "measuring" in line:
            break
    left = [name for name in ours(client, "permbench-") if f"-{program.pid}-" in name]
    assert len(left) == 4
    with Session() as session:
        assert measure(session, "runner=docker").status == "ok"
        mine = ours(client, run_label())
        program.kill()
        program.communicate(timeout=10)
        names = {line.split()[-1] for line in clean.stale()}
        assert names >= set(left)
        assert not names & set(mine)
        parties = [client.containers.get(name) for name in left if name[-3:-1] == "-P"]
        assert len([party.wait(timeout=30) for party in parties]) == 3  # they end by themselves
        assert {line.split()[-1] for line in clean.remove_stale()} >= set(left)
        assert ours(client, run_label()) == mine
        assert measure(session, "runner=docker", "system=puma").status == "ok"
    assert [name for name in ours(client, "permbench-") if name in {*left, *mine}] == []


def test_the_compose_file_ends_with_the_same_record(client: Any, tmp_path: Path) -> None:
    """Three services that join, one that runs; its exit code ends them all. They are an ordinary user, who
    alone can read the secret; at the end nothing is left."""
    project = ("-p", f"permbench-test-{os.getpid()}")
    shutil.copy(REPO / "docker-compose.yml", tmp_path)
    secret = tmp_path / "permbench.secret"
    secret.touch(0o600)
    secret.write_text(os.urandom(32).hex())
    (tmp_path / "results").mkdir()
    if os.getuid() == 0:  # a checkout of somebody else's
        for path in (tmp_path, secret, tmp_path / "results"):
            os.chown(path, USER, USER)
    who = tmp_path.stat()
    ids = {"PERMBENCH_UID": str(who.st_uid), "PERMBENCH_GID": str(who.st_gid)}
    environment = {**os.environ, **ids, "PERMBENCH_RUN": " ".join([*ARGMAX, *QUICK])}
    up = ("up", "--abort-on-container-exit", "--exit-code-from", "harness")
    try:
        done = subprocess.run(
            [*compose(), *project, *up],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=150,
            check=False,
        )
    finally:
        down = [*compose(), *project, "down", "-v"]
        subprocess.run(down, cwd=tmp_path, env=environment, check=True)
    assert done.returncode == 0, done.stdout
    labelled = {"label": f"com.docker.compose.project={project[1]}"}
    assert client.containers.list(all=True, filters=labelled) == []
    assert client.networks.list(filters=labelled) == []
    assert client.volumes.list(filters=labelled) == []
    made = [path for path in (tmp_path / "results").rglob("*") if path.stat().st_uid != who.st_uid]
    assert made == []
    (record,) = load_all(tmp_path / "results/runs")
    with Session() as session:
        assert outcome(record) == outcome(measure(session, "transport.tls=true"))


def compose() -> list[str]:
    """The command, with which Docker has shipped in two ways."""
    arguments = ["docker", "compose", "version"]
    if subprocess.run(arguments, capture_output=True, check=False).returncode == 0:
        return arguments[:2]
    if shutil.which("docker-compose") is None:
        pytest.skip("neither `docker compose` nor docker-compose is installed")
    return ["docker-compose"]
