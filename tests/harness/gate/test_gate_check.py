"""What the gate says of a row, with parties that answer from a script."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from harness.config.compose import compose_run
from harness.config.schema import RunConfig
from harness.errors import GateFailure
from harness.gate.baseline import Row, counts_of
from harness.gate.check import Result, Timing, check_row
from harness.records.record import Record
from tests.harness.conftest import build_record

WORDS = ("experiment.n=1000",)
STEADY = [10_000_000 + 10_000 * (i % 7) for i in range(12)]
SLOWER = [ns * 6 // 5 for ns in STEADY]
NOISY = [ns * (2 if i % 2 else 1) for i, ns in enumerate(STEADY)]
BASE = build_record(WORDS, wall_ns=STEADY)
ROW = Row("a row", WORDS, 1.05, counts_of(BASE), tuple(STEADY))
AGAINST = Timing(against=True, patience_s=5)
Batch = Sequence[Record] | GateFailure


def side(wall_ns: Sequence[int] = STEADY, **changes: Any) -> Record:
    return replace(build_record(WORDS, wall_ns=wall_ns), **changes)


class Script:
    """A bench: each measurement is the next of its batches; the last one is repeated."""

    def __init__(self, *batches: Batch) -> None:
        self._batches = list(batches)
        self.renewed = self.measured = 0
        self.configs: list[RunConfig] = []

    def measure(self, config: RunConfig, alone: bool = False) -> list[Record]:
        self.configs.append(config)
        self.measured += 1
        batch = self._batches.pop(0) if len(self._batches) > 1 else self._batches[0]
        if isinstance(batch, GateFailure):
            raise batch
        return list(batch)[-1:] if alone else list(batch)

    def renew(self) -> None:
        self.renewed += 1


class Clock:
    """A second passes at every look."""

    def __init__(self) -> None:
        self._now = 0.0

    def __call__(self) -> float:
        self._now += 1
        return self._now


def judged(
    *batches: Batch, row: Row = ROW, timing: Timing = AGAINST, arguments: Sequence[str] = WORDS
) -> tuple[Result, Script]:
    bench = Script(*batches)
    return check_row(row, compose_run(arguments), bench, replace(timing, clock=Clock())), bench


def verdicts(result: Result) -> dict[str, str | None]:
    return {check.kind: check.verdict for check in result.checks}


def text(result: Result) -> str:
    return "\n".join(line for check in result.checks for line in check.lines)


EQUAL, SLOW, NOISE = (side(), side()), (side(), side(SLOWER)), (side(), side(NOISY))


def test_equal_sides_are_fine() -> None:
    result, bench = judged(EQUAL)
    assert verdicts(result) == {"run": "fine", "counts": "fine", "time": "fine"}
    assert (bench.measured, bench.renewed) == (1, 0)


def test_slower_is_a_regression_once_fresh_parties_confirm_it() -> None:
    result, bench = judged(SLOW)
    assert verdicts(result)["time"] == "regression"
    assert (bench.measured, bench.renewed) == (2, 1)
    assert "confirmed" in text(result)


def test_slower_only_once_is_no_regression() -> None:
    result, bench = judged(SLOW, EQUAL)
    assert verdicts(result)["time"] == "fine"
    assert bench.renewed == 1
    assert "not with fresh parties" in text(result)


def test_noise_is_measured_longer_and_then_cannot_tell() -> None:
    result, bench = judged(NOISE)
    assert verdicts(result)["time"] == "cannot tell"
    assert "noisy" in text(result)
    assert [config.repeat for config in bench.configs[1:]] == [12, 24, 36, 48, 60]


def test_what_is_fine_only_by_a_wide_interval_is_measured_longer() -> None:
    """A machine that others keep busy can make anything look fast for a moment."""
    result, bench = judged((side(), side([ns * 2 // 5 for ns in NOISY])))
    assert (verdicts(result)["time"], bench.measured) == ("fine", 6)


def test_noise_that_ends_is_no_reason() -> None:
    result, _ = judged(NOISE, EQUAL)
    assert verdicts(result)["time"] == "fine"


def test_a_threshold_is_the_rows_own() -> None:
    result, _ = judged(SLOW, row=replace(ROW, threshold=1.3))
    assert verdicts(result)["time"] == "fine"


@pytest.mark.parametrize(
    ("found", "timing", "row", "expected"),
    [
        (SLOWER, Timing(), ROW, "regression"),
        (STEADY, Timing(), ROW, "fine"),
        (SLOWER, Timing(why_not="another machine"), ROW, None),
        (SLOWER, Timing(), replace(ROW, online_ns=()), None),
        (NOISY, Timing(patience_s=1e9), ROW, "cannot tell"),
    ],
    ids=["slower", "equal", "another machine", "no times", "more samples would not help"],
)
def test_times_of_the_baseline(
    found: list[int], timing: Timing, row: Row, expected: str | None
) -> None:
    result, bench = judged([side(found)], row=row, timing=timing)
    assert verdicts(result) == {"run": "fine", "counts": "fine", "time": expected}
    quick = bench.configs[0].shaper.name == "none" and bench.configs[0].repeat == 1
    assert quick == (expected is None)  # nothing is timed that is not compared


def test_a_bad_link_makes_times_worthless_and_counts_not() -> None:
    off = replace(BASE.network, within_tolerance=False)
    records = (side(), side(SLOWER, network=off))
    strict, _ = judged(records)
    assert verdicts(strict) == {"run": "fine", "counts": "fine", "time": "cannot tell"}
    assert "outside tolerance" in text(strict)
    accepted, _ = judged(records, arguments=[*WORDS, "calibration.strict=false"])
    assert verdicts(accepted)["time"] == "regression"


def test_a_wrong_answer_is_a_regression() -> None:
    result, _ = judged((side(), side(status="incorrect", error="wrong indices 3, allowed 0")))
    assert (verdicts(result)["run"], result.verdict) == ("regression", "regression")


def test_the_others_wrong_answer_says_nothing_of_this_tree() -> None:
    result, _ = judged((side(status="incorrect", error="off"), side()))
    assert result.verdict == "cannot tell"
    assert "the other checkout" in text(result)


def test_different_counts_are_a_regression_whatever_the_time() -> None:
    more = build_record(WORDS, wall_ns=STEADY, payload=400_016)
    result, _ = judged((side(), more))
    assert (verdicts(result)["counts"], verdicts(result)["time"]) == ("regression", "fine")
    assert "online P0>P1: payload bytes 200008, expected 200000 (+8)" in text(result)


def test_no_counts_to_compare_with_cannot_tell() -> None:
    result, _ = judged(EQUAL, row=Row("new", WORDS))
    assert verdicts(result)["counts"] == "cannot tell"
    assert "--update" in text(result)


def test_a_row_of_counts_alone_is_not_timed() -> None:
    """Whatever its times are, and in whichever mode."""
    for timing in (AGAINST, Timing()):
        result, bench = judged(SLOW, row=replace(ROW, counts_only=True), timing=timing)
        assert verdicts(result) == {"run": "fine", "counts": "fine", "time": None}
        assert "of counts alone" in text(result)
        assert [config.repeat for config in bench.configs] == [1]


def test_a_run_that_fails_cannot_tell() -> None:
    result, _ = judged(GateFailure("P1 was killed by SIGKILL"))
    assert (result.verdict, text(result)) == ("cannot tell", "P1 was killed by SIGKILL")


def test_another_checkout_that_fails_leaves_the_counts() -> None:
    result, bench = judged(GateFailure("/base: P0: no workload of kind 'linear'"), EQUAL)
    assert verdicts(result) == {"run": "fine", "counts": "fine", "time": "cannot tell"}
    assert "no workload" in text(result)
    assert bench.configs[1].repeat == 1


def test_parties_lost_in_the_repetition_cannot_tell() -> None:
    result, _ = judged(SLOW, GateFailure("P1 was killed by SIGKILL"))
    assert (result.verdict, verdicts(result)["run"]) == ("cannot tell", "fine")
