"""`permbench replay`: its reading of a trace, its arguments, its output, and its validation."""

import csv
import io
import json
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Self

import numpy as np
import pandas as pd
import pytest
from matplotlib.contour import ContourSet

from harness.cli.main import main
from harness.config.compose import compose_run
from harness.config.config_hash import config_hash, resolved, restored
from harness.config.schema import RunConfig
from harness.errors import ConfigError
from harness.progress import Progress
from harness.records import store
from harness.records.record import Record
from harness.replay import trace_file as file
from harness.replay.compute_times import costs_of, delayed_costs
from harness.replay.grid_figure import grid_figure
from harness.replay.networks import grid, parse_axis
from harness.replay.predict import LEAST_S, TracedRun, crossings, predict
from harness.replay.prediction_tables import crossing_lines
from harness.replay.trace import DelayedStep, Step, Trace, check
from protocols.party import P0, P1
from tests.traces import MS, US, echo_trace

MakeRecord = Callable[..., Record]


def test_a_network_between_two_traces_takes_what_lies_between(make_record: MakeRecord) -> None:
    """P1 computes 700 µs in the trace, and 900 over a link of 4 ms, where the answer takes 50 µs longer.

    Over that very link both take what was traced, and on longer ones no more of their own.
    """
    plain = echo_trace("x")
    slow = echo_trace("x", 900).steps[0].roles
    walls = {role: slow[role].times.during_wall.copy() for role in slow}
    walls[P1][:, 0] += 4_000 * US
    walls[P0][:, 1] += (8_000 + 50) * US
    programs = {
        r: replace(p, times=replace(p.times, during_wall=walls[r])) for r, p in slow.items()
    }
    delayed_step = DelayedStep(4e-3, Step(np.zeros(3, np.int64), programs))
    trace = check(replace(plain, delayed=(delayed_step,)))
    (costs,) = costs_of(trace, "wall", 1.0)
    delayed = delayed_costs(delayed_step, plain.steps[0], "wall", 1.0)
    assert (costs[P1].handling[1, 0], delayed[P1].handling[1, 0]) == (100 * US, 150 * US)
    assert delayed_costs(delayed_step, plain.steps[0], "cpu", 1.0)[P1].handling[1, 0] == 16 * US

    def took(rtt_ms: float) -> float:
        arguments = (f"network.rtt_ms={rtt_ms}", "network.rate_mbit=null")
        return prediction_of(make_record(), trace, *arguments)[0]

    assert took(0) == 925 * US  # the trace itself
    assert took(8) == 8 * MS + (25 + 900 + 250) * US
    assert took(200) == 200 * MS + (25 + 900 + 250) * US
    half = np.expm1(np.log1p(4e-3 / LEAST_S) / 2) * LEAST_S
    own = took(2 * half * 1e3) - 2 * half * 1e9
    assert own == pytest.approx((25 + (900 + 1150) / 2) * US, abs=2)


def test_crossings_of_unlike_traces_are_marked(make_record: MakeRecord) -> None:
    record = make_record()
    other = replace(record, environment={**record.environment, "cpu_model": "Xeon"})
    networks = grid([], [], "1..10:3", None)
    for second, mark in ((record, ""), (other, " * (machine differs)")):
        pair = [
            predict(TracedRun(r, echo_trace("x", us), "x"), networks.configs, "wall", 1.0)
            for r, us in ((record, 700), (second, 900))
        ]
        (line,) = crossing_lines(pair, networks)
        assert line == f"A and B cross nowhere here: A is faster than B{mark}"


def prediction_of(record: Record, trace: Trace, *overrides: str) -> list[float]:
    config = compose_run(overrides).network
    found = predict(TracedRun(record, trace, "x"), [config], "wall", 1.0)
    parts = found.online_ns, found.latency_ns, found.bandwidth_ns, found.compute_ns
    assert found.low_ns == found.high_ns == found.online_ns
    return [round(float(part[0])) for part in parts]


def test_a_prediction_by_hand(make_record: MakeRecord) -> None:
    """25 µs to the send, 8 ms + 2 ms on the link, 700 µs, 64 ns + 2 ms back; twice 100 µs of handling."""
    found = prediction_of(make_record(), echo_trace("x"), "network.rtt_ms=4")
    assert found == [12_925_064, 4 * MS, 8_000_064, 925 * US]
    # Unlimited: what the machine's own sockets take, which is compute.
    assert prediction_of(make_record(), echo_trace("x"), "network=loopback") == [
        925 * US,
        0,
        0,
        925 * US,
    ]


