"""The gate on real parties: this tree beside itself, and beside one that speaks differently."""

import shutil
from pathlib import Path

import psutil
import pytest

from harness.cli.main import main
from harness.config.compose import compose_run
from harness.gate.baseline import load
from harness.gate.check import Timing, check_row
from harness.gate.measure import Sides
from harness.parties.faults import Fault
from harness.progress import PlainProgress
from harness.version import REPO

pytestmark = pytest.mark.slow

WORDS = ["experiment.n=50", "shaper=none", "repeat=6", "warmup=1", "calibration.strict=false"]
ROW = '{"schema": 2, "rows": [{"name": "tiny", "threshold": 9, "run": []}]}'


@pytest.fixture
def baseline(tmp_path: Path) -> Path:
    file = tmp_path / "gate.json"
    file.write_text(ROW)
    assert main(["gate", "--update", "--baseline", str(file), *WORDS]) == 0
    return file


def test_a_tree_is_as_good_as_itself_and_not_with_a_message_more(baseline: Path) -> None:
    (row,) = load(baseline).rows
    assert (row.threshold, list(row.run), len(row.online_ns)) == (9, WORDS, 6)
    assert main(["gate", "--baseline", str(baseline), "--against", str(REPO)]) == 0
    config, timing = compose_run(row.run), Timing(against=True, why_not="counts tell")
    with Sides(PlainProgress(), REPO, Fault(extra_message=True)) as bench:
        result = check_row(row, config, bench, timing)
    assert result.verdict == "regression"
    (counts,) = [check for check in result.checks if check.kind == "counts"]
    assert "online P0>P1: messages 3, expected 2 (+1)" in counts.lines
    assert "online P0>P1: payload bytes" in "\n".join(counts.lines)
    assert not psutil.Process().children(recursive=True)


def test_who_waits_for_a_turn_sleeps() -> None:
    config = compose_run([*WORDS, "repeat=100"])
    with Sides(PlainProgress(), REPO) as bench:
        bench.measure(config)
        parties = psutil.Process().children()
        before = [_cpu_s(party) for party in parties]
        bench.measure(config, alone=True)
        spent = sorted(_cpu_s(p) - s for p, s in zip(parties, before, strict=True))
    assert len(parties) == 6
    assert sum(spent[:3]) < 0.1 * sum(spent[3:])


def _cpu_s(party: psutil.Process) -> float:
    times = party.cpu_times()
    return float(times.user + times.system)


@pytest.mark.parametrize(
    ("file", "old", "new", "reason"),
    [
        ("parties/control.py", "VERSION = ", "VERSION = 90 + ", "of another version of permbench"),
        ("transport/frame.py", "VERSION = ", "VERSION = 90 + ", "of another version of permbench"),
        ("transport/handshake.py", "VERSION = ", "VERSION = 90 + ", "handshake 92, not 2"),
        ("parties/worker.py", 'send("shaped"', 'send("stage", text="mute"', "no party reported"),
        (
            "parties/job.py",
            'if kind == "argmax":',
            "if False:",
            "ValueError: no workload of kind 'argmax'",
        ),
    ],
    ids=[
        "version",
        "version of frames",
        "version of the handshake",
        "a notice that never comes",
        "a job that it does not know",
    ],
)
def test_a_checkout_that_speaks_differently_cannot_tell(
    file: str, old: str, new: str, reason: str, baseline: Path, tmp_path: Path
) -> None:
    """It also shows whose code the parties run. This tree's counts are compared all the same."""
    tree = tmp_path / "base"
    for package in ("harness", "protocols", "baselines", "netem"):
        shutil.copytree(REPO / package, tree / package)
    source = tree / "harness" / file
    assert old in source.read_text()
    source.write_text(source.read_text().replace(old, new, 1))
    (row,) = load(baseline).rows
    with Sides(PlainProgress(), tree) as bench:
        config = compose_run([*row.run, "timeout_s=5"])
        result = check_row(row, config, bench, Timing(against=True))
    assert {check.kind: check.verdict for check in result.checks} == {
        "run": "fine",
        "counts": "fine",
        "time": "cannot tell",
    }
    (line,) = result.checks[-1].lines
    assert line.startswith(f"{tree}: ")
    assert reason in line
