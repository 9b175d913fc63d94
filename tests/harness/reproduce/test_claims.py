"""A file of claims: each is sound, and what it runs is composed and fits what it states."""

import json
from collections import Counter
from pathlib import Path

import pytest

from harness.errors import ConfigError
from harness.machine import resource_check
from harness.machine.resource_check import needed_bytes
from harness.records.store import load_all
from harness.report.values import VALUES
from harness.reproduce.artifact import artifact_page
from harness.reproduce.claim_runs import ClaimRuns, distinct, records_of, runs_of
from harness.reproduce.claims import QUANTITIES, Paper, load_paper, overridden, papers, read_paper
from harness.reproduce.outcomes import expected_text, judged, load_outcomes
from harness.reproduce.paper_figures import figures_of

PAPER = load_paper("paper")
REFERENCE = Path(__file__).parents[3] / "results" / "reference" / "paper"
NETWORKS = {"permllm-wan", "permllm-wan2"}
SYSTEMS = {"permllm", "mpcformer", "puma"}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[ClaimRuns]:
    folder = tmp_path_factory.mktemp("results")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resource_check, "available_bytes", lambda: 24_000_000_000)
        patch.setattr("harness.reproduce.claim_runs.available_bytes", lambda: 24_000_000_000)
        return runs_of(PAPER, PAPER.claims, quick=False, more=[f"results_dir={folder}"])


def test_every_run_of_every_claim_is_composed(runs: list[ClaimRuns]) -> None:
    """And has what its claim and its figures look for."""
    assert papers() == ["families", "paper", "slowdown"]
    for each in runs:
        assert each.configs
        assert each.pending == len(each.configs)
        assert each.missing is None, each.claim.id
        assert set(each.claim.predict) <= NETWORKS
        if each.claim.predict:
            assert all(c.trace and c.shaper.name == "none" for c in each.configs)
        if each.claim.against:
            assert {"permllm"} < {config.system.name for config in each.configs} <= SYSTEMS
    whole = distinct(runs)
    assert len(whole) < sum(len(each.configs) for each in runs)
    assert {c.network.name for c in whole if c.shaper.name != "none"} == NETWORKS
    assert {c.experiment.name for c in whole} == {"argmax", "nonlinear", "layer", "model"}
    assert {c.model.d_model for c in whole if c.experiment.name == "layer"} == {
        *(768, 1024, 2048, 4096)
    }


def test_stated_memory_is_enough(runs: list[ClaimRuns]) -> None:
    for each in runs:
        most = max(sum(needed_bytes(config).values()) for config in each.configs)
        assert each.claim.memory_gb * 1e9 >= most, (each.claim.id, most)


def test_slowdown_compares_runs_that_differ_in_what_it_names(tmp_path: Path) -> None:
    paper = load_paper("slowdown")
    for claim in paper.claims:
        (runs,) = runs_of(paper, [claim], quick=False, more=[f"results_dir={tmp_path}"])
        assert {c.shaper.name for c in runs.configs} == {"none"}
        filters = [*claim.of, *claim.against]
        systems = {text.removeprefix("system=") for text in filters if text.startswith("system=")}
        named = {name for text in systems for name in text.split(",")}
        assert named <= {config.system.name for config in runs.configs}
        approx = {text for text in filters if "approx" in text}
        assert not approx or approx == {f"system.approx={c.system.approx}" for c in runs.configs}  # type: ignore[attr-defined]
        most = max(sum(needed_bytes(config).values()) for config in runs.configs)
        assert claim.memory_gb * 1e9 >= most, (claim.id, most)
        assert (claim.value == "slowdown") == (claim.unit == "orders")


def test_what_the_claims_are_of_is_known() -> None:
    assert set(QUANTITIES) <= set(VALUES)
    figures = [figure for name in papers() for figure in figures_of(load_paper(name))]
    assert [f.name for f in figures if f.value not in VALUES] == []
    quick = PAPER.chosen([], quick=True)
    assert {"argmax", "layer-bytes", "layer-bytes-mpcformer", "layer-hops", "layer"} <= {
        claim.id for claim in quick
    }


