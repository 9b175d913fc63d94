"""What drafted tokens would gain: expected tokens, and the ratio to decode steps."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from harness.config.compose import compose_run
from harness.records.draft_gain import COLUMNS, columns, expected_tokens, gains
from harness.records.record import Record, StepRecord
from harness.report.columns import columns_of
from protocols.workload import steps

MakeRecord = Callable[..., Record]
MS = 1_000_000


def test_expected_tokens() -> None:
    """The closed form away from 1, and its limits: one token where all are wrong, all where all are
    right."""
    for k in (1, 4, 7):
        assert expected_tokens(0.0, k) == 1
        assert expected_tokens(1.0, k) == k + 1
        for a in (0.3, 0.9):
            assert expected_tokens(a, k) == pytest.approx((1 - a ** (k + 1)) / (1 - a))


def test_a_run_has_a_decode_step_to_compare_with_and_its_token_begins_the_pass() -> None:
    work = compose_run(["experiment=verify", "experiment.drafted=3"]).workload()
    plan = [(step.kind, step.tokens, step.picks) for step in steps(work)]
    assert plan == [("prefill", 32, 1), ("decode", 1, 1), ("verify", 4, 4)]


@pytest.fixture
def verified(make_record: MakeRecord) -> Record:
    """Three evaluations; decode steps of 11 ms and passes of 22 ms in the median."""
    steps = []
    for evaluation, (decode, whole) in enumerate(((10, 20), (11, 22), (90, 91))):
        steps.append(StepRecord(evaluation, "prefill", 32, 100 * MS, 0, 12, 1000))
        steps.append(StepRecord(evaluation, "decode", 1, decode * MS, 0, 12, 1000))
        steps.append(StepRecord(evaluation, "verify", 5, whole * MS, 0, 12, 1000))
    asked = ["experiment=verify", "experiment.drafted=4", "experiment.acceptance=[0.5,1.0]"]
    return replace(make_record(asked), steps=steps)


def test_gains_are_of_medians(verified: Record) -> None:
    half, all_right = gains(verified)
    assert (half.acceptance, half.tokens, half.speed_up) == (0.5, 1.9375, 1.9375 / 2)
    assert (all_right.acceptance, all_right.tokens, all_right.speed_up) == (1.0, 5.0, 2.5)
    assert columns(verified) == {
        "pass_ns": 22 * MS,
        "decode_ns": 11 * MS,
        "tokens": [1.9375, 5.0],
        "speed_up": [1.9375 / 2, 2.5],
    }


def test_a_table_has_a_column_for_each_rate(verified: Record, make_record: MakeRecord) -> None:
    records = [verified, make_record(["experiment=verify", "system=puma"], status="failed")]
    cells = {column.head: column.cell for column in columns_of(records)}
    for head, shown in (
        ("gain at 0.5", "0.969 (1.94 tokens)"),
        ("gain at 1", "2.50 (5.00 tokens)"),
    ):
        assert [cells[head](record) for record in records] == [shown, "–"]


def test_other_records_have_none(make_record: MakeRecord) -> None:
    record = make_record(["experiment=model"])
    assert gains(record) == []
    assert columns(record) == dict.fromkeys(COLUMNS)
