"""What runners need no daemon and no other host for."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.cli.main import main
from harness.config.compose import compose_run
from harness.config.config_hash import config_hash
from harness.config.runners import check_cores
from harness.errors import ConfigError, DockerError, RunnerError
from harness.machine.capabilities import require
from harness.machine.docker_daemon import connect, default_tag, sources_digest
from harness.parties.group import PartyGroup
from harness.records.record import Record
from harness.records.store import load_all
from harness.runners.docker import Docker, signed, split_lines
from harness.runners.docker_image.compose_file import FILE, compose_files
from harness.runners.docker_image.package_list import requirements
from harness.runners.make_runner import make_runner
from harness.runners.remote import read_secret, read_secrets
from harness.version import REPO
from netem.tcp import SYSCTLS
from protocols.party import ALL_ROLES, ROLES


def test_lines_come_whole_from_pieces_of_any_size() -> None:
    text = "one\ntwo \n\nthree: τρία\nno end"
    whole = ["one", "two", "", "three: τρία", "no end"]
    data = text.encode()
    for size in range(1, len(data) + 1):
        pieces = [data[i : i + size] for i in range(0, len(data), size)]
        assert list(split_lines(pieces)) == whole


def test_what_the_init_process_adds_to_a_signal_is_taken_off() -> None:
    codes = {0: 0, 1: 1, 128 + signal.SIGKILL: -signal.SIGKILL}
    assert {code: signed(code) for code in codes} == codes


def test_no_daemon_is_one_line_with_the_command_that_mends_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none")
    with pytest.raises(
        DockerError,
        match=r"^(no Docker daemon runs here|Docker is not installed); sudo (systemctl|service|apt-get) ",
    ):
        connect()


def test_an_image_is_known_by_every_file_it_was_built_from(tmp_path: Path) -> None:
    digests = []
    for name, text in (("harness/a.py", "1"), ("harness/a.py", "2"), ("conf/b.yaml", "2")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
        digests.append(sources_digest(tmp_path))
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests/c.py").write_text("3")
    assert len(set(digests)) == 3
    assert sources_digest(tmp_path) == digests[-1]


def test_the_image_has_what_parties_import() -> None:
    names = {re.split("[=<>]", line)[0] for line in requirements(REPO / "pyproject.toml")}
    assert {"torch", "numba", "tenseal", "safetensors"} <= names


def test_the_compose_file_agrees_with_the_docker_runner() -> None:
    services = yaml.safe_load((REPO / "docker-compose.yml").read_text())["services"]
    assert services.keys() == {"p0", "p1", "p2", "harness"}
    for service in services.values():
        assert default_tag() in service["image"]
        assert service["sysctls"] == {f"net.ipv4.{key}": value for key, value in SYSCTLS.items()}
        assert (service["read_only"], service["cap_drop"], service["init"]) == (True, ["ALL"], True)
        assert "cap_add" not in service


def check_compose_files(made: Any, shaping: Any, roles: int) -> None:
    """All in one network without a way out, with one secret; no port is published."""
    parties = {f"p{place}" for place in range(roles)}
    assert made["services"].keys() == parties | {"harness"}
    assert made["networks"] == {"wan": {"internal": True}}
    assert made["secrets"].keys() == {"permbench"}
    assert shaping["services"] == {party: {"cap_add": ["NET_ADMIN"]} for party in parties}
    for name, service in made["services"].items():
        assert service["networks"] == ["wan"]
        assert [secret["source"] for secret in service["secrets"]] == ["permbench"]
        assert "ports" not in service
        (constraint,) = service["deploy"]["placement"]["constraints"]
        assert constraint == f"node.labels.permbench.{name} == yes"
    for party in parties:
        secret = ["--secret-file", "/run/secrets/permbench"]
        command = ["join", party.upper(), "harness:7700", *secret]
        assert made["services"][party]["command"] == command
    run = made["services"]["harness"]["command"]
    assert "runner.listen=0.0.0.0:7700 runner.secret_file=/run/secrets/permbench" in run
    assert f"PERMBENCH_RUN:?say what to run, with a system of {roles} roles" in run


def test_one_command_writes_the_compose_files_of_any_number_of_roles(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The repository's own are those of three; those of others have a service and a place for each role."""
    names = ("docker-compose.yml", "docker-compose.tc.yml")
    for roles in (3, 5, 10):
        (tmp_path / str(roles)).mkdir()
        assert main(["docker", "compose", str(roles), "--folder", str(tmp_path / str(roles))]) == 0
    for name in names:
        assert (tmp_path / "3" / name).read_text() == (REPO / name).read_text()
    for parties in (5, 10):
        texts = [(tmp_path / str(parties) / name).read_text() for name in names]
        made, shaping = map(yaml.safe_load, texts)
        check_compose_files(made, shaping, parties)
        (run,) = re.findall(r'PERMBENCH_RUN="(.*)" docker compose up', texts[0])
        assert len(compose_run(run.split()).system.roles()) == parties
    capsys.readouterr()
    assert main(["docker", "compose", "3", "--folder", str(tmp_path / "3")]) == 2
    assert "docker-compose.yml: is there already; --force replaces it" in capsys.readouterr().err
    assert main(["docker", "compose", "17", "--folder", str(tmp_path / "3")]) == 2
    assert "ROLES: got 17, must be a whole number from 2 to 16" in capsys.readouterr().err


