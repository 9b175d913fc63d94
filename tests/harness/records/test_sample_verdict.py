"""What samples say of a row, on samples of which the fault is known."""

import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from harness.records.query import flat_row
from harness.records.record import Record, StepRecord
from harness.records.sample_verdict import judge, verdict
from harness.records.stats import P95_LEAST, spread

MakeRecord = Callable[..., Record]
MS = 1_000_000


def noise(n: int, share: float, seed: int = 1, middle: float = 30 * MS) -> list[float]:
    """Times around a middle, with a normal scatter of that share of it."""
    rng = random.Random(seed)
    return [middle * (1 + rng.gauss(0, share)) for _ in range(n)]


def drifting(n: int, change: float) -> list[float]:
    return [t * (1 + change * i / (n - 1)) for i, t in enumerate(noise(n, 0.005))]


@pytest.mark.parametrize(
    ("samples", "words"),
    [
        (noise(10, 0.01), ()),
        (noise(300, 0.03), ()),
        (noise(5, 0.01), ("few",)),
        ([30 * MS], ("few",)),
        (noise(10, 0.01, middle=0.4 * MS), ("short",)),
        (noise(12, 0.2), ("spread",)),
        ([*noise(9, 0.01), 90 * MS], ("outliers",)),
        ([*noise(9, 0.01), 10 * MS], ("outliers",)),
        ([*noise(39, 0.01), 90 * MS], ()),
        ([*[30 * MS] * 9, 31 * MS], ()),
        (drifting(12, 0.09), ("drift",)),
        (drifting(12, -0.09), ("drift",)),
        (drifting(12, 0.03), ()),
        (drifting(3000, 0.09), ("drift",)),
        ([*noise(3, 0.2), 90 * MS], ("few", "spread")),
    ],
)
def test_each_fault_is_named_and_nothing_else(samples: list[float], words: tuple[str, ...]) -> None:
    found = judge(samples, "evaluations")
    assert found.words == words
    assert len(found.reasons) == len(words)
    assert str(found) == (", ".join(words) or "good")


def test_steady_noise_is_rarely_called_a_drift() -> None:
    """5 % of noise has trends of 5 % by chance; a test of 1 % lets few of them through."""
    found = [judge(noise(10, 0.05, seed), "evaluations").words for seed in range(300)]
    assert sum("drift" in words for words in found) <= 9


def test_reasons_have_the_numbers() -> None:
    (reason,) = judge([*[30 * MS] * 9, 90 * MS], "evaluations").reasons
    assert reason == (
        "1 of 10 evaluations far from the others, one 90.0 ms beside a median of 30.0 ms"
    )
    (reason,) = judge(drifting(12, -0.09), "evaluations").reasons
    assert reason.startswith("times fell by ")


def test_a_model_that_was_run_once_is_judged_by_its_tokens(make_record: MakeRecord) -> None:
    """Whose times grow with their position, which is no drift."""
    once = make_record(["experiment=model"], wall_ns=[500 * MS])
    steps = [StepRecord(0, "decode", 1, round(t), 0, 4, 100) for t in drifting(12, 0.09)]
    assert str(verdict(once)) == "few"
    assert verdict(replace(once, steps=steps)).judged == "tokens"
    assert str(verdict(replace(once, steps=steps))) == "good"


def test_rows_carry_it(make_record: MakeRecord) -> None:
    row = flat_row(make_record())
    assert row["verdict"] == "few"
    assert row["verdict_reason"].startswith("3 evaluations: fewer than 6")
    assert row["online.p95_ns"] is None
    assert (flat_row(make_record(status="failed"))["verdict"]) == "–"


def test_the_95th_percentile_needs_samples_beyond_it() -> None:
    few, enough = spread(range(P95_LEAST - 1)), spread(range(P95_LEAST + 1))
    assert few is not None
    assert few.p95 is None
    assert enough is not None
    assert enough.p95 == 19
