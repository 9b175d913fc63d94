"""What a run needs of this machine is known before anything starts."""

import shutil
import socket
from pathlib import Path

import pytest

from harness.cli.main import main
from harness.config.compose import compose_run
from harness.machine import capabilities, docker_daemon, doctor, room
from harness.machine.capabilities import missing_for_netns
from harness.machine.docker_daemon import _unreachable
from harness.measure.session import Session
from harness.progress import PlainProgress
from protocols.footprint import sizes
from protocols.transformer.model import synthetic_model
from protocols.workload import Generation
from tests.fake_session import FakeSession

SYSTEMS = (
    "system=permllm",
    "system=mpcformer",
    "system=mpcformer system.reuse_weight_masks=true",
    "system=puma",
    "system=plaintext",
)
WORKLOADS = ("model=gpt2", "model=chatglm-6b model.d_model=1536 model.d_ff=6144")


@pytest.mark.slow
@pytest.mark.parametrize("system", SYSTEMS)
def test_estimates_are_near_what_parties_take(system: str) -> None:
    """Each role's peak over all phases, and all of them together, within 30 %."""
    common = ["experiment=layer", "shaper=none", "repeat=1", "warmup=0", "calibration.strict=false"]
    with Session() as session:
        for workload in WORKLOADS:
            config = compose_run(
                [*common, "calibration.patience_s=0", *workload.split(), *system.split()]
            )
            record = session.run(config, PlainProgress())
            assert record.status == "ok", record.error
            parts = [phase.roles for phase in record.phases.values()]
            peaks = {role: max(part[role].peak_rss_bytes for part in parts) for role in parts[0]}
            expected = room.needed_bytes(config)
            wrong = {
                role: (peak, expected[role])
                for role, peak in (peaks | {"all": sum(peaks.values())}).items()
                if not 0.7
                < (expected | {"all": sum(expected[r] for r in peaks)})[role] / peak
                < 1.3
            }
            assert not wrong


def test_weights_are_counted_as_they_are() -> None:
    for name in ("gpt2", "bert", "llama", "glm"):
        model = {"gpt2": "gpt2", "bert": "bert-base", "llama": "llama-2-7b", "glm": "chatglm-6b"}[
            name
        ]
        small = [
            "model.n_layers=2",
            "model.d_model=64",
            "model.d_ff=128",
            "model.n_heads=4",
            "model.vocab=90",
        ]
        work = compose_run(["experiment=model", f"model={model}", *small]).workload()
        assert isinstance(work, Generation)
        made = synthetic_model(work.spec, 1)
        layers = [
            part for layer in made.layers for part in (layer.qkv, layer.out, layer.up, layer.down)
        ]
        tables = [made.token_embedding, *([made.head.weight] if made.head else [])]
        weights = sum(part.weight.numel() for part in layers) + sum(t.numel() for t in tables)
        assert sizes(work).weights == weights


def test_a_run_that_does_not_fit_is_refused_before_it_starts(
    session: FakeSession, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(room, "available_bytes", lambda: 3_000_000_000)
    whole = ["run", "experiment=model", "model=gpt2"]
    assert main(whole) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert error.startswith("permbench: memory: model prompt_len=8 new_tokens=8 gpt2 permllm")
    for part in (
        "needs about 3.",
        "(P0 ",
        "3.00 GB are available",
        "model.tie_layers=true",
        "fewer",
    ):
        assert part in error
    assert session.configs == []
    assert not Path("results").exists()
    assert main([*whole, "memory.check=false"]) == 0
    assert (
        main(
            [*whole, "runner=remote", "runner.listen=127.0.0.1:0".replace(":0", f":{free_port()}")]
        )
        == 0
    )


def test_a_container_must_hold_its_party(
    session: FakeSession, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(capabilities, "missing_for_docker", lambda image: None)
    arguments = ["run", "runner=docker", "runner.memory_mb=300"]
    assert main(arguments) == 2
    assert "runner.memory_mb: got 300, but P1 needs about" in capsys.readouterr().err


def test_a_full_disk_is_said_before(
    session: FakeSession, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    usage = shutil.disk_usage("/")._replace(free=3_000_000)
    monkeypatch.setattr(room.shutil, "disk_usage", lambda path: usage)
    assert main(["run", "-m", "experiment.n=1,2,3"]) == 0
    assert main(["run", "-m", "experiment.n=11,12,13,14"]) == 2
    assert "results_dir: records need up to 4.00 MB in" in capsys.readouterr().err


def test_the_limit_of_a_container_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit, used = tmp_path / "max", tmp_path / "current"
    monkeypatch.setattr(room, "CGROUPS", ((str(limit), str(used)),))
    whole = room.available_bytes()
    limit.write_text("max\n")
    used.write_text("500000\n")
    assert room.available_bytes() > 0.5 * whole
    limit.write_text("2000000\n")
    assert room.available_bytes() == 1_500_000


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def test_a_port_in_use_is_one_line(
    session: FakeSession, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert main(["run", "runner=remote", f"runner.listen=127.0.0.1:{port}"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(
        f"permbench: runner.listen: 127.0.0.1:{port}: address already in use; take "
    )
    assert error.count("\n") == 1
    assert session.configs == []
    assert main(["run", "runner=remote", "runner.listen=203.0.113.7:7700"]) == 2
    assert "give an address of this machine" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("installed", "systemd", "remedy"),
    [
        (False, True, "sudo apt-get install docker.io"),
        (True, True, "sudo systemctl start docker"),
        (True, False, "sudo service docker start"),
    ],
)
def test_what_is_missing_is_installed_and_what_is_stopped_is_started(
    installed: bool, systemd: bool, remedy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(docker_daemon.shutil, "which", lambda name: "/bin/x" if installed else None)
    monkeypatch.setattr(docker_daemon, "SYSTEMD", tmp_path if systemd else tmp_path / "no")
    assert _unreachable("FileNotFoundError(2, 'No such file')").remedy == remedy


def test_missing_tools_are_named_with_their_package(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (capabilities, capabilities.namespaces_missing.__globals__):
        if isinstance(module, dict):
            monkeypatch.setitem(module, "find", lambda name: None)
        else:
            monkeypatch.setattr(module, "find", lambda name: None)
    found = missing_for_netns()
    assert found is not None
    assert (found.why, found.remedy) == ("ip not found", "sudo apt-get install iproute2 ethtool")
    check = doctor.check_netns_runner()
    assert "apt-get install iproute2" in check.remedy
