"""Published numbers as a table, and as rows of data."""

from collections.abc import Callable, Sequence
from typing import Any

from harness.config.network import NetworkConfig
from harness.records.published import Published
from harness.records.stats import digits
from harness.report.published_network import Range, contradiction, recomputed
from harness.report.text_table import TextTable

HEADS = ("system", "workload", "network", "metric", "value", "how", "evidence", "certainty")
NOTE = (
    "second hand: we read it in another source than the paper. ! contradicts its own network, or was "
    "computed; the arithmetic stands below."
)
RANGE_NOTE = (
    "recomputed: compute + bytes / rate + round trips; least where both directions are busy at once, most "
    "where one waits for the other. Never measured."
)


def published_table(
    chosen: Sequence[Published],
    published: Sequence[Published],
    network: NetworkConfig | None = None,
    sources: bool = True,
) -> TextTable:
    """The chosen numbers, and with `network` what those times would be on it that can be recomputed."""
    times = {row: recomputed(row, published, network) for row in chosen} if network else {}
    drawn = [row for row in chosen if network is None or times[row]]
    extra: list[tuple[str, bool, Callable[[Published], str]]] = []
    if network is not None:
        extra.append((f"on {network.name}", True, lambda row: _range(times[row])))
    if sources:
        extra.append(("source", False, lambda row: row.source))
    flags = {row: contradiction(row, published) for row in drawn}
    return TextTable(
        title=f"{len(drawn)} published numbers",
        heads=(*HEADS, *(head for head, _, _ in extra)),
        right=(*(head == "value" for head in HEADS), *(right for _, right, _ in extra)),
        rows=tuple(
            (*_cells(row, bool(flags[row])), *(cell(row) for _, _, cell in extra)) for row in drawn
        ),
        notes=tuple(_notes(flags, network, len(chosen) - len(drawn))),
    )


def _cells(row: Published, flagged: bool) -> tuple[str, ...]:
    value = f"{row.value} {row.unit}{' !' if flagged else ''}"
    return (
        *(row.system, row.workload, row.network, row.metric),
        *(value, row.how, row.evidence, row.certainty),
    )


def _range(found: Range | None) -> str:
    if found is None:
        return "–"
    least, most = digits(found.least_s), digits(found.most_s)
    return f"{least} s" if least == most else f"{least}–{most} s"


def _notes(
    flags: dict[Published, str | None], network: NetworkConfig | None, left: int
) -> list[str]:
    found = [NOTE] if flags else []
    if network is not None:
        found.append(RANGE_NOTE)
    if left:
        found.append(f"{left} numbers left out: their bytes, rounds or compute time are not known")
    why: dict[str, list[Published]] = {}
    for row, text in flags.items():
        if text:
            why.setdefault(text, []).append(row)
    return found + [
        f"! {rows[0].system}, {rows[0].workload}, {rows[0].value} {rows[0].unit}: {text}"
        for text, rows in why.items()
    ]


def published_rows(
    chosen: Sequence[Published],
    published: Sequence[Published],
    network: NetworkConfig | None = None,
) -> list[dict[str, Any]]:
    """A flat row for each number, with its contradiction, and its range on `network` in s."""
    found = []
    for row in chosen:
        more: dict[str, Any] = {"contradiction": contradiction(row, published)}
        if network is not None:
            times = recomputed(row, published, network)
            more |= {"on": network.name}
            more |= {"least_s": times and times.least_s, "most_s": times and times.most_s}
        found.append(row.row() | more)
    return found
