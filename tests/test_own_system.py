"""Systems of other packages: the example, installed, is one like ours; a broken one hurts nobody else."""

import importlib
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import registry
from harness.cli.main import main
from harness.config.compose import compose_run
from harness.config.systems import system_schema
from harness.errors import ConfigError
from harness.records import store
from protocols.workload import Linear
from tests.play import SEED, declared, play, relative

EXAMPLE = Path(__file__).parents[1] / "examples" / "own_system"
QUICK = ["repeat=2", "warmup=1", "shaper=none", "calibration.strict=false"]
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
"""
BROKEN = {
    "absent": ("no_such_module:X", "ModuleNotFoundError: No module named 'no_such_module'"),
    "other": ("own_bad:dataclass", "it is no protocols.system.System"),
    "abstract": ("own_bad:Abstract", "it lacks check, cost, online, output, reveal"),
    "keyless": ("own_bad:Keyless", "keyless: its option bits has no default"),
    "permllm": ("no_such_module:X", ""),  # the names of ours are taken
}


def install(site: Path, package: str, points: dict[str, str]) -> None:
    """What an installer leaves of a package besides its modules."""
    info = site / f"{package.replace('-', '_')}-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 0.1.0\n")
    lines = [f"{name} = {value}" for name, value in points.items()]
    (info / "entry_points.txt").write_text("\n".join([f"[{registry.GROUP}]", *lines, ""]))


def forget() -> None:
    for cached in (registry.others, registry.system_class, system_schema):
        cached.cache_clear()
    for module in ("own_system", "own_bad"):
        sys.modules.pop(module, None)


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
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setenv("PYTHONPATH", str(site))
    importlib.invalidate_caches()
    forget()
    yield tmp_path / "results"
    forget()


def test_it_is_short_right_and_costs_what_it_says(installed: Path) -> None:
    assert len((EXAMPLE / "own_system.py").read_text().splitlines()) < 120
    own, work = registry.system_class("own"), Linear(3, 50, 20)
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
    assert "unsupported: own computes linear layers alone" in shown
    compared = shown[shown.index("linear relative to permllm, n 2, d_in 64, d_out 32") :]
    assert [line.split()[0] for line in compared.splitlines()[2:5]] == ["permllm", "own", "own"]


def test_its_options_are_configuration(installed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = compose_run(["experiment=linear", "system=own", "system.frac=12"])
    assert config.system.options() == registry.system_class("own").Options(12)
    for arguments, problem in (
        ("system=own system.fraq=1", "did you mean system.frac? allowed: name, frac"),
        ("system=own system.frac=few", "system.frac: got few, must be a whole number"),
        ("system=permllm system.frac=1", "allowed: name, domain, mask_scale, weight_bits"),
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
    assert "  own             Own: a linear layer on additive shares" in listed
    assert "an example (package own-system)" in listed
    assert "no_such_module:X of package bad-package) cannot be used" in listed
    assert compose_run(["system=permllm"]).system.options() == registry.OURS["permllm"][1]()
    assert not installed.exists()
