"""What the page's scripts compute and say, under node: numbers, bars, lines of equal time."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from harness.records.record import OperatorRecord, Record
from harness.records.stats import digits, format_bytes, format_ns, format_spread, spread
from harness.report.page.phase_bars import bar_data
from harness.report.styles import OWN, SPARE
from tests.node import under_node

MakeRecord = Callable[..., Record]
MS = 1_000_000
NUMBERS = [0, 0.3, 7, 42.42, 999.4, 999.6, 1004, 31e3, 999_499, 4.567e6, 8.9e8, 1.2345e9, 6.02e12]
OPERATORS = [
    OperatorRecord("P0", "layer/softmax", 3 * MS, 2 * MS, 5 * MS, 4, 6000, 1),
    OperatorRecord("P1", "layer/softmax", 7 * MS, 6 * MS, 0, 2, 80, 1),
]
SAY = """
const { digits, time, bytes, sizeOf } = Basics;
console.log(JSON.stringify({
  said: asked.numbers.map((n) => [digits(n), time(n), bytes(Math.floor(n))]), sizes: asked.texts.map(sizeOf),
}));
"""
PARTS = """
const { partsOf } = load("part_bars");
console.log(JSON.stringify(asked.ways.map((way) => partsOf(asked.bar, ...way))));
"""
CONTOUR = """
const { contour } = load("what_if");
console.log(JSON.stringify(contour(asked.rtts, asked.rates, asked.grid, asked.level)));
"""


def test_numbers_are_said_as_the_tables_say_them() -> None:
    found = under_node(SAY, {"numbers": NUMBERS, "texts": []})["said"]
    assert found == [[digits(n), format_ns(n), format_bytes(int(n))] for n in NUMBERS]


def test_cells_are_sorted_by_what_they_say() -> None:
    """Whatever their units, stars and ranges."""
    times = [n for n in NUMBERS if n > 1]
    ranges = [spread([0.9 * n, n, 2 * n]) for n in times]
    texts = [
        *(format_spread(one) for one in ranges if one),
        *(f"{format_ns(n)} (12.0 ms)" for n in times),
        *(f"{format_bytes(n)}*" for n in times),
    ]
    others = ["1.31*", "2.1e-04", "12", "–", "", "∞", "puma"]
    found = under_node(SAY, {"numbers": [], "texts": [*texts, *others]})["sizes"]
    assert found[: len(texts)] == pytest.approx([*times] * 3, rel=2e-2)
    assert found[len(texts) :] == [1.31, 2.1e-4, 12, None, None, None, None]


def test_bars_are_what_a_record_says(make_record: MakeRecord) -> None:
    record = make_record(["experiment=layer", "model=gpt2"], payload=400_000, hops=6)
    (bar,) = bar_data([replace(record, operators=OPERATORS)], ["it"])
    ways = [
        (level, measure)
        for level in ("phases", "roles", "operators")
        for measure in ("time", "bytes", "hops")
    ]
    parts = under_node(PARTS, {"bar": bar, "ways": ways})
    found = dict(zip(ways, parts, strict=True))
    assert [name for name, *_ in found["phases", "time"]] == ["online", "offline", "prepare"]
    assert found["phases", "time"][0] == ["online", 31 * MS, 0, "31.0 ms"]
    assert found["phases", "bytes"][0] == ["online", 400_000, 0, "400 kB"]
    assert found["phases", "hops"][0] == ["online", 6, 0, "6 hops"]
    assert found["roles", "time"][1] == [
        *("online, P1", 31 * MS // 3, 0, "10.3 ms of processor time"),
    ]
    assert found["roles", "bytes"][0] == ["online, P0", 200_000, 0, "200 kB"]
    assert found["roles", "hops"][3] == ["offline, P1", 3, 0, "3 messages"]
    assert found["operators", "time"] == [
        ["layer/softmax, P0", 3 * MS, 5 * MS, "3.00 ms computing, 5.00 ms waiting"],
        ["layer/softmax, P1", 7 * MS, 0, "7.00 ms computing, 0 ns waiting"],
    ]
    assert found["operators", "bytes"][0] == ["layer/softmax, P0", 6000, 0, "6.00 kB"]
    assert found["operators", "hops"][0] == ["layer/softmax, P0", 4, 0, "1 hops, 4 messages"]


def test_every_system_has_a_shape_of_its_own() -> None:
    """Whoever sees no colours tells them apart in the page as in the figures."""
    shapes = under_node('console.log(JSON.stringify(load("log_plot").SHAPES))', None)
    markers = {style.marker for style in OWN.values()} | {marker for _, marker in SPARE}
    assert markers <= shapes.keys()
    assert len({shapes[marker] for marker in markers}) == len(markers)


@pytest.mark.parametrize("level", [0.5, 1, 2])
def test_a_line_of_equal_time_lies_where_the_ratio_is(level: float) -> None:
    """Of a ratio that is a product of powers a line is exact, and it goes through the whole grid."""
    rtts, rates = ([base * 2.0**i for i in range(9)] for base in (1.0, 10.0))
    grid = [[(rtt / 16) * (rate / 160) ** 0.5 for rtt in rtts] for rate in rates]
    asked = {"rtts": rtts, "rates": rates, "grid": grid, "level": level}
    segments = under_node(CONTOUR, asked)
    points = [point for segment in segments for point in segment]
    assert len(segments) >= len(rates) - 1
    for rtt, rate in points:
        assert (rtt / 16) * (rate / 160) ** 0.5 == pytest.approx(level)
    crossed = [rtt for rtt, _ in points]
    assert max(crossed) / min(crossed) > 10