def test_shares_are_those_of_the_median_evaluation(make_record: MakeRecord) -> None:
    """Three evaluations that compute for 0.1, 0.7 and 9 ms; two messages take 16 µs of CPU time each."""
    trace = echo_trace("x")
    program = trace.steps[0].roles[P1]
    before = program.times.before_wall.copy()
    before[:, 1] = [9 * MS, 100 * US, 700 * US]
    changed = replace(program, times=replace(program.times, before_wall=before))
    programs = {**trace.steps[0].roles, P1: changed}
    trace = replace(trace, shaped=True, steps=(Step(np.zeros(3, np.int64), programs),))
    network = compose_run(["network.rtt_ms=4", "network.rate_mbit=null"]).network
    found = predict(TracedRun(make_record(), trace, "x"), [network], "wall", 1.0)
    times = [found.low_ns[0], found.online_ns[0], found.high_ns[0]]
    assert times == pytest.approx([4 * MS + c for c in (157 * US, 757 * US, 9 * MS + 57 * US)])
    assert (found.latency_ns[0], found.compute_ns[0]) == pytest.approx((4 * MS, 757 * US))


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("5", (5.0,)),
        ("100,1,10", (1.0, 10.0, 100.0)),
        ("0..1:3", (0.0, 0.5, 1.0)),
        ("1..100:log3", (1.0, 10.0, 100.0)),
        ("0.5..8:log3", (0.5, 2.0, 8.0)),
    ],
)
def test_axes(text: str, values: tuple[float, ...]) -> None:
    assert parse_axis("rtt_ms", text) == pytest.approx(values)


