"""Published numbers: what is drawn beside ours, recomputed on a network, and shown to contradict itself."""

import csv
import io
from collections.abc import Callable
from dataclasses import replace

import pytest

from harness.cli.main import main
from harness.config.compose import compose_run
from harness.config.network import NetworkConfig
from harness.errors import ConfigError
from harness.records.published import MEASURED, Published, load_published, select_published
from harness.records.record import Record
from harness.report.figure_files import chart_rows
from harness.report.figures import PUBLISHED, draw
from harness.report.published_network import contradiction, recomputed
from harness.report.published_points import with_published
from harness.report.series import Chart, standard_charts

MakeRecord = Callable[..., Record]
ALL = load_published()


def rows(*filters: str) -> list[Published]:
    return select_published(ALL, filters)


def on(name: str, *more: str) -> NetworkConfig:
    return compose_run([f"network={name}", *more]).network


def test_every_row_says_where_it_is_from() -> None:
    assert len(ALL) > 490
    assert {row.evidence for row in ALL} == {"paper", "second hand", "artifact", "ours", "doc"}
    assert all(row.source and row.system and row.workload for row in ALL)
    assert not [row for row in ALL if row.firm and (row.how != MEASURED or "quoted" in row.source)]


def test_units_are_one() -> None:
    def number(unit: str, value: str = "2") -> float | None:
        return replace(ALL[0], value=value, unit=unit).number

    assert [number(unit) for unit in ("s", "ms", "s/token", "GB", "MB/token", "rounds")] == [
        *(2.0, 0.002, 2.0, 2e9, 2e6, 2.0)
    ]
    assert number("GiB") == 2.0**31
    assert number("x", "2.7-4.7") is None


def test_filters_are_those_of_show() -> None:
    assert {row.system for row in rows("system=permllm")} == {"PermLLM"}
    assert len(rows("rate_mbit=1000", "metric=time", "workload=BERT-base,gpt-2", "rtt_ms=0.5")) > 2
    assert not rows("rate_mbit=10")
    for argument in ("speed=3", "system", "system="):
        with pytest.raises(ConfigError):
            rows(argument)


def test_what_contradicts_its_own_network() -> None:
    """All of SHAFT's Table VII and section VI-C, its projections of SIGMA, and SIGMA's Table 9 but for the
    smallest model; nobody else's."""
    flagged = {row: text for row in ALL if (text := contradiction(row, ALL))}
    assert {(row.source.split(", ")[-1], row.metric) for row in flagged} == {
        ("NDSS 2025 SHAFT Table VII", "time (projected)"),
        ("NDSS 2025 SHAFT section VI-C", "time (projected)"),
        ("PoPETs 2024 Table 9", "key transfer"),
    }
    assert not [row for row in flagged if row.how == MEASURED]
    assert len(flagged) == 20
    (shaft,) = rows("system=shaft", "value=28.6")
    assert "10.5 GB in each direction at 1 Gbit/s take 83.7 s" in flagged[shaft]
    assert "6.93 + 2 · 10.46 ÷ 1 + 1495 · 0.5 ms = 28.6 s" in flagged[shaft]
    assert "the same sum is 175 s" in flagged[shaft]
    (sigma,) = rows("system=sigma", "value=14.33")
    assert flagged[sigma].startswith("16.84 GB · 8 ÷ 9.4 Gbit/s = 14.33 s: computed")


def test_a_time_on_another_network() -> None:
    """SHAFT from its own compute, bytes and rounds; SIGMA's time over its WAN lies in the range that its
    time over its LAN predicts; hops are no range, and unlimited rate leaves delays."""
    (shaft,) = rows("system=shaft", "metric=compute time", "source=appendix e3")
    found = recomputed(shaft, ALL, on("bumblebee-lan"))
    assert found is not None
    assert (found.least_s, found.most_s) == pytest.approx((90.98, 175.04), abs=0.01)
    (lan,), (wan,) = (rows("system=sigma", "metric=time", f"value={v}") for v in (1.72, 55.2))
    assert (lan.system, wan.system) == ("SIGMA", "SIGMA")
    range_ = recomputed(lan, ALL, on("sigma-wan"))
    assert range_ is not None
    assert wan.number is not None
    assert range_.least_s < wan.number < range_.most_s
    (token,) = rows("system=permllm", "value=3")
    same = recomputed(token, ALL, on("permllm-wan"))
    assert same is not None
    assert (same.least_s, same.most_s) == pytest.approx((3.0, 3.0))
    free = recomputed(token, ALL, on("permllm-wan", "network.rate_mbit=null", "network.rtt_ms=0"))
    assert free is not None
    assert (free.least_s, free.most_s) == pytest.approx((1.13, 1.21))


