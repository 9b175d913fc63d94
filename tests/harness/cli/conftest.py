"""Records to show, and `show` on them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.cli.main import main
from harness.records import store
from harness.records.record import Record

MakeRecord = Callable[..., Record]
Show = Callable[..., str]


@pytest.fixture
def records(tmp_path: Path, make_record: MakeRecord) -> list[Record]:
    made = [
        make_record(["experiment.n=5"], wall_ns=[20_000_000, 21_000_000, 30_000_000]),
        make_record(["experiment.n=5", "network=puma"], payload=2_500_000),
        make_record(["experiment.n=5", "network.rtt_ms=3"]),
        make_record(["experiment=layer", "model=gpt2"], hops=12, status="incorrect"),
        make_record(["experiment=layer", "model=gpt2", "seed=2"], status="failed"),
    ]
    for record in made:
        store.save(tmp_path, record)
    return made


@pytest.fixture
def show(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Show:
    def run(*arguments: str) -> str:
        assert main(["show", f"results_dir={tmp_path}", *arguments]) == 0
        return capsys.readouterr().out

    return run
