"""Our systems beside their originals: which rows there are, and what stands in them."""

from dataclasses import replace

from harness.records.record import PhaseRecord, Record
from harness.report.peer_table import peer_table
from tests.harness.conftest import build_record

STARTS = {"puma": 0, "spu-aby3": 1}
TIMES = [10_000_000, 20_000_000, 30_000_000, 10_000_000, 20_000_000, 30_000_000]


def record(system: str, factor: int = 1, payload: int = 1_000_000, **more: object) -> Record:
    """Six evaluations, in turns with those of the other systems."""
    given = [f"system={system}", "experiment=argmax", *(f"{k}={v}" for k, v in more.items())]
    made = build_record(given, wall_ns=[factor * t for t in TIMES], payload=payload)
    online: PhaseRecord = replace(
        made.phases["online"], started_ns=[10 * i + STARTS.get(system, 2) for i in range(6)]
    )
    return replace(made, phases={"online": online})


def test_an_original_stands_beside_ours_that_computed_the_same() -> None:
    records = [
        record("puma"),
        record("spu-aby3", 3, 1_250_000),
        record("spu-aby3", 3, network="puma"),  # without one of ours
        record("spu-cheetah"),  # which none of ours follows
        record("permllm"),
        replace(record("mpcformer"), status="failed"),
        record("crypten"),
    ]
    (row,) = peer_table(records).rows
    assert row == (
        *("argmax of 1000", "permllm-wan (10 ms, 1 Gbit/s)"),
        *("Puma", "20.0 ms", "spu-aby3", "60.0 ms", "3.00 [3.00–3.00]"),
        *("1.00 MB", "1.25 MB", "1.25", "0.0002 / 0.0002"),
    )


def test_a_link_outside_tolerance_is_marked() -> None:
    ours, peer = record("puma"), record("spu-aby3")
    peer = replace(peer, network=replace(peer.network, within_tolerance=False))
    (row,) = peer_table([ours, peer]).rows
    assert (row[3], row[5]) == ("20.0 ms", "20.0 ms*")


def test_the_dealer_s_work_counts_as_time_of_ours() -> None:
    """12 ms of it."""
    ours = record("puma")
    dealt = replace(ours.phases["online"], wall_ns=[12_000_000])
    ours = replace(ours, phases={**ours.phases, "offline": dealt})
    (row,) = peer_table([ours, record("spu-aby3", 3)]).rows
    assert (row[3], row[5]) == ("32.0 ms", "60.0 ms")
    assert row[6].startswith("1.88 [")


def test_runs_that_did_not_take_turns_have_no_pairs() -> None:
    """Ratios of neighbours would be 3, 1.5 and 1 where these are of the medians."""
    later = record("spu-aby3", 1)
    online = replace(
        later.phases["online"],
        started_ns=[1000 + i for i in range(6)],
        wall_ns=[30_000_000] * 3 + [60_000_000] * 3,
    )
    (row,) = peer_table([record("puma"), replace(later, phases={"online": online})]).rows
    assert row[6].startswith("2.25 [")
