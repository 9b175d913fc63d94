"""`permbench replay --validate`: predictions beside what is measured, and configurations of old records."""

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Self

import pytest

from harness.cli.main import main
from harness.config.compose import compose_run
from harness.config.config_hash import config_hash, resolved, restored
from harness.config.schema import RunConfig
from harness.errors import ConfigError
from harness.progress import Progress
from harness.records import store
from harness.records.record import Record
from harness.replay import trace_file as file
from tests.traces import MS, echo_trace

MakeRecord = Callable[..., Record]


class Measured:
    """A session whose runs take 100 ms, whatever their links; the traced one leaves a trace of 90 ms."""

    def __init__(self, make_record: MakeRecord) -> None:
        self.make_record = make_record
        self.configs: list[RunConfig] = []
        self.fails = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def run_interleaved(self, configs: Sequence[RunConfig], progress: Progress) -> list[Record]:
        self.configs = list(configs)
        file.save(Path(configs[0].results_dir), echo_trace(config_hash(configs[0]), 90_000))
        record = self.make_record(status="failed" if self.fails else "ok", wall_ns=[100 * MS] * 3)
        return [replace(record, id=config_hash(c), config=resolved(c)) for c in configs]


@pytest.fixture
def measured(make_record: MakeRecord, monkeypatch: pytest.MonkeyPatch) -> Measured:
    session = Measured(make_record)
    module = ModuleType("harness.measure.session")
    module.Session = lambda: session  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "harness.measure.session", module)
    return session


def test_validation_traces_again_and_measures_in_turns_with_that(
    stored: list[Record], measured: Measured, capsys: pytest.CaptureFixture[str]
) -> None:
    few = stored[0].id
    file.save(Path("results/runs"), echo_trace(few, 1))  # an old trace is not what is held
    assert main(["replay", "--validate", few, "compute=wall", "network=loopback,permllm-wan"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "error: median 9.0 %, worst 9.8 % (2 of 2 points)"
    assert "90.2 ms 100 ms -9.8 %" in " ".join(lines[-3].split())
    own, *points = measured.configs
    assert (config_hash(own), own.shaper.name, own.trace) == (few, "none", True)
    assert [c.network.name for c in points] == ["loopback", "permllm-wan"]
    for config in points:
        experiment = restored(stored[0].config).experiment
        found = (config.shaper.name, config.trace, config.experiment)
        assert found == ("emulated", False, experiment)
    kept = Path("results/runs/validation/argmax").glob("*.json")
    assert {path.stem for path in kept} == {config_hash(c) for c in measured.configs}
    assert sorted(r.id for r in store.load_all(Path("results/runs"))) == sorted(
        r.id for r in stored
    )
    arguments = ["network=puma,nexus", "network.rtt_ms=5", "network.rate_mbit=100"]
    assert main(["replay", "--validate", few, *arguments]) == 2
    assert "network: nexus is the same as another one" in capsys.readouterr().err
    assert main(["replay", "--validate", few]) == 0
    assert [(c.network.rtt_ms, c.network.rate_mbit) for c in measured.configs[1:]] == [
        (0.5, 10_000),
        (1, 5_000),
        (4, 400),
        (10, 1_000),
        (20, 100),
        (80, 100),
    ]


def test_a_validation_that_fails_says_so(
    stored: list[Record],
    measured: Measured,
    make_record: MakeRecord,
    capsys: pytest.CaptureFixture[str],
) -> None:
    measured.fails = True
    assert main(["replay", "--validate", stored[0].id, "network=puma"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[-3:]] == ["failed", "failed", "nothing"]
    assert "P1: killed by signal 9" in lines[-2]
    shaped = make_record(["trace=true"])
    store.save(Path("results/runs"), shaped)
    file.save(Path("results/runs"), echo_trace(shaped.id))
    assert main(["replay", "--validate", shaped.id]) == 2
    assert "takes runs with shaper=none, and no whole models" in capsys.readouterr().err
    measured.fails = False
    assert main(["replay", "--validate"]) == 0  # those that can be


def test_a_trace_is_another_run_and_no_trace_is_as_before() -> None:
    plain, traced = compose_run([]), compose_run(["trace=true"])
    assert config_hash(plain) != config_hash(traced)
    data = resolved(plain)
    del data["trace"]  # a record from before traces
    assert restored(data) == plain


@pytest.mark.parametrize(
    "arguments",
    [
        ["experiment=layer", "system=mpcformer", "network.dealer.rtt_ms=3", "key_seed=3"],
        [
            "experiment=nonlinear",
            "network.links.P0_P1.delay_ms=1",
            "network.links.P0_P1.rate_mbit=5",
        ],
    ],
)
def test_a_configuration_comes_back_from_its_record(arguments: list[str]) -> None:
    config = compose_run(arguments)
    again = restored(json.loads(json.dumps(resolved(config))))
    assert again == config
    assert config_hash(again) == config_hash(config)
    with pytest.raises(ConfigError, match="is none of this version"):
        restored({**resolved(config), "experiment": {"name": "nope"}})
