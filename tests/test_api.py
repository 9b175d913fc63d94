"""The public face: what a notebook or a plugin imports."""

from pathlib import Path

import pandas as pd
import pytest

import permbench
from harness.records.store import load_all

ROOT = Path(__file__).parents[1]
DEMO = ROOT / "results" / "reference" / "demo"


def test_every_public_name_is_there_and_nothing_else() -> None:
    public = {name for name in vars(permbench) if not name.startswith("_")}
    assert set(permbench.__all__) == public
    assert permbench.__all__ == sorted(
        permbench.__all__, key=lambda n: (not n.isupper(), not n[0].isupper(), n)
    )


def test_it_says_that_it_is_typed() -> None:
    assert (ROOT / "permbench" / "py.typed").exists()


def test_runs_are_rows_and_every_column_is_documented() -> None:
    table = permbench.load(DEMO)
    records = load_all(DEMO)
    keys = {key for record in records for key in record.flat}
    assert set(table["id"]) == {record.id for record in records}
    assert set(table.columns) - keys == set(permbench.COLUMNS)
    first = table.set_index("id")["online.median_ns"]
    for record in records:
        walls = pd.Series(record.phases["online"].wall_ns)
        assert first[record.id] == walls.median()


def test_samples_are_rows_of_their_own() -> None:
    assert permbench.load(DEMO, rows="operators").empty  # none of these was traced
    samples = permbench.load(DEMO, rows="samples")
    for record in load_all(DEMO):
        own = samples[samples["id"] == record.id]
        assert list(own["online_ns"]) == record.phases["online"].wall_ns
        assert list(own["sample"]) == list(range(len(own)))


def test_bad_input_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(permbench.ConfigError, match="is not a folder"):
        permbench.load(tmp_path / "none")
    with pytest.raises(permbench.ConfigError, match="runs, samples, steps or operators"):
        permbench.load(DEMO, rows="all")  # type: ignore[arg-type]
    with pytest.raises(permbench.ConfigError, match=r"experiment\.m"):
        permbench.run("experiment.m=3")


@pytest.mark.slow
def test_a_run_from_a_program(tmp_path: Path) -> None:
    arguments = ("experiment.n=50", "shaper=none", "repeat=2", f"results_dir={tmp_path}")
    table = permbench.run(*arguments, "calibration.strict=false", quiet=True)
    assert list(table["status"]) == ["ok"]
    assert table["online.samples"][0] == 2
    assert list(permbench.load(tmp_path)["id"]) == list(table["id"])
