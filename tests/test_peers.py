"""Peers that are installed here, on work small enough to be right in seconds."""

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from harness.cli.main import main
from harness.config import peers
from harness.config.compose import compose_run
from harness.config.program_files import program_file
from harness.records.record import Record
from harness.records.store import load_all
from harness.registry import PEERS

pytestmark = pytest.mark.slow
MODEL = ["model=tiny", "model.d_model=64", "model.n_heads=4", "model.d_ff=128"]
WORK = {
    "argmax": ["experiment=argmax", "experiment.n=50"],
    "gelu": ["experiment=nonlinear", "experiment.op=gelu", "experiment.shape=[100]"],
    "softmax": ["experiment=nonlinear", "experiment.op=softmax", "experiment.shape=[3,16]"],
    "layernorm": ["experiment=nonlinear", "experiment.op=layernorm", "experiment.shape=[3,64]"],
    "bert": ["experiment=layer", "model.family=bert", *MODEL],
    "glm": ["experiment=layer", "model.family=glm", *MODEL],
}
LENGTHS = {"bert": (6, 6), "glm": (1, 6)}


def run(folder: Path, *words: str) -> list[Record]:
    """The records of a call, by system."""
    quick = ["repeat=2", "warmup=0", "calibration.strict=false", "calibration.patience_s=0"]
    main(["run", "-m", *words, *quick, f"results_dir={folder}"])
    return load_all(folder)


def peer_of(system: str) -> str:
    peer = program_file(compose_run([f"system={system}", "experiment=argmax"])).peer
    assert peer is not None
    return peer


def lengths(name: str) -> Sequence[str]:
    q_len, kv_len = LENGTHS.get(name, (0, 0))
    return [f"experiment.q_len={q_len}", f"experiment.kv_len={kv_len}"] if q_len else []


@pytest.mark.parametrize("system", PEERS)
@pytest.mark.parametrize("name", WORK)
def test_a_peer_gives_the_answer_of_ours(system: str, name: str, tmp_path: Path) -> None:
    """Over loopback's proxies, which count what it sends."""
    if not peers.is_installed(peer_of(system)):
        pytest.skip(f"needs `{peers.remedy(peer_of(system))}`")
    (found,) = run(tmp_path, f"system={system}", *WORK[name], *lengths(name), "shaper=none")
    assert (found.status, found.error) == ("ok", None)
    online = found.phases["online"]
    assert len(online.wall_ns) == 2
    assert all(
        sent.payload_bytes > 0 for role in online.roles.values() for sent in role.sent.values()
    )


def test_ours_and_its_original_take_turns_over_a_wan(tmp_path: Path) -> None:
    if not peers.is_installed("crypten"):
        pytest.skip(f"needs `{peers.remedy('crypten')}`")
    words = ["system=mpcformer,crypten", *WORK["gelu"], "network=permllm-wan"]
    found = {record.config["system"]["name"]: record for record in run(tmp_path, *words)}
    starts = {name: record.phases["online"].started_ns for name, record in found.items()}
    ours, peer = starts["mpcformer"], starts["crypten"]
    assert max(ours[0], peer[0]) < min(ours[1], peer[1])
    sent = {name: record.phases["online"].roles["P0"].sent["P1"] for name, record in found.items()}
    assert sent["mpcformer"].payload_bytes == sent["crypten"].payload_bytes == 800
    assert min(found["crypten"].phases["online"].wall_ns) >= 5_000_000


def test_a_sweep_goes_on_without_a_peer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(peers.VARIABLE, str(tmp_path / "none"))
    words = ["system=plaintext,spu-aby3", *WORK["argmax"], "shaper=none"]
    found = {record.config["system"]["name"]: record for record in run(tmp_path, *words)}
    assert found["plaintext"].status == "ok"
    missing = found["spu-aby3"]
    assert missing.status == "unsupported"
    assert missing.error == "spu is not installed: permbench peers install spu"
    assert missing.error in capfd.readouterr().out
    assert not os.path.exists(tmp_path / "none")
