"""When links are measured, and what of it a record says."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from itertools import combinations, permutations
from typing import Any

import pytest

from harness.config.compose import compose_run
from harness.measure.session import Session
from harness.measure.sweep import summary
from harness.parties import link_check
from harness.parties.group import PartyGroup
from harness.parties.job import Shaping
from harness.parties.link_check import Calibration, calibrate
from harness.progress import PlainProgress
from harness.records.record import OUTSIDE, REMEDY, Record
from harness.report.tables import print_tables
from netem.profile import LinkProfile
from netem.tolerance import Deviation
from protocols.party import ALL_ROLES, P0, P1, Role

OFF = (Deviation("", "rtt", 1.5), Deviation("backward", "bulk", 8.0))
PAIRS: tuple[tuple[Role, Role], ...] = ((P0, P1),)


class Link:
    """A link that is outside tolerance for its first `bad` measurements."""

    def __init__(self, bad: int = 0) -> None:
        self.count, self._bad = 0, bad

    def measure(self, pairs: Sequence[tuple[Role, Role]]) -> dict[tuple[Role, Role], Any]:
        self.count += 1
        outside = [asdict(each) for each in OFF] if self.count <= self._bad else []
        return {pair: {"measured": {"count": self.count}, "outside": outside} for pair in pairs}


class Clock:
    """Time that passes in waits alone."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s, self.waits = 0.0, list[float]()
        monkeypatch.setattr(link_check, "monotonic", lambda: self.now_s)
        monkeypatch.setattr(link_check, "sleep", self.sleep)

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now_s += seconds


def test_of_many_alike_links_three_are_measured_at_every_size() -> None:
    """Two profiles make a kind of link, whichever direction has which; three roles have no more."""
    near, far = LinkProfile(0.001), LinkProfile(0.02, 5e7)
    pairs = list(combinations(ALL_ROLES[:6], 2))
    links = {f"{a}>{b}": far if P1 in (a, b) else near for a, b in permutations(ALL_ROLES[:6], 2)}
    links["P1>P0"] = near
    briefly = Shaping("emulated", links).measured_briefly(pairs)
    full = [pair for pair in pairs if pair not in briefly]
    assert full == [
        *(("P0", "P1"), ("P0", "P2"), ("P0", "P3"), ("P0", "P4")),
        *(("P1", "P2"), ("P1", "P3"), ("P1", "P4")),
    ]
    assert not Shaping().measured_briefly(list(combinations(ALL_ROLES[:3], 2)))


@pytest.mark.parametrize(
    ("bad", "patience_s", "waits"),
    [(0, 30, []), (1, 30, [1]), (3, 30, [1, 2, 4]), (99, 30, [1, 2, 4, 8, 15]), (9, 0, [])],
)
def test_a_noisy_link_is_measured_again_after_waits_that_grow(
    bad: int,
    patience_s: float,
    waits: list[float],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    link, clock = Link(bad), Clock(monkeypatch)
    found = calibrate(link.measure, PAIRS, PlainProgress(), patience_s)
    count = len(waits) + 1
    assert clock.waits == waits
    assert (link.count, found.measured) == (count, {"P0-P1": {"count": count}})
    assert found.outside == (["P1>P0 bulk", "P0-P1 rtt"] if bad >= count else [])  # the worst first
    assert ("P1>P0 bulk and 1 more; load" in capsys.readouterr().err) == bool(waits)


def test_only_a_good_and_recent_measurement_of_the_same_links_counts() -> None:
    good = Calibration(PAIRS, {}, [])
    assert good.covers(PAIRS, max_age_s=60)
    assert not good.covers((*PAIRS, ("P0", "P2")), max_age_s=60)
    assert not good.covers(PAIRS, max_age_s=0)
    assert not replace(good, at_s=good.at_s - 61).covers(PAIRS, max_age_s=60)
    assert not replace(good, outside=["rtt"]).covers(PAIRS, max_age_s=60)


@pytest.mark.slow
def test_a_refusal_says_the_worst_and_what_to_do_and_waits_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    link = Link(bad=99)
    monkeypatch.setattr(PartyGroup, "calibrate", lambda parties, pairs: link.measure(pairs))
    monkeypatch.setattr(link_check, "FIRST_WAIT_S", 0.05)
    few = ["repeat=1", "warmup=0", "calibration.patience_s=0.1", "results_dir=elsewhere"]
    with Session() as session:
        first, later = (
            session.run(compose_run([f"experiment.n={n}", *few]), PlainProgress()) for n in (5, 6)
        )
    assert link.count == 3 + 1  # the second run does not wait again
    assert (first.error or "").startswith(f"{OUTSIDE}: P1>P0 bulk and 1 more; load ")
    assert "rtt" not in (first.error or "")
    assert first.logs["link"] == ["P1>P0 bulk", "P0-P1 rtt"]
    capsys.readouterr()
    print_tables([first, later])
    output = capsys.readouterr().out
    assert output.count(REMEDY) == 1
    assert f"(permbench show {first.id} results_dir=elsewhere)" in output
    assert summary(first, "title") == f"failed      title: {OUTSIDE}"


@pytest.mark.slow
def test_links_are_measured_again_only_where_they_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    link = Link()
    monkeypatch.setattr(PartyGroup, "calibrate", lambda parties, pairs: link.measure(pairs))
    with Session() as session:

        def run(*arguments: str, max_age_s: int = 3600) -> Record:
            age = f"calibration.max_age_s={max_age_s}"
            config = compose_run(["experiment.n=10", "repeat=1", "warmup=0", age, *arguments])
            record = session.run(config, PlainProgress())
            assert record.status == "ok"
            return record

        first, same = run(), run("experiment.n=20", "repeat=2")
        assert link.count == 1
        assert same.network == first.network
        assert first.network.calibrated_at is not None
        counts = []
        for arguments in (["network.rtt_ms=5"], [], ["shaper=none"]):
            run(*arguments)
            counts.append(link.count)
        run("shaper=none", max_age_s=0)
        counts.append(link.count)
        assert counts == [2, 3, 4, 5]
        run("threads=2")  # other parties
        assert link.count == 6