def swarm_reads(text: str, variables: Mapping[str, str]) -> str:
    """`text` with its variables, as `docker stack deploy` puts them in: of these signs the first that stands
    anywhere between the braces parts the name from the rest. Raises ValueError for one that must be given."""

    def value(match: re.Match[str]) -> str:
        sign = next((sign for sign in (":-", "-", ":?", "?") if sign in match[1]), "\n")
        name, _, rest = match[1].partition(sign)
        found = variables.get(name, "")
        if "?" in sign and not found:
            raise ValueError(f"{name}: {rest}")
        return found or (rest if "-" in sign else "")

    assert "$" not in re.sub(r"\$\{[^}]*\}", "", text)
    return re.sub(r"\$\{([^}]*)\}", value, text)


def test_a_swarm_reads_the_compose_files_as_they_are_meant() -> None:
    who = {"PERMBENCH_UID": "12", "PERMBENCH_GID": "34"}
    for roles in (3, 5):
        services = yaml.safe_load(compose_files(ALL_ROLES[:roles])[FILE])["services"]
        for service in services.values():
            (secret,) = service["secrets"]
            read = [
                swarm_reads(text, who) for text in (service["user"], secret["uid"], secret["gid"])
            ]
            assert read == ["12:34", "12", "34"]
            assert swarm_reads(service["image"], who) == default_tag()
            with pytest.raises(ValueError, match="PERMBENCH_UID: see the Compose"):
                swarm_reads(service["user"], {})
        command = services["harness"]["command"]
        if roles != len(ROLES):
            with pytest.raises(ValueError, match="PERMBENCH_RUN: say what to run"):
                swarm_reads(command, who)
        run = {"PERMBENCH_RUN": "experiment=argmax -m"} if roles != len(ROLES) else {}
        assert "runner.shared_secret=true experiment=argmax " in swarm_reads(command, run)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("runner=docker runner.cpus.P0=all", "runner.cpus.P0: got all"),
        ("runner=docker runner.cpus.P15=all", "runner.cpus.P15: got all"),
        ("runner=docker runner.cpus.P16=0", "runner.cpus.P16: unknown key"),
        ("runner=docker runner.memory_mb=1", "runner.memory_mb: got 1"),
        ("runner=docker runner.p0_folder=here", "runner.p0_folder: got here"),
        ("runner=remote runner.listen=7700", "runner.listen: got 7700"),
        ("runner=remote runner.wait_s=0", "runner.wait_s: got 0"),
        ("runner.image=x", "runner.image: unknown key"),
    ],
)
def test_a_bad_runner_is_refused_by_its_key(arguments: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}"):
        compose_run(arguments.split())


def test_each_of_many_roles_may_have_cores_of_its_own() -> None:
    """Those of roles that a run has not are refused; the names of records with three are what they were."""
    words = ["runner=docker", "runner.cpus.P1=0"]
    three = compose_run(words)
    assert config_hash(three) == "1a4f2add645de3c4"
    check_cores(three.runner, ROLES)
    many = compose_run([*words, "system=shamir", "system.parties=10", "runner.cpus.P9='0-1,3'"])
    check_cores(many.runner, many.system.roles())
    docker = make_runner(many.runner, False, many.system.roles())
    assert isinstance(docker, Docker)
    cores = {role: docker._limits(role)["cpuset_cpus"] for role in docker.roles}
    assert {role: each for role, each in cores.items() if each} == {"P1": "0", "P9": "0-1,3"}
    assert not docker.one_machine
    with pytest.raises(ConfigError) as error:
        require(compose_run(["runner=docker", "system=puma", "runner.cpus.P9=0"]))
    rule = "runner.cpus.P9: there is no P9 in this run, which has P0, P1, P2"
    assert str(error.value) == rule


def test_a_secret_has_its_length_and_comes_from_a_file_or_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "secret"
    file.write_text("ab" * 32 + "\n")
    file.chmod(0o644)
    with pytest.raises(RunnerError, match=f"others can read or change it: chmod 600 {file}$"):
        read_secret(str(file))
    file.chmod(0o600)
    monkeypatch.setenv("PERMBENCH_SECRET", "cd" * 32)
    assert (read_secret(str(file)), read_secret(None)) == (b"\xab" * 32, b"\xcd" * 32)
    for bad in ("", "ab" * 31, "xy" * 32):
        monkeypatch.setenv("PERMBENCH_SECRET", bad)
        with pytest.raises(RunnerError, match="PERMBENCH_SECRET"):
            read_secret(None)


