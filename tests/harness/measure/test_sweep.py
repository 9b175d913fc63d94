"""A sweep over any keys: its points, its order, where it stops, and how it goes on."""

import json
import random
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest

from harness.cli.compose_call import compose_call, split_arguments
from harness.cli.main import main
from harness.config.compose import compose_all
from harness.config.config_hash import config_hash
from harness.config.groups import CONF_DIR
from harness.config.overrides import expand_sweep
from harness.errors import ConfigError
from harness.measure import sweep as runs
from harness.progress import PlainProgress
from harness.records import code_digest, store
from harness.records.record import Status
from harness.records.run_lock import locked
from tests.fake_session import FakeSession

REPO = CONF_DIR.parent
SWEEP = ["run", "-m", "experiment.n=range(1,7)"]


@pytest.mark.parametrize(
    ("argument", "values"),
    [
        ("experiment.n=range(2,8,2)", ["2", "4", "6"]),
        ("experiment.n=choice(3,1)", ["3", "1"]),
        ("experiment.n=sort(3,1,2,reverse=true)", ["3", "2", "1"]),
        ("network=glob([bolt*,puma],exclude=*-lan)", ["bolt-wan", "puma"]),
        ("experiment.shape=[1,2],[3,4]", ["[1,2]", "[3,4]"]),
        ("network.rate_mbit=null,100", ["null", "100"]),
        ("system.domain=ring64,float32", ["ring64", "float32"]),
        ("experiment.prompt='a, b','c'", ["'a, b'", "'c'"]),
        ("repeat=7", ["7"]),
    ],
)
def test_points_of_one_key(argument: str, values: list[str]) -> None:
    key = argument.partition("=")[0]
    assert expand_sweep([argument]) == [[f"{key}={value}"] for value in values]


