"""When links are measured, and what of it a record says."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from harness.config.compose import compose_run
from harness.measure.session import Session
from harness.parties.group import PartyGroup
from harness.parties.link_check import ATTEMPTS, Calibration, calibrate
from harness.progress import PlainProgress
from harness.records.record import Record
from protocols.party import P0, P1, Role

PAIRS: tuple[tuple[Role, Role], ...] = ((P0, P1),)


class Link:
    """A link that is outside tolerance for its first `bad` measurements."""

    def __init__(self, bad: int = 0) -> None:
        self.count, self._bad = 0, bad

    def measure(self, pairs: Sequence[tuple[Role, Role]]) -> dict[tuple[Role, Role], Any]:
        self.count += 1
        outside = ["rtt"] if self.count <= self._bad else []
        return {pair: {"measured": {"count": self.count}, "outside": outside} for pair in pairs}


@pytest.mark.parametrize(("bad", "count"), [(0, 1), (1, 2), (9, ATTEMPTS)])
def test_a_noisy_link_gets_several_attempts(bad: int, count: int) -> None:
    link = Link(bad)
    found = calibrate(link.measure, PAIRS, PlainProgress())
    assert (link.count, found.measured) == (count, {"P0-P1": {"count": count}})
    assert found.outside == (["P0-P1: rtt"] if bad == 9 else [])


def test_only_a_good_and_recent_measurement_of_the_same_links_counts() -> None:
    good = Calibration(PAIRS, {}, [])
    assert good.covers(PAIRS, max_age_s=60)
    assert not good.covers((*PAIRS, ("P0", "P2")), max_age_s=60)
    assert not good.covers(PAIRS, max_age_s=0)
    assert not replace(good, at_s=good.at_s - 61).covers(PAIRS, max_age_s=60)
    assert not replace(good, outside=["rtt"]).covers(PAIRS, max_age_s=60)


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
