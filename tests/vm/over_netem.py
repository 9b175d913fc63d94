"""What a record of an argmax over real netem must say, wherever its parties lived."""

from pathlib import Path

from harness.records.record import Record
from harness.records.store import load_all
from netem.tc import goodput


def checked(results_dir: Path) -> Record:
    """The only record there: right in every trial, no faster than its link, every byte through the queues."""
    (record,) = load_all(results_dir)
    assert (record.status, record.error) == ("ok", None)
    assert record.phases["online"].hops == 4
    assert min(record.phases["online"].wall_ns) >= 4 * 5_000_000
    link = record.network.measured["P0-P1"]
    assert link["rtt_s"] >= 10e-3
    # The time of a ping, which is late on a busy kernel, is taken off that of the bulk.
    for way in ("forward", "backward"):
        assert link[way]["bulk_bit_s"] <= 1.2 * goodput() * 1e9
    counted = record.network.interfaces["P0"]["counted"]["P1"]
    assert counted["dropped"] == 0
    assert counted["bytes"] > counted["wire_bytes"] > 4 * 10_000
    return record