def test_quick_runs_answer_on_which_networks_the_order_turns(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Their largest argmax and their widest layer are measured under every system, and traced, on a
    machine that has too little memory for what is not quick."""
    monkeypatch.setattr("harness.reproduce.claim_runs.available_bytes", lambda: 8_000_000_000)
    monkeypatch.setattr(resource_check, "available_bytes", lambda: 8_000_000_000)
    chosen = PAPER.chosen([], quick=True)
    configs = distinct(runs_of(PAPER, chosen, quick=True, more=[f"results_dir={tmp_path}"]))
    assert len(configs) == 22
    traced = [config for config in configs if config.trace]
    assert len(traced) == 6
    assert {c.shaper.name for c in traced} == {"none"}
    measured = [c for c in configs if c.network.name == "permllm-wan" and c.shaper.name != "none"]
    three = [c for c in measured if c.experiment.name == "argmax" or c.model.name == "glm-1024"]
    largest = max(c.experiment.n for c in three if c.experiment.name == "argmax")  # type: ignore[attr-defined]
    for one in traced:
        alike = [c for c in three if (c.workload(), c.system) == (one.workload(), one.system)]
        assert len(alike) == 1
        assert one.experiment.name != "argmax" or one.experiment.n == largest  # type: ignore[attr-defined]
    by_name = Counter(c.experiment.name for c in traced)
    assert by_name == {"argmax": 3, "layer": 3}
    assert {c.system.name for c in traced} == SYSTEMS


def test_stored_outcomes_are_those_of_the_stored_records(runs: list[ClaimRuns]) -> None:
    """Otherwise: permbench reproduce --stored results_dir=results/reference/paper."""
    records, made = load_all(REFERENCE), []
    for each in runs:
        found, missing = records_of(each, records)
        made.append(judged(each.claim, found, REFERENCE, missing).row(PAPER, quick=False))
    assert json.loads(json.dumps(made)) == load_outcomes(REFERENCE)


def test_a_machine_that_is_too_small_runs_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("harness.reproduce.claim_runs.available_bytes", lambda: 7_000_000_000)
    monkeypatch.setattr(resource_check, "available_bytes", lambda: 7_000_000_000)
    some = [
        claim for claim in PAPER.claims if claim.id in ("argmax", "layer-bytes", "layer", "token")
    ]
    runs = runs_of(PAPER, some, quick=False, more=[f"results_dir={tmp_path}"])
    missing = {each.claim.id: each.missing for each in runs}
    assert missing["argmax"] is None
    assert missing["token"] == "needs 20 GB of memory, 7.0 GB are available"
    assert {c.experiment.name for c in distinct(runs)} == {"argmax", "layer"}


def test_overrides_replace_those_of_the_same_key() -> None:
    assert overridden(["a=1", "b=2"], ["b=3"]) == ["b=3", "a=1"]
    (call,) = PAPER.calls(PAPER.claims[0], quick=False, more=["repeat=9", "results_dir=x"])
    assert [text for text in call if text.startswith("repeat=")] == ["repeat=9"]
    assert "warmup=1" in call


GOOD = """\
title: T
source: S
measured: M
common: [repeat=1]
common_quick: []
claims:
  - {id: a, statement: s, said: x, place: y, runs: [experiment=argmax], of: [system=permllm],
     value: bytes, unit: MB, expected: 3, minutes: 1, memory_gb: 1, disk_mb: 1}
"""


def paper_of(text: str, tmp_path: Path) -> Paper:
    (tmp_path / "mine.yaml").write_text(text)
    return read_paper(tmp_path / "mine.yaml")


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("value: bytes", "value: byte", "claim a: no value byte; did you mean bytes?"),
        ("unit: MB", "unit: Mb", "claim a: no unit Mb"),
        ("expected: 3", "expectd: 3", "claim a has an unknown key expectd"),
        ("expected: 3,", "", "claim a: needs one of expected and at_least"),
        ("expected: 3", "expected: 3, at_least: 2", "claim a: needs one of expected and at_least"),
        ("said: x, ", "", "claim a lacks the key said"),
        (
            "value: bytes",
            "value: hops, declared: true",
            "declared costs have bytes and offline_bytes",
        ),
        ("title: T", "titel: T", "unknown key titel"),
    ],
)
def test_a_wrong_file_is_one_line(old: str, new: str, told: str, tmp_path: Path) -> None:
    assert paper_of(GOOD, tmp_path).claims[0].expected == 3
    with pytest.raises(ConfigError, match=r"^mine\.yaml: ") as error:
        paper_of(GOOD.replace(old, new), tmp_path)
    assert told in str(error.value)


def test_a_number_that_no_paper_has_needs_a_reason(tmp_path: Path) -> None:
    """And is expected to be nothing."""
    text = GOOD.replace("expected: 3", "not_comparable: nobody says")
    (claim,) = paper_of(text, tmp_path).claims
    assert expected_text(claim) == "–"
    (lines,) = [
        part for part in artifact_page(paper_of(text, tmp_path)).split("### ") if part[:1] == "a"
    ]
    assert "- expected here: – (bytes)" in lines
    assert "- not comparable: nobody says" in lines


def test_unknown_names_get_a_guess() -> None:
    with pytest.raises(ConfigError, match="did you mean layer-bytes"):
        PAPER.chosen(["layer-byte"], quick=False)
    with pytest.raises(ConfigError, match="token has no quick runs"):
        PAPER.chosen(["token"], quick=True)
    with pytest.raises(ConfigError, match="did you mean paper"):
        load_paper("papr")
