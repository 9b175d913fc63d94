"""What a run needs of this machine is known before anything starts."""

import shutil
import socket
from pathlib import Path

import pytest
import yaml

from harness.cli.main import main
from harness.config.compose import compose_run
from harness.machine import capabilities, docker_daemon, doctor, resource_check
from harness.machine.capabilities import missing_for_netns
from harness.machine.docker_daemon import _unreachable
from harness.measure.session import Session
from harness.progress import PlainProgress
from netem import tc_probe
from protocols.errors import Unsupported
from protocols.footprint import Need, sizes
from protocols.party import P1
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
WORKLOADS = ("model=gpt2", "model=chatglm-6b model.d_model=2048 model.d_ff=8192")


def measured_and_estimated(
    session: Session, arguments: list[str]
) -> tuple[dict[str, int], dict[str, int]]:
    """The peak of each party over all phases of one run, and what was expected of it."""
    fast = ["shaper=none", "repeat=1", "warmup=0", "calibration.strict=false"]
    config = compose_run(["experiment=layer", *fast, "calibration.patience_s=0", *arguments])
    record = session.run(config, PlainProgress())
    assert record.status == "ok", record.error
    parts = [phase.roles for phase in record.phases.values()]
    measured = {role: max(part[role].peak_rss_bytes for part in parts) for role in parts[0]}
    return measured, resource_check.party_bytes(config)


@pytest.mark.slow
@pytest.mark.parametrize("system", SYSTEMS)
def test_estimates_are_near_what_parties_take(system: str) -> None:
    """Each role's peak within 30 %, and what it grows by from a small workload to a large one, less exactly:
    processors load kernels of other sizes, and the same P0 grew by 130 to 223 MB in five runs."""
    with Session() as session:
        small, large = (
            measured_and_estimated(session, [*workload.split(), *system.split()])
            for workload in WORKLOADS
        )
    for measured, expected in (small, large):
        off = {role: expected[role] / measured[role] for role in measured}
        assert all(0.7 < ratio < 1.3 for ratio in off.values()), off
    for role in small[0]:
        grown, expected_growth = (large[i][role] - small[i][role] for i in (0, 1))
        if expected_growth > 100_000_000:
            assert 0.55 < expected_growth / grown < 3, role


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
    monkeypatch.setattr(resource_check, "available_bytes", lambda: 3_000_000_000)
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


def test_what_programs_of_others_take_is_what_their_file_says(
    session: FakeSession,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Beside permbench's own parties, which sleep; with permbench's own experiments too, and where a run
    cannot be, nothing."""
    monkeypatch.setattr(resource_check, "available_bytes", lambda: 3_000_000_000)
    data = {
        "memory": "1 GB",
        "experiments": ["program", "argmax"],
        "roles": {
            "P0": {"command": "true"},
            "P1": {"command": "true {address:P0}", "memory": "1.5 GB"},
        },
        "answer": {"role": "P1", "pattern": "(.*)", "expected": 1},
    }
    path = tmp_path / "some.yaml"
    path.write_text(yaml.safe_dump(data))
    words = ["run", "system=external", f"system.file={path}"]
    for experiment in ("program", "argmax"):
        assert main([*words, f"experiment={experiment}"]) == 2
        error = capsys.readouterr().err
        assert (
            "needs about 3.46 GB on this machine (P0 1.32 GB, P1 1.82 GB, harness 320 MB)" in error
        )
    assert session.configs == []
    assert main([*words, "experiment=program", "memory.check=false"]) == 0
    assert main([*words, "experiment=layer"]) == 0


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
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    assert main(["run", "-m", "experiment.n=1,2,3"]) == 0
    assert main(["run", "-m", "experiment.n=11,12,13,14"]) == 2
    assert "results_dir: records need up to 4.00 MB in" in capsys.readouterr().err


def test_a_disk_too_small_for_masked_weights_is_said_before(
    session: FakeSession,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Also the folder that is none; a party elsewhere looks for itself."""
    usage = shutil.disk_usage("/")._replace(free=5_000_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    monkeypatch.setattr(resource_check, "available_bytes", lambda: 100_000_000_000)
    words = ["run", "experiment=model", "model=chatglm-6b", "system.weights_store=disk"]
    for folder, said in ((tmp_path, "masked weights need"), (tmp_path / "none", "is no folder")):
        assert main([*words, f"system.store_dir={folder}"]) == 2
        assert said in capsys.readouterr().err
    assert session.configs == []
    monkeypatch.setattr(resource_check, "available_bytes", lambda: 10)
    with pytest.raises(Unsupported, match="P1 needs about"):
        resource_check.require_own(P1, {P1: Need(1_000)})


def test_the_limit_of_a_container_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit, used = tmp_path / "max", tmp_path / "current"
    monkeypatch.setattr(resource_check, "CGROUPS", ((str(limit), str(used)),))
    whole = resource_check.available_bytes()
    limit.write_text("max\n")
    used.write_text("500000\n")
    assert resource_check.available_bytes() > 0.5 * whole
    limit.write_text("2000000\n")
    assert resource_check.available_bytes() == 1_500_000


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
    monkeypatch.setattr(shutil, "which", lambda name: "/bin/x" if installed else None)
    monkeypatch.setattr(docker_daemon, "SYSTEMD", tmp_path if systemd else tmp_path / "no")
    assert _unreachable("FileNotFoundError(2, 'No such file')").remedy == remedy


def test_missing_tools_are_named_with_their_package(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (capabilities, tc_probe):
        monkeypatch.setattr(module, "find", lambda name: None)
    found = missing_for_netns()
    assert found is not None
    assert (found.why, found.remedy) == ("ip not found", "sudo apt-get install iproute2 ethtool")
    check = doctor.check_netns_runner()
    assert "apt-get install iproute2" in check.remedy


def test_a_model_of_distinct_layers_is_checked_layer_by_layer() -> None:
    """Unless a system's own approximations are, whose plaintext model is held whole."""
    words = ["experiment=model", "model=chatglm-6b", "experiment.prompt_len=8"]
    disk = ["system.weights_store=disk", "system.store_dir=/var/tmp"]
    private = compose_run([*words, *disk])
    assert sum(resource_check.needed_bytes(private).values()) < 24e9
    assert resource_check._checking_bytes(private) < 8e9
    assert resource_check._checking_bytes(compose_run([*words, "system=mpcformer"])) > 26e9
