"""Outcomes follow from the records: each kind of end, its reason, and what is compared with what."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from harness.cli.main import main
from harness.config.config_hash import config_hash
from harness.records import store
from harness.records.record import Record, StepRecord
from harness.replay import trace_file
from harness.reproduce.claim_runs import distinct, runs_of
from harness.reproduce.claims import Claim, load_paper
from harness.reproduce.outcomes import (
    Outcome,
    judged,
    judged_declared,
    load_outcomes,
    outcome_table,
    save_outcomes,
)
from harness.version import REPO
from tests.traces import MS, echo_trace

MakeRecord = Callable[..., Record]
BASE = Claim(
    id="bytes", statement="s", said="x", place="y", runs=(), of=("system=permllm",), value="bytes",
    unit="MB", minutes=1, memory_gb=1, disk_mb=1, expected=0.4, tolerance=0.1,
)  # fmt: skip
FASTER = replace(
    BASE, against=("system=mpcformer,puma",), value="online", unit="times", expected=None,
    at_least=1.0, tolerance=0.05,
)  # fmt: skip
NOWHERE = Path("/nowhere")


def ends(claim: Claim, records: Sequence[Record], folder: Path = NOWHERE) -> Outcome:
    return judged(claim, records, folder)


@pytest.mark.parametrize(
    ("payload", "result"),
    [(400_000, "held"), (436_000, "held"), (364_000, "held"), (444_000, "near"), (600_000, "off")],
)
def test_a_number_is_held_near_or_off(payload: int, result: str, make_record: MakeRecord) -> None:
    found = ends(BASE, [make_record(payload=payload)])
    assert found.result == result
    assert found.here == f"{payload / 1e6:.3f} MB"
    assert (found.reason == "") == (result == "held")


def test_the_worst_of_several_decides(make_record: MakeRecord) -> None:
    records = [make_record([f"experiment.n={n}"], payload=n) for n in (400_000, 900_000)]
    found = ends(BASE, records)
    assert (found.result, found.here) == ("off", "0.400 to 0.900 MB")
    assert found.reason == "125 % more than said (n=900000)"


def faster(make_record: MakeRecord, *ms: int) -> list[Record]:
    """PermLLM, MPCFormer and Puma."""
    systems = ("permllm", "mpcformer", "puma")
    return [
        make_record([f"system={s}"], wall_ns=[n * MS]) for s, n in zip(systems, ms, strict=True)
    ]


def test_ratios_are_of_runs_that_differ_in_the_system_alone(make_record: MakeRecord) -> None:
    records = faster(make_record, 10, 30, 20)
    other = make_record(["system=puma", "network=loopback"], wall_ns=[1])
    found = ends(FASTER, [*records, other])
    assert (found.result, found.here) == ("held", "2.00 to 3.00 times")
    lost = ends(FASTER, faster(make_record, 10, 30, 7))
    assert (lost.result, lost.here) == ("off", "0.700 to 3.00 times")
    assert lost.reason == "30.0 % less than said (n=1000 against puma)"
    assert ends(FASTER, faster(make_record, 100, 99, 91)).result == "near"
    assert ends(FASTER, [records[0], other]).result == "not comparable"


def test_a_system_beside_itself_is_named_by_its_options(make_record: MakeRecord) -> None:
    """Puma with its own functions takes 3 times what it takes with friendly ones, where 5 is said."""
    approx = {"puma": 30, "friendly": 10}
    records = [
        make_record(["experiment=layer", "system=puma", f"system.approx={name}"], wall_ns=[ms * MS])
        for name, ms in approx.items()
    ]
    claim = replace(
        FASTER, of=("system.approx=friendly",), against=("system.approx=puma",), at_least=None,
        expected=5, tolerance=0.1,
    )  # fmt: skip
    found = ends(claim, records)
    assert (found.result, found.here) == ("off", "3.00 times")
    assert found.reason == "40.0 % less than said (q_len=1 kv_len=128 against approx=puma)"


def test_orders_of_magnitude_are_held_by_their_difference(make_record: MakeRecord) -> None:
    record = make_record(["experiment=slowdown", "shaper=none"], wall_ns=[3 * MS])
    claim = replace(BASE, value="slowdown", unit="orders", expected=5)
    for clear, result in ((30, "held"), (300, "near"), (30_000, "off")):
        found = ends(claim, [replace(record, pytorch_ns=[clear])])
        assert found.result == result, found
    assert found.here == "2.00 orders"
    assert ends(claim, [record]).result == "not comparable"


def test_unlike_machines_are_not_compared(make_record: MakeRecord) -> None:
    here, *others = faster(make_record, 10, 30, 20)
    there = replace(here, environment={**here.environment, "cpu_model": "Other"})
    found = ends(FASTER, [there, *others])
    assert (found.result, found.reason) == (
        "not comparable",
        "its runs were not made alike: machine differs",
    )


def test_a_link_outside_tolerance_is_told(make_record: MakeRecord) -> None:
    """A ratio is marked; a time of its own says nothing; bytes do not mind."""
    records = faster(make_record, 10, 30, 20)
    off = replace(records[0], network=replace(records[0].network, within_tolerance=False))
    found = ends(FASTER, [off, *records[1:]])
    assert (found.result, found.here) == ("held", "2.00 to 3.00 times*")
    assert found.reason == "a link was outside tolerance"
    time = replace(BASE, value="online", unit="ms", expected=10)
    assert ends(time, [records[0]]).result == "held"
    assert ends(time, [off]).result == "not comparable"
    assert ends(BASE, [off]).result == "held"


def test_ends_without_a_number(make_record: MakeRecord) -> None:
    missing = judged(BASE, [], NOWHERE, "needs 19 GB of memory, 7.0 GB are available")
    assert (missing.result, missing.here) == ("not run", "–")
    assert missing.reason.startswith("needs 19 GB")
    failed = ends(BASE, [make_record(status="failed")])
    assert (failed.result, failed.reason) == (
        "not run",
        "a run ended as failed: P1: killed by signal 9",
    )
    odd = replace(make_record(status="failed"), status="unsupported", error="no argmax here")
    assert (ends(BASE, [odd]).result, ends(BASE, [odd]).reason) == (
        "not comparable",
        "no argmax here",
    )
    known = replace(BASE, not_comparable="the paper's is of another phase")
    assert ends(known, [make_record()]).result == "not comparable"
    assert ends(known, [make_record()]).here == "0.400 MB"
    unknown = replace(known, expected=None, layers=28)
    assert (ends(unknown, [make_record()]).result, ends(unknown, [make_record()]).here) == (
        *("not comparable", "11.2 MB"),
    )


def test_a_token_is_one_of_the_decode_steps(make_record: MakeRecord) -> None:
    steps = [
        StepRecord(0, "prefill", 8, 900, 1, 340, 9_000_000),
        *[StepRecord(0, "decode", 1, 100, 1, 342, size) for size in (1, 400_000, 400_001)],
    ]
    record = replace(make_record(["experiment=model"]), steps=steps)
    assert ends(replace(BASE, a_token=True), [record]).here == "0.400 MB"
    hops = replace(BASE, a_token=True, value="hops", unit="hops", expected=342, tolerance=0)
    assert ends(hops, [record]).result == "held"
    assert ends(replace(hops, expected=341), [record]).result == "off"


def test_a_prediction_is_of_a_traced_run(tmp_path: Path, make_record: MakeRecord) -> None:
    traced = make_record(["shaper=none", "trace=true"])
    claim = replace(
        BASE, value="online", unit="ms", expected=28 * 18.925, predict=("permllm-wan",), layers=28,
        tolerance=0.02,
    )  # fmt: skip
    assert ends(claim, [traced], tmp_path).result == "not comparable"
    store.save(tmp_path, traced)
    trace_file.save(tmp_path, echo_trace(traced.id))
    found = ends(claim, [traced], tmp_path)
    assert found.result == "held"
    assert found.here.endswith("ms (predicted)")


def test_declared_costs_are_judged_without_a_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What SIGMA prints of a model that is too large to run here."""
    ids = ("pass-llama-2-13b", "keys-llama-2-13b")
    paper = load_paper("families")
    runs = runs_of(paper, paper.chosen(ids, quick=True), True, [f"results_dir={tmp_path}"])
    assert [(each.pending, each.missing, len(each.configs)) for each in runs] == [(0, None, 1)] * 2
    assert distinct(runs) == []
    assert main(["reproduce", "families", *ids, f"results_dir={tmp_path}"]) == 0
    found = {row["id"]: (row["outcome"], row["here"]) for row in load_outcomes(tmp_path)}
    assert found == {
        "pass-llama-2-13b": ("near", "16.7 GiB (declared)"),
        "keys-llama-2-13b": ("off", "408 GiB (declared)"),
    }
    assert store.load_all(tmp_path) == []
    assert (
        "51.3 % less than said (prompt_len=128 new_tokens=1)"
        in load_outcomes(tmp_path)[1]["reason"]
    )
    capsys.readouterr()


