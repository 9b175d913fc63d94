"""What calibration measured, as tables for people."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from harness.records.record import Record
from harness.records.stats import format_bytes, format_ns
from harness.report.tables import print_fitting

HEADS = ("link", "what", "profile", "measured", "off by")
RTT = "round trip"


def print_links(records: Sequence[Record]) -> None:
    """One table for each record: round trip, message ladder and bulk rates of every link."""
    for record in records:
        names = [record.config[group]["name"] for group in ("network", "runner", "shaper")]
        title = f"links of {names[0]}, runner {names[1]}, shaper {names[2]}"
        print_fitting([Group(Text(title, "bold"), _table(record))])
        print(f"{record.status}: {record.error or _verdict(record)}")
        print()


def _verdict(record: Record) -> str:
    within = record.network.within_tolerance
    return "within tolerance" if within else "outside tolerance" if within is False else "no link"


def _table(record: Record) -> Table:
    table = Table(box=None, padding=(0, 1))
    for head in HEADS:
        table.add_column(head, justify="left" if head in HEADS[:2] else "right")
    for pair, link in record.network.measured.items():
        for row in _rows(pair, link):
            table.add_row(*row)
    return table


def _rows(pair: str, link: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    a, _, b = pair.partition("-")
    yield pair, RTT, *_times(link["expected_rtt_s"], link["rtt_s"], link["rtt_error"])
    for name, direction in ((f"{a}>{b}", link["forward"]), (f"{b}>{a}", link["backward"])):
        for rung in direction["ladder"]:
            what = f"{format_bytes(rung['bytes'])} after idle"
            yield name, what, *_times(rung["expected_s"], rung["seconds"], rung["error"])
        for what, key in (("bulk", "bulk"), ("bulk both ways", "both")):
            rates = (direction["expected_bit_s"], direction[f"{key}_bit_s"])
            yield name, what, *map(_rate, rates), _percent(direction[f"{key}_error"])


# A record has text in the place of numbers that JSON lacks, as "inf".
def _times(expected_s: float, measured_s: float, error: float | None) -> tuple[str, str, str]:
    expected = format_ns(float(expected_s) * 1e9) if expected_s else "–"
    return expected, format_ns(float(measured_s) * 1e9), _percent(error)


def _rate(bit_s: float | None) -> str:
    return "unlimited" if bit_s is None else f"{float(bit_s) / 1e6:.0f} Mbit/s"


def _percent(error: float | None) -> str:
    return "–" if error is None else f"{float(error):+.1%}"