@pytest.mark.parametrize(
    ("argument", "problem"),
    [
        ("experiment.n=interval(1,5)", "interval() has no points"),
        ("network=glob(zz*)", "matches no option"),
        ("experiment.n=range(5,1)", "has no points"),
        ("sweep.order=given,shuffled", "is a key of `permbench run` alone"),
    ],
)
def test_sweeps_without_points(argument: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        expand_sweep([argument])
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("argument", "problem"),
    [
        ("sweep.order=random", "sweep.order: got random, must be one of given, shuffled"),
        ("sweep.oder=given", "did you mean sweep.order?"),
        ("sweep.order=given,shuffled", "is a sweep; a call has one value of it"),
        ("sweep.jobs=0", "sweep.jobs: got 0, must be a whole number ≥ 1"),
        ("continue_on_error=3.5", "continue_on_error: got 3.5, must be true or false"),
        ("hydra/launcher=slurm", "allowed: basic, submitit_local, submitit_slurm"),
        ("hydra.launcher.partition=cpu", "needs hydra/launcher=submitit_local or submitit_slurm"),
        ("hydra.sweep.dir=x", "only hydra/launcher and hydra.launcher"),
    ],
)
def test_bad_keys_of_a_call(argument: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compose_call([argument])
    assert problem in str(caught.value)


def test_keys_of_a_call_are_no_part_of_a_run(session: FakeSession) -> None:
    arguments = [
        "sweep.order=shuffled",
        "continue_on_error=false",
        "hydra/launcher=basic",
        "repeat=3",
    ]
    assert split_arguments(arguments) == (arguments[:3], arguments[3:])
    assert main([*SWEEP, *arguments[:3]]) == 0
    assert main(SWEEP) == 0
    assert len(session.configs) == 6


def test_a_shuffled_sweep_goes_on_in_its_order(session: FakeSession) -> None:
    assert main([*SWEEP, "sweep.order=shuffled"]) == 0
    drawn = session.sizes()
    assert sorted(map(str, drawn)) == list("123456")
    assert drawn != [1, 2, 3, 4, 5, 6]
    for record in store.load_all(Path("results/runs")):
        if record.config["experiment"]["n"] in drawn[3:]:
            store.path_of(Path("results/runs"), "argmax", record.id).unlink()
    session.configs.clear()
    assert main([*SWEEP, "sweep.order=shuffled"]) == 0
    assert session.sizes() == drawn[3:]
    assert main([*SWEEP, "sweep.order=shuffled", "sweep.seed=2", "force=true"]) == 0
    assert session.sizes()[3:] != drawn


@pytest.mark.parametrize("status", ["failed", "timeout", "incorrect"])
def test_a_sweep_may_stop_at_the_first_bad_run(
    status: Status, session: FakeSession, capsys: pytest.CaptureFixture[str]
) -> None:
    session.status = lambda config: status if "n=2" in config.title() else "ok"
    assert main([*SWEEP, "continue_on_error=false"]) == 1
    assert session.sizes() == [1, 2]
    (told,) = [line for line in capsys.readouterr().err.splitlines() if "not measured" in line]
    assert "argmax n=3 permllm" in told
    assert "and 1 more" in told
    session.status = lambda config: "ok"
    assert main([*SWEEP, "continue_on_error=false"]) == 0
    assert session.sizes() == [1, 2, 2, 3, 4, 5, 6]


def test_runs_are_told_apart_by_what_is_swept() -> None:
    configs = compose_all(expand_sweep(["network.rtt_ms=1,2", "seed=1,2", "network=puma,nexus"]))
    titles = runs.plan(configs).titles
    assert len(set(titles.values())) == len(titles) == 8
    assert titles[config_hash(configs[0])].endswith("puma emulated network.rtt_ms=1.0 seed=1")


class Edited:
    """Code as if it had been edited: another digest."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch, self._count = monkeypatch, 0

    def __call__(self) -> None:
        self._count += 1
        digest = f"{self._count:016}"
        self._monkeypatch.setattr(code_digest, "code_digest", lambda: digest)


@pytest.fixture
def edit(monkeypatch: pytest.MonkeyPatch) -> Edited:
    return Edited(monkeypatch)


def test_what_other_code_made_is_measured_again_and_kept(
    session: FakeSession, edit: Edited, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(SWEEP) == 0
    assert main(SWEEP) == 0
    assert len(session.configs) == 6
    stored = (
        "6 of 6 runs are stored already, 6 of them on another machine; force=true measures again"
    )
    assert stored in capsys.readouterr().out
    edit()
    assert main([*SWEEP[:2], "experiment.n=1,2"]) == 0
    assert session.sizes()[6:] == [1, 2]
    told = capsys.readouterr().out
    assert "2 of 2 runs: stored, but made by other code (commit unknown, 2025-01-02)" in told
    assert "measured again" in told
    assert main([*SWEEP[:2], "experiment.n=1,2"]) == 0
    assert len(session.configs) == 8
    folder = Path("results/runs")
    assert (len(store.load_current(folder)), len(store.load_all(folder))) == (6, 8)


def test_force_keeps_the_old_record(session: FakeSession) -> None:
    assert main(["run"]) == 0
    session.make_record = partial(session.make_record, wall_ns=[7])
    assert main(["run", "force=true"]) == 0
    records = store.load_all(Path("results/runs"))
    assert sorted(r.phases["online"].wall_ns[0] for r in records) == [7, 30_000_000]
    (last,) = store.load_current(Path("results/runs"))
    assert last.phases["online"].wall_ns == [7]


@pytest.mark.parametrize(
    "argument", ["timeout_s=5", "calibration.strict=false", "calibration.max_age_s=0"]
)
def test_keys_that_cannot_change_a_number_are_no_other_run(
    argument: str, session: FakeSession
) -> None:
    assert main(["run"]) == main(["run", argument]) == 0
    assert len(session.configs) == 1


def test_a_strict_run_does_not_take_a_link_outside_tolerance(
    session: FakeSession, capsys: pytest.CaptureFixture[str]
) -> None:
    make = session.make_record
    off = replace(make().network, within_tolerance=False)
    session.make_record = lambda **given: replace(make(**given), network=off)
    assert main(["run", "calibration.strict=false"]) == 0
    assert main(["run", "calibration.strict=false"]) == 0
    assert len(session.configs) == 1
    session.make_record = make
    assert main(["run"]) == 0
    assert len(session.configs) == 2
    assert "stored, but over a link outside tolerance" in capsys.readouterr().out
    assert main(["run", "calibration.strict=false"]) == 0
    assert len(session.configs) == 2


def test_two_sweeps_share_the_work(session: FakeSession, stages: list[str]) -> None:
    """What another process measures comes last: its record, or ours where it left none."""
    made = runs.plan(compose_all(expand_sweep(["experiment.n=1,2,3"])))
    first, second, _ = made.pending.values()
    measured = runs.measured_here(made, cast(Any, lambda: session), Stages(stages))
    with ExitStack() as others:
        for config in (first, second):
            others.enter_context(locked(runs.path_of(config)))
        assert next(measured).config["experiment"]["n"] == 3
        theirs = session.run(first, Stages([]))
        store.save(Path(first.results_dir), theirs)
    assert next(measured) == theirs
    assert next(measured).config["experiment"]["n"] == 2
    assert next(measured, None) is None
    assert session.sizes() == [3, 1, 2]  # 1 by the other process
    assert [text.startswith("left to process") for text in stages[:2]] == [True, True]
    assert not list(Path("results").rglob(".*.lock"))


@pytest.fixture
def stages() -> list[str]:
    return []


class Stages(PlainProgress):
    """Keeps what a run came to."""

    def __init__(self, texts: list[str]) -> None:
        super().__init__()
        self._texts = texts

    def stage(self, text: str) -> None:
        self._texts.append(text)


SLOW_RUNS = """
import sys, time
from types import ModuleType
from harness.cli.main import main
from tests.harness.conftest import build_record
from harness.config.groups import CONF_DIR
from harness.config.config_hash import config_hash, resolved
from dataclasses import replace

class Session:
    def __enter__(self): return self
    def __exit__(self, *_): pass
    def run(self, config, progress):
        with open(sys.argv[1], "a") as log:
            log.write(config_hash(config) + "\\n")
        time.sleep(0.05)
        return replace(build_record(), id=config_hash(config), config=resolved(config),
                       logs={"P0": ["x" * 1_000_000]})

sys.modules["harness.measure.session"] = module = ModuleType("harness.measure.session")
module.Session = Session
sys.exit(main(sys.argv[2:]))
"""


def sweep(log: Path, results: Path, kill_after_s: float | None = None) -> int:
    """Run the sweep in a process of its own, and perhaps kill it so long after its first run began."""
    few = ["experiment.n=range(1,16)", "memory.check=false"]  # which would import torch
    arguments = ["run", "-m", *few, f"results_dir={results}"]
    program = subprocess.Popen(
        [sys.executable, "-c", SLOW_RUNS, str(log), *arguments],
        cwd=REPO,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    if kill_after_s is not None:
        known = measured(log)
        while measured(log) == known and program.poll() is None:
            time.sleep(0.005)
        time.sleep(kill_after_s)
        program.kill()
    return program.wait(60)


def measured(log: Path) -> list[str]:
    return log.read_text().split() if log.exists() else []


@pytest.mark.slow
def test_a_killed_sweep_ends_as_an_uninterrupted_one(tmp_path: Path) -> None:
    """It is killed for real, at several random moments; what was saved is not measured again."""
    draw = random.Random()
    log, results, whole = tmp_path / "log", tmp_path / "killed", tmp_path / "whole"
    for kill_after_s in [*(draw.uniform(0, 0.3) for _ in range(3)), None]:
        before, saved = len(measured(log)), saved_in(results)
        assert sweep(log, results, kill_after_s) == (0 if kill_after_s is None else -9)
        assert not set(measured(log)[before:]) & saved.keys()
    assert sweep(tmp_path / "other log", whole) == 0
    assert len(saved_in(whole)) == 15
    assert saved_in(results) == saved_in(whole)


def saved_in(results: Path) -> dict[str, object]:
    """Whole records by id; one that is cut off does not load."""
    texts = {path.stem: path.read_text() for path in results.glob("argmax/*.json")}
    return {name: json.loads(text.replace(str(results), "results")) for name, text in texts.items()}