def test_a_smaller_model_was_measured_beside_what_is_declared() -> None:
    paper, records = load_paper("families"), store.load_all(REPO / "results/reference/families")
    found = {}
    for claim in paper.chosen(["pass-bert-base", "keys-bert-base"], quick=False):
        (runs,) = runs_of(paper, [claim], False, ["results_dir=results/runs", "memory.check=false"])
        (config,) = runs.configs
        (record,) = [each for each in records if each.id == config_hash(config)]
        found[claim.id] = judged(claim, [record], NOWHERE)
        without = judged_declared(replace(claim, declared=True), runs.configs)
        assert without.here == f"{found[claim.id].here} (declared)"
    assert (found["pass-bert-base"].result, found["pass-bert-base"].here) == ("held", "0.949 GiB")
    assert (found["keys-bert-base"].result, found["keys-bert-base"].here) == ("near", "25.5 GiB")


def test_outcomes_are_kept_beside_the_records(tmp_path: Path, make_record: MakeRecord) -> None:
    """Those of claims that were not chosen this time stay."""
    paper = load_paper("paper")
    bytes_, hops = (c for c in paper.claims if c.id in ("layer-bytes", "layer-hops"))
    record = make_record(["experiment=layer"], payload=int(0.5 * 2**20), hops=13)
    first = [ends(bytes_, [record]), ends(hops, [record])]
    save_outcomes(tmp_path, first, paper, quick=False)
    save_outcomes(tmp_path, [judged(hops, [], tmp_path, "no time")], paper, quick=True)
    assert [(r["id"], r["outcome"], r["here"]) for r in load_outcomes(tmp_path)] == [
        ("layer-bytes", "held", "0.500 MiB"),
        ("layer-hops", "not run", "–"),
    ]
    (path,) = tmp_path.glob("*.json")
    assert json.loads(path.read_text())[1]["command"] == (
        "permbench reproduce paper --quick layer-hops"
    )
    table = outcome_table(first, paper)
    assert table.title.endswith("2 claims, 1 held, 1 off")
    assert table.rows[0][:5] == (
        *("layer-bytes", "0.49 MB", "0.49 MiB ± 10 %", "0.500 MiB", "held"),
    )
    path.write_text("[")
    assert load_outcomes(tmp_path) == []
