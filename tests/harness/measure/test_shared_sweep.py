"""Sweeps that share their runs with other processes, and those that are killed."""

import json
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

import pytest

from harness.config.compose import compose_all
from harness.config.config_hash import config_hash
from harness.config.groups import CONF_DIR
from harness.config.overrides import expand_sweep
from harness.config.schema import RunConfig
from harness.measure import sweep as runs
from harness.progress import PlainProgress, Progress
from harness.records import store
from harness.records.record import Record
from harness.records.run_lock import locked
from tests.fake_session import FakeSession, MakeRecord

REPO = CONF_DIR.parent


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


class InTurns(FakeSession):
    """Notes who else could have the runs meanwhile."""

    def run_interleaved(self, configs: Sequence[RunConfig], progress: Progress) -> list[Record]:
        self.free = [free(config) for config in configs]
        return [self.run(config, progress) for config in configs]


def free(config: RunConfig) -> bool:
    with locked(runs.path_of(config)) as holder:
        return holder is None


def test_runs_in_turns_wait_for_the_locks_of_all(
    make_record: MakeRecord, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    configs = compose_all([[f"experiment.n={n}", f"results_dir={tmp_path}"] for n in (2, 3)])
    with ExitStack() as stack:
        stack.enter_context(locked(runs.path_of(configs[1])))
        stages = PlainProgress()
        stages.stage = lambda text: stack.close()  # type: ignore[method-assign]
        session = InTurns(make_record)
        records = runs.measured_interleaved(configs, session, stages)
    assert session.free == [False, False]
    assert [record.id for record in records] == [config_hash(config) for config in configs]
    assert all(map(free, configs))