def test_the_harness_knows_one_secret_for_all_or_one_for_each(tmp_path: Path) -> None:
    file = tmp_path / "secrets"
    names = ["aa" * 32, "bb" * 32, "cc" * 32]
    file.touch(0o600)
    file.write_text("\n".join(names))
    assert read_secrets(str(file)) == dict(zip(ROLES, map(bytes.fromhex, names), strict=True))
    with pytest.raises(RunnerError, match="it has 3, and must have 1"):
        read_secret(str(file))
    remote = ["runner=remote", f"runner.secret_file={file}"]
    config = compose_run([*remote, "transport.tls=false"])
    with pytest.raises(RunnerError, match=r"needs transport\.tls=true"):
        PartyGroup(make_runner(config.runner, False), 1, 1.0, tls=False).start()
    file.write_text(names[0])
    assert read_secrets(str(file)) == dict.fromkeys(ROLES, bytes.fromhex(names[0]))
    one = compose_run(remote)
    with pytest.raises(
        RunnerError, match=r"any party join as another: give one for each role, .*shared_secret"
    ):
        PartyGroup(make_runner(one.runner, False), 1, 1.0, tls=True).start()
    file.write_text(" ".join(names[:2]))
    with pytest.raises(RunnerError, match="it has 2, and must have 1 or 3"):
        read_secrets(str(file))
    file.write_text(" ".join([*names, "dd" * 32]))  # of P3 too, for runs that have one
    assert read_secrets(str(file)) == dict(zip(ROLES, map(bytes.fromhex, names), strict=True))
    with pytest.raises(RunnerError, match="it has 4, and must have 1 or 10"):
        read_secrets(str(file), ALL_ROLES[:10])


PROGRAM = [sys.executable, "-m", "harness"]
# A monotonic clock of its own, a quarter of an hour ahead, as on another host.
AHEAD = ["unshare", "--time", "--monotonic", "900", "--fork"]


def runs_of_joined(
    folder: Path, port: int, p1: list[str], *runs: str, secrets: int = 1
) -> list[Record]:
    """The records of `runs`, one program each, with parties that were started before; `p1`: in front
    of the command of P1. secrets: 1 for all, or 3."""
    known = [os.urandom(32).hex() for _ in range(secrets)] * (3 // secrets)
    environment = {**os.environ, "PERMBENCH_SECRET": " ".join(known[:secrets])}
    address = f"127.0.0.1:{port}"
    parties = [
        subprocess.Popen(
            [*before, *PROGRAM, "join", role, address, "--wait-s", "30"],
            env={**environment, "PERMBENCH_SECRET": secret},
            start_new_session=True,
        )
        for role, before, secret in zip(ROLES, ([], p1, []), known, strict=True)
    ]
    remote = ["runner=remote", f"runner.listen={address}", "runner.wait_s=30"]
    remote += ["runner.shared_secret=true"] if secrets == 1 else []
    quick = ["experiment.n=100", "warmup=0", f"results_dir={folder}"]
    quick += ["calibration.strict=false", "calibration.patience_s=0"]
    try:
        for run in runs:
            arguments = run.split()
            arguments += [] if "runner=local" in arguments else remote
            command = [*PROGRAM, "run", *arguments, *quick]
            subprocess.run(command, env=environment, check=True, timeout=60)
    finally:
        for role, party in zip(("P0", "P1", "P2"), parties, strict=True):
            # unshare does not hand a signal on to what it has started.
            (os.killpg if role == "P1" and p1 else os.kill)(party.pid, signal.SIGTERM)
        ends = [party.wait(10) for party in parties]
    assert ends == [130] * 3
    return load_all(folder)


@pytest.mark.slow
def test_parties_that_join_serve_run_after_run(tmp_path: Path) -> None:
    """Started before the harness; two programs one after the other, then an end. Parties that the
    harness starts itself have another secret, whatever the environment says. Here each has its own."""
    runs = ["shaper=none repeat=1", "shaper=none repeat=2", "shaper=none repeat=1 runner=local"]
    records = runs_of_joined(tmp_path, 7717, [], *runs, secrets=3)
    assert [record.status for record in records] == ["ok"] * 3
    tls = {r.config["runner"]["name"]: r.config["transport"]["tls"] for r in records}
    assert tls == {"remote": True, "local": False}


@pytest.mark.slow
def test_a_party_with_a_clock_of_its_own_is_timed_and_shaped_alike(tmp_path: Path) -> None:
    """Hosts share no clock: instants are converted, and an emulated link needs none in common."""
    if subprocess.run([*AHEAD, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no time namespaces here: root, and a kernel with CONFIG_TIME_NS")
    (record,) = runs_of_joined(tmp_path, 7718, AHEAD, "repeat=3 network.rtt_ms=20")
    assert record.status == "ok"
    assert all(40e6 <= ns < 1e9 for ns in record.phases["online"].wall_ns)  # 4 hops
    found = record.network.measured["P0-P1"]
    ways_s = [found[way]["one_way_s"] for way in ("forward", "backward")]
    assert ways_s == pytest.approx([10e-3] * 2, abs=5e-3)
