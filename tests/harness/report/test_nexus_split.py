"""NEXUS's published split beside a bootstrapping measured here."""

from collections.abc import Callable

from harness.records.record import Record
from harness.report.nexus_split import nexus_note, split

MakeRecord = Callable[..., Record]


def test_the_split_is_told_in_bootstrappings_of_ours(make_record: MakeRecord) -> None:
    """The parts of the published table are 8 s short of its total."""
    parts = split()
    assert parts.pop("total") == 857
    assert sum(parts.values()) == 849
    measured = ["experiment=bootstrapping", "system=orion"]
    told = nexus_note(make_record(measured, wall_ns=[10_000_000_000]))
    assert told is not None
    assert "534 of 857 s (62.3%)" in told
    assert "as long as 53.4 of 10.0 s each; all else is as long as 32.3" in told
    toy = nexus_note(make_record([*measured, "experiment.log_n=13"], wall_ns=[1]))
    assert toy == "a ring below 2^16 is not secure: its time is that of a test"
    assert nexus_note(make_record(measured, status="failed")) is None
    assert nexus_note(make_record(["experiment.n=5"])) is None