@pytest.mark.parametrize(
    "text", ["", "a", "1,1", "1..5", "5..1:3", "0..5:log3", "1..5:1", "1..inf:3", "nan"]
)
def test_bad_axes_name_the_key(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^rtt_ms: got .* must be numbers such as"):
        parse_axis("rtt_ms", text)


def test_crossings_interpolate_logarithms() -> None:
    x = [1.0, 10.0, 100.0]
    a, b = np.array([1.0, 1.0, 1.0]), np.array([0.5, 0.5, 2.0])
    assert crossings(x, a, b) == pytest.approx([10 * 10**0.5])
    assert crossings(x, a, a * 2) == []
    assert crossings([0.0, 10.0], np.array([1.0, 1.0]), np.array([0.5, 2.0])) == pytest.approx([5])


@pytest.fixture
def stored(
    tmp_path: Path, make_record: MakeRecord, monkeypatch: pytest.MonkeyPatch
) -> list[Record]:
    """Two traced records in results/runs: few rounds of much compute, many rounds of little."""
    monkeypatch.chdir(tmp_path)
    records = []
    for overrides, compute_us, rounds in (([], 90_000, 1), (["system=mpcformer"], 700, 12)):
        record = make_record([*overrides, "shaper=none", "trace=true"])
        store.save(Path("results/runs"), record)
        file.save(Path("results/runs"), echo_trace(record.id, compute_us, rounds))
        records.append(record)
    return records


def test_named_networks(stored: list[Record], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", stored[0].id[:6], "network=puma,permllm-wan", "compute=wall"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "permllm argmax n=1000"
    # 1 MB at 5 Gbit/s and twice 0.5 ms; 1 MB at 1 Gbit/s and twice 5 ms; twice 0.1 ms of handling.
    cells = [" ".join(line.split()) for line in lines]
    assert cells[2] == "puma 1 ms 5 Gbit/s 92.8 ms 1.1 % 1.7 % 97.2 %"
    assert cells[3] == "permllm-wan 10 ms 1 Gbit/s 108 ms 9.2 % 7.4 % 83.4 %"
    assert main(["replay", f"results/runs/argmax/{stored[0].id}.json", "compute_scale=0"]) == 0
    assert len(capsys.readouterr().out.splitlines()) > 14  # every preset


def test_a_link_that_nobody_uses_online_does_not_make_parties_slow(make_record: MakeRecord) -> None:
    """A far dealer."""
    plain = echo_trace("x")
    delayed_step = DelayedStep(4e-3, echo_trace("x", 900).steps[0])
    trace = check(replace(plain, delayed=(delayed_step,)))
    near = prediction_of(make_record(), trace, "network.rtt_ms=1")
    far = prediction_of(make_record(), trace, "network.rtt_ms=1", "network.dealer.rtt_ms=80")
    assert near == far


def test_the_fastest_of_several_and_where_they_cross(
    stored: list[Record], capsys: pytest.CaptureFixture[str]
) -> None:
    """90.2 ms + rtt against 12 (0.9 ms + rtt), without bandwidth: equal at 7.2 ms."""
    arguments = ["replay", "rate_mbit=null", "compute=wall", "rtt_ms=0.5..100:log20"]
    assert main([*arguments, "--format", "csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert len(rows) == 40
    best = {float(r["rtt_ms"]): r["id"] for r in rows if r["fastest"] == "True"}
    few, many = (record.id for record in stored)
    assert {best[rtt] for rtt in best if rtt < 7.0} == {many}
    assert {best[rtt] for rtt in best if rtt > 7.4} == {few}
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert re.search(r"A and B take equal time at: unlimited, 7\.2\d ms\n", out)
    assert main(["replay", "network=puma,nexus", "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["network"] for row in found] == ["puma", "nexus"] * 2
    for row in found:
        shares = row["latency_ns"] + row["bandwidth_ns"] + row["compute_ns"]
        assert shares == pytest.approx(row["online_ns"], abs=2)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["zzz"], "zzz: begins no id in results/runs; give"),
        (["nothing.json"], "nothing.json: .*No such file"),
        (["network=nope"], "network: no option nope"),
        (["network=puma,nexus", "rtt_ms=1,2"], "network: got puma,nexus, must be one network"),
        (["network.loss=0.1", "network.name=x"], "network.loss: .*must be 0"),
        (
            ["network=nexus", "network.jitter_ms=1"],
            "network.jitter_ms: a replay knows delay and rate only",
        ),
        (["rtt_ms=-1,2"], "rtt_ms: got -1,2, must be numbers ≥ 0"),
        (["rate_mbit=0,2"], "rate_mbit: got 0,2, must be numbers > 0"),
        (["compute=gpu"], "compute: got gpu, must be cpu or wall"),
        (["compute_scale=-1"], "compute_scale: got -1, must be"),
        (["compute=cpu", "compute=wall"], "compute: is given twice"),
        (["--figure", "x.png", "network=puma"], "--figure: draws a grid"),
        (["system=puma"], "replay: no record with system=puma in results/runs has a trace; make"),
        (["n=7", "zzz"], "n=7: chooses among all records"),
    ],
)
def test_bad_words(
    arguments: list[str], problem: str, stored: list[Record], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["replay", *arguments]) == 2
    output = capsys.readouterr()
    assert re.match(f"permbench: {problem}", output.err), output.err
    assert output.err.count("\n") == 1
    assert output.out == ""


def test_a_record_without_a_trace_says_how_to_get_one(
    stored: list[Record], make_record: MakeRecord, capsys: pytest.CaptureFixture[str]
) -> None:
    untraced = make_record(["experiment.n=7"])
    failed = make_record(["experiment.n=8"], status="failed")
    for record in (untraced, failed):
        store.save(Path("results/runs"), record)
    assert main(["replay", untraced.id]) == 2
    assert "there is no trace; run it again with trace=true" in capsys.readouterr().err
    assert main(["replay", failed.id]) == 2
    assert "ended as failed: there is nothing to replay" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["rtt_ms=1..200:log5", "rate_mbit=10..10000:log5"],
        ["rtt_ms=1..200:log5", "rate_mbit=10..10000:log5", "system=permllm"],
        ["rtt_ms=0..200:5"],
        ["rate_mbit=10..10000:log5"],
    ],
)
def test_figures(
    arguments: list[str], stored: list[Record], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["replay", *arguments, "--figure", "figures/map.png"]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == "figures/map.png (and .svg, .pdf, .csv, .txt)"
    assert Path("figures/map.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in Path("figures/map.svg").read_text()
    assert Path("figures/map.pdf").read_bytes().startswith(b"%PDF")
    given = next(text for text in arguments if text.startswith("rtt_ms") or "rate" in text)
    assert given in Path("figures/map.txt").read_text()
    assert main(["replay", *arguments, "--format", "csv"]) == 0
    printed = pd.read_csv(io.StringIO(capsys.readouterr().out))
    beside = pd.read_csv("figures/map.csv")
    pd.testing.assert_frame_equal(beside, printed, check_dtype=False)


def test_a_ratio_has_contours_and_a_strong_line_where_it_is_one(stored: list[Record]) -> None:
    """90.2 ms + rtt against 12 (0.9 ms + rtt), without much bandwidth: equal at 7.2 ms."""
    networks = grid([], [], "1..100:log21", "1000000,2000000")
    runs = [TracedRun(record, trace_file(record), "") for record in stored]
    predictions = [predict(run, networks.configs, "wall", 1.0) for run in runs]
    figure, title = grid_figure(predictions, networks)
    assert title == "Ratio of predicted online times (strong line: equal). Argmax, n=1000."
    sets = [child for child in figure.axes[0].collections if isinstance(child, ContourSet)]
    strong = max(sets, key=lambda lines: float(np.max(lines.get_linewidth())))
    assert list(strong.levels) == [0.0]
    vertices = np.concatenate([path.vertices for path in strong.get_paths()])
    assert len(vertices) > 1
    assert vertices[:, 0] == pytest.approx(7.2, rel=0.02)
    others = next(lines for lines in sets if lines is not strong)
    texts = {text.get_text() for text in figure.axes[0].texts}
    assert len(list(others.levels)) >= 3
    assert texts == {"equal", *(f"{np.exp(abs(level)):.3g}×" for level in others.levels)}
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["PermLLM", "MPCFormer"]
    assert figure.axes[1].get_ylabel() == "← MPCFormer faster      PermLLM faster →"


def trace_file(record: Record) -> Trace:
    return file.load(Path("results/runs"), record.id)


class Measured:
    """A session whose runs take 100 ms, whatever their links; the traced one leaves a trace of 90 ms."""

    def __init__(self, make_record: MakeRecord) -> None:
        self.make_record = make_record
        self.configs: list[RunConfig] = []
        self.fails = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def run_interleaved(self, configs: Sequence[RunConfig], progress: Progress) -> list[Record]:
        self.configs = list(configs)
        file.save(Path(configs[0].results_dir), echo_trace(config_hash(configs[0]), 90_000))
        record = self.make_record(status="failed" if self.fails else "ok", wall_ns=[100 * MS] * 3)
        return [replace(record, id=config_hash(c), config=resolved(c)) for c in configs]


@pytest.fixture
def measured(make_record: MakeRecord, monkeypatch: pytest.MonkeyPatch) -> Measured:
    session = Measured(make_record)
    module = ModuleType("harness.measure.session")
    module.Session = lambda: session  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "harness.measure.session", module)
    return session


def test_validation_traces_again_and_measures_in_turns_with_that(
    stored: list[Record], measured: Measured, capsys: pytest.CaptureFixture[str]
) -> None:
    few = stored[0].id
    file.save(Path("results/runs"), echo_trace(few, 1))  # an old trace is not what is held
    assert main(["replay", "--validate", few, "compute=wall", "network=loopback,permllm-wan"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "error: median 9.0 %, worst 9.8 % (2 of 2 points)"
    assert "90.2 ms 100 ms -9.8 %" in " ".join(lines[-3].split())
    own, *points = measured.configs
    assert (config_hash(own), own.shaper.name, own.trace) == (few, "none", True)
    assert [c.network.name for c in points] == ["loopback", "permllm-wan"]
    for config in points:
        experiment = restored(stored[0].config).experiment
        found = (config.shaper.name, config.trace, config.experiment)
        assert found == ("emulated", False, experiment)
    kept = Path("results/runs/validation/argmax").glob("*.json")
    assert {path.stem for path in kept} == {config_hash(c) for c in measured.configs}
    assert sorted(r.id for r in store.load_all(Path("results/runs"))) == sorted(
        r.id for r in stored
    )
    arguments = ["network=puma,nexus", "network.rtt_ms=5", "network.rate_mbit=100"]
    assert main(["replay", "--validate", few, *arguments]) == 2
    assert "network: nexus is the same as another one" in capsys.readouterr().err
    assert main(["replay", "--validate", few]) == 0
    assert [(c.network.rtt_ms, c.network.rate_mbit) for c in measured.configs[1:]] == [
        (0.5, 10_000),
        (1, 5_000),
        (4, 400),
        (10, 1_000),
        (20, 100),
        (80, 100),
    ]


def test_a_validation_that_fails_says_so(
    stored: list[Record],
    measured: Measured,
    make_record: MakeRecord,
    capsys: pytest.CaptureFixture[str],
) -> None:
    measured.fails = True
    assert main(["replay", "--validate", stored[0].id, "network=puma"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[-3:]] == ["failed", "failed", "nothing"]
    assert "P1: killed by signal 9" in lines[-2]
    shaped = make_record(["trace=true"])
    store.save(Path("results/runs"), shaped)
    file.save(Path("results/runs"), echo_trace(shaped.id))
    assert main(["replay", "--validate", shaped.id]) == 2
    assert "takes runs with shaper=none, and no whole models" in capsys.readouterr().err
    measured.fails = False
    assert main(["replay", "--validate"]) == 0  # those that can be


def test_a_trace_is_another_run_and_no_trace_is_as_before() -> None:
    plain, traced = compose_run([]), compose_run(["trace=true"])
    assert config_hash(plain) != config_hash(traced)
    data = resolved(plain)
    del data["trace"]  # a record from before traces
    assert restored(data) == plain


@pytest.mark.parametrize(
    "arguments",
    [
        ["experiment=layer", "system=mpcformer", "network.dealer.rtt_ms=3", "key_seed=3"],
        [
            "experiment=nonlinear",
            "network.links.P0_P1.delay_ms=1",
            "network.links.P0_P1.rate_mbit=5",
        ],
    ],
)
def test_a_configuration_comes_back_from_its_record(arguments: list[str]) -> None:
    config = compose_run(arguments)
    again = restored(json.loads(json.dumps(resolved(config))))
    assert again == config
    assert config_hash(again) == config_hash(config)
    with pytest.raises(ConfigError, match="is none of this version"):
        restored({**resolved(config), "experiment": {"name": "nope"}})
