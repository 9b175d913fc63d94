"""Systems of other packages: the example, installed, is one like ours; a broken one hurts nobody else."""

import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import registry
from harness.cli.main import main
from harness.config.compose import compose_run
from harness.errors import ConfigError
from harness.records import store
from protocols.workload import Layer, Linear
from tests.installed import importable, install
from tests.play import SEED, declared, play, relative, small

EXAMPLE = Path(__file__).parents[1] / "examples" / "own_system"
QUICK = [
    "repeat=2",
    "warmup=1",
    "shaper=none",
    "calibration.strict=false",
    "calibration.patience_s=0",
]
BAD = """
from dataclasses import dataclass
from protocols.system import System

@dataclass(frozen=True)
class NoDefault:
    bits: int

class Abstract(System):
    pass

class Keyless(System):
    Options = NoDefault
    check = online = output = reveal = cost = None

class Older(Keyless):
    online_roles = ("P0", "P1")
"""
BROKEN = {
    "absent": ("no_such_module:X", "ModuleNotFoundError: No module named 'no_such_module'"),
    "other": ("own_bad:dataclass", "it is no protocols.system.System"),
    "abstract": ("own_bad:Abstract", "it lacks check, cost, online, output, reveal"),
    "older": ("own_bad:Older", "its online_roles is no class method of the options"),
    "keyless": ("own_bad:Keyless", "keyless: its option bits has no default"),
    "permllm": ("no_such_module:X", ""),  # the names of ours are taken
}


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The example and a package of broken systems, for this process and the parties it starts."""
    site = tmp_path / "site"
    site.mkdir()
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    install(site, project["name"], project["entry-points"][registry.GROUP])
    (site / "own_system.py").write_text((EXAMPLE / "own_system.py").read_text())
    install(site, "bad-package", {name: value for name, (value, _) in BROKEN.items()})
    (site / "own_bad.py").write_text(BAD)
    with importable(site, ("own_system", "own_bad"), monkeypatch):
        yield tmp_path / "results"


def test_it_is_short_right_and_costs_what_it_says(installed: Path) -> None:
    assert len((EXAMPLE / "own_system.py").read_text().splitlines()) < 200
    own = registry.system_class("own")
    for work in (Linear(3, 50, 20), Layer(small("gpt2"), 2, 9)):
        own.check(work, own.Options())
        played = play(own, work)
        for (got,) in played.answers:
            assert relative(got, own.plaintext(work, SEED, own.Options())) <= 1e-3
        assert played.cost == declared(own, work)


@pytest.mark.slow
def test_it_runs_verifies_records_and_compares(
    installed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    size = ["experiment=linear", "experiment.n=2", "experiment.d_in=64", "experiment.d_out=32"]
    results = f"results_dir={installed}"
    assert main(["run", "-m", *size, "system=permllm,own", results, *QUICK]) == 0
    assert main(["run", "-m", *size, "system=own", "system.frac=16,20", results, *QUICK]) == 0
    assert main(["run", "system=own", results]) == 0  # argmax
    capsys.readouterr()
    records = {r.config["system"].get("frac"): r for r in store.load_all(installed)}
    statuses = {key: (r.config["system"]["name"], r.status) for key, r in records.items()}
    assert statuses[None] == ("permllm", "ok")
    assert statuses[16] == statuses[20] == ("own", "ok")
    phases = records[20].phases
    sent = {
        (a, b): s.payload_bytes
        for a, r in phases["online"].roles.items()
        for b, s in r.sent.items()
    }
    cost = declared(registry.system_class("own"), Linear(2, 64, 32))["online"]
    assert (phases["online"].hops, sent) == (cost.hops, cost.payload_bytes)
    assert main(["show", results]) == 0
    shown = capsys.readouterr().out
    assert "unsupported: own computes linear layers, and layers of the family gpt2, alone" in shown
    compared = shown[shown.index("linear relative to permllm, n 2, d_in 64, d_out 32") :]
    assert [line.split()[0] for line in compared.splitlines()[2:5]] == ["permllm", "own", "own"]


def test_its_options_are_configuration(installed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = compose_run(["experiment=linear", "system=own", "system.frac=12"])
    assert config.system.options() == registry.system_class("own").Options(12)
    for arguments, problem in (
        ("system=own system.fraq=1", "did you mean system.frac? allowed: name, frac"),
        ("system=own system.frac=few", "system.frac: got few, must be a whole number"),
        ("system=permllm system.frac=1", "allowed: name, domain, mask_scale, selection"),
        ("system=owm", "other, own, permllm"),
    ):
        with pytest.raises(ConfigError, match=r".") as error:
            compose_run(arguments.split())
        assert problem in str(error.value)
        assert "\n" not in str(error.value)
    with pytest.raises(SystemExit):
        main(["run", "--help"])
    helped = capsys.readouterr().out
    assert any("frac" in line and "16" in line for line in helped.splitlines())


def test_a_broken_one_is_one_line_and_the_others_go_on(
    installed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, (_, problem) in BROKEN.items():
        if problem:
            assert main(["run", f"system={name}", f"results_dir={installed}"]) == 2
            error = capsys.readouterr().err
            assert error.startswith(f"permbench: system: {name}")
            assert error.count("\n") == 1
            assert problem in error
    assert main(["list"]) == 0
    listed = capsys.readouterr().out
    assert "  own             Own: P0 multiplies its matrices" in listed
    assert "an example (package own-system)" in listed
    assert "no_such_module:X of package bad-package) cannot be used" in listed
    assert compose_run(["system=permllm"]).system.options() == registry.OURS["permllm"][1]()
    assert not installed.exists()