@pytest.mark.parametrize("source", ["table vii", "nexus"])
def test_what_is_not_known_is_not_recomputed(source: str) -> None:
    """Projections with keys, and times of which rounds or compute are missing."""
    unknown = [
        r for r in rows(f"source={source}", "metric=time") if r.system.split(" ")[0] != "SHAFT"
    ]
    assert unknown
    kept = [row for row in unknown if recomputed(row, ALL, on("permllm-wan"))]
    assert {row.system for row in kept} <= {"BOLT"}  # whose rounds another source has


def layers(make_record: MakeRecord, *more: str, value: str = "bytes") -> Chart:
    records = [
        make_record(["experiment=layer", f"model={model}", *more], payload=500_000)
        for model in ("gpt2", "chatglm-6b")
    ]
    (chart,) = standard_charts(records, value)
    return with_published(chart)


def test_published_points_stand_where_their_axis_says(make_record: MakeRecord) -> None:
    chart = layers(make_record)
    assert [(p.row.system, p.x, p.value, p.row.firm) for p in chart.published] == [
        ("PermLLM", 4096, 490_000, False),
        ("MPCFormer", 4096, 3_073_000_000, False),
    ]
    figure = draw(chart)
    hollow = [line for line in figure.axes[0].lines if line.get_markeredgecolor() == "black"]
    assert [line.get_xydata().tolist() for line in hollow] == [  # type: ignore[union-attr]
        [[4096, 490_000]],
        [[4096, 3_073_000_000]],
    ]
    assert {line.get_markerfacecolor() for line in hollow} == {"white"}
    assert figure.axes[0].get_ylim()[1] > 3_073_000_000
    assert PUBLISHED in [text.get_text() for text in figure.legends[0].get_texts()]
    told = [row for row in chart_rows(chart) if "published" in row["what"]]
    assert [row["source"] for row in told] == ["arXiv 2405.18744 (quoted second hand)"] * 2


def test_unlike_runs_have_none(make_record: MakeRecord) -> None:
    """Of several tokens, or of a time where only bytes are published."""
    assert layers(make_record, "experiment.q_len=2").published == ()
    assert layers(make_record, value="online").published == ()


def test_a_time_is_drawn_over_its_own_network_alone(make_record: MakeRecord) -> None:
    (nexus,) = rows("system=nexus", "workload=argmax of")
    records = [make_record([f"experiment.n={n}"]) for n in (1000, 100_000)]
    (chart,) = standard_charts(records)
    assert with_published(chart, [nexus]).published == ()
    there = replace(nexus, rate_mbit=1000.0, rtt_ms=10.0)
    (point,) = with_published(chart, [there]).published
    assert (point.x, point.value) == (30522, 54e9)


def test_the_verb_shows_filters_and_recomputes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["published", "system=permllm", "--network", "permllm-wan2"]) == 0
    output = capsys.readouterr().out
    assert "on permllm-wan2" in output
    assert "5.43–6.15 s" in output
    assert "3 numbers left out" in output
    assert main(["published", "system=sigma", "metric=key transfer", "--format", "csv"]) == 0
    table = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [bool(row["contradiction"]) for row in table] == [False, *[True] * 6]
    assert main(["published", "system=nobody"]) == 0
    assert capsys.readouterr().out == "no published number with system=nobody\n"
    for arguments in (["published", "speed=3"], ["published", "--network", "nope"]):
        assert main(arguments) == 2


def test_published_points_keep_to_the_figure(make_record: MakeRecord) -> None:
    """Neither a size far from ours nor nothing sent is drawn; what is beyond our sizes has room."""
    records = [
        make_record(["experiment=nonlinear", f"experiment.op={op}", f"experiment.shape=[{n},100]"])
        for op in ("gelu", "softmax")
        for n in (10, 1000)
    ]
    (chart,) = standard_charts(records, "bytes")
    drawn = with_published(chart)
    assert {(p.panel, p.x) for p in drawn.published} == {
        *(("GeLU", 128 * 3072), ("GeLU", 128 * 4096)),
        *(("softmax", 128), ("softmax", 256), ("softmax", 128 * 128)),
    }
    assert "NEXUS" not in {p.row.system for p in drawn.published}
    looks = {p.row.system: (p.style.colour, p.style.marker) for p in drawn.published}
    assert looks["SHAFT"] != looks["CrypTen (run by SHAFT)"]
    gelu, softmax = draw(drawn).axes
    assert gelu.get_xlim()[1] > 128 * 4096
    assert softmax.get_xlim()[0] < 128
    assert [tick.get_text().split("\n")[0] for tick in gelu.get_xticklabels()] == [
        *("1,000", "100,000"),
    ]
