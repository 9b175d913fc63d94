"""Published numbers of private inference: results/reference/published.csv, a row for each number.

A row says what was run, over which network, and how its authors came to the number: measured,
projected by them, or recomputed by us. `evidence` says where we read it: the paper, an artifact, its
documentation, our own run, or another source that quotes it (second hand).
"""

import csv
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property

from harness.data_files import data_path
from harness.errors import ConfigError, unknown

FILE = "results/reference/published.csv"
MEASURED, SECOND_HAND = "measured", "second hand"
UNITS = {  # decimal, but for GiB; seconds and bytes are 1
    "s": 1.0, "ms": 1e-3,
    "B": 1.0, "KB": 1e3, "MB": 1e6, "GB": 1e9, "GiB": 2.0**30,
}  # fmt: skip
NUMBER = re.compile(r"\d+(?:\.\d+)?")


@dataclass(frozen=True)
class Published:
    """One number. value: as printed, mostly a number. rate_mbit, rtt_ms: of its network, where both its
    source and it agree on them; `network` has them as printed."""

    system: str
    workload: str
    network: str
    rate_mbit: float | None
    rtt_ms: float | None
    metric: str
    value: str
    unit: str
    how: str
    source: str
    evidence: str
    certainty: str
    note: str

    @property
    def firm(self) -> bool:
        """Whether its authors measured it and we read it in their own words."""
        return self.how == MEASURED and SECOND_HAND not in f"{self.evidence} {self.source}"

    @property
    def number(self) -> float | None:
        """The value in s or bytes, or in its own unit; None where it is a range."""
        if not NUMBER.fullmatch(self.value):
            return None
        return float(self.value) * UNITS.get(self.unit.partition("/")[0], 1.0)

    @cached_property
    def what(self) -> str:
        """Its workload without words that tell no two workloads apart."""
        return workload_key(self.workload)

    def row(self) -> dict[str, object]:
        """All fields, for data files."""
        return asdict(self)


COLUMNS = tuple(f.name for f in fields(Published))


def load_published() -> list[Published]:
    """All numbers, in the order of the file."""
    with data_path(FILE).open(encoding="utf-8", newline="") as file:
        return [_published(row) for row in csv.DictReader(file)]


def _published(row: Mapping[str, str]) -> Published:
    numbers = {key: float(row[key]) if row[key] else None for key in ("rate_mbit", "rtt_ms")}
    return Published(**{**row, **numbers})  # type: ignore[arg-type]


def workload_key(workload: str) -> str:
    """ "BERT-base, 128 tokens, one forward, online" and "BERT-base, 128" as one name."""
    parts = [part.strip().removesuffix(" tokens") for part in workload.split(",")]
    return ", ".join(part for part in parts if part not in ("one forward", "online", "offline"))


def select_published(published: Iterable[Published], arguments: Sequence[str]) -> list[Published]:
    """The numbers that pass all `key=value` filters. A value may be a comma list; it holds where a
    column contains it, whatever the case, and in a column of numbers where it is equal. Raises
    ConfigError."""
    filters: dict[str, Collection[str]] = {}
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if not equals or not value:
            raise ConfigError(argument, "must look like key=value")
        if key not in COLUMNS:
            raise unknown(key, "unknown column", COLUMNS)
        filters[key] = value.lower().split(",")
    return [
        row
        for row in published
        if all(_holds(getattr(row, key), values) for key, values in filters.items())
    ]


def _holds(cell: str | float | None, values: Collection[str]) -> bool:
    if isinstance(cell, str) and not NUMBER.fullmatch(cell):
        return any(value in cell.lower() for value in values)
    numbers = {float(value) for value in values if NUMBER.fullmatch(value)}
    return cell is not None and float(cell) in numbers
