"""The program from outside: help, exit codes, what is run, and what bad input leaves behind."""

import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from harness.cli.main import VERBS, main
from harness.config.groups import CONF_DIR, options
from harness.records import store
from harness.records.environment import PACKAGES, environment, git_state
from harness.records.record import Status
from harness.reproduce.outcomes import load_outcomes
from tests.fake_session import FakeSession

REPO = CONF_DIR.parent


SWEEP = ["run", "-m", "experiment.n=1,2,3"]


def test_run_saves_and_shows(session: FakeSession, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "experiment.n=7"]) == 0
    (record,) = store.load_all(Path("results/runs"))
    assert record.config["experiment"]["n"] == 7
    output = capsys.readouterr()
    assert "31.0 ms [30.0–35.0]" in output.out
    assert "[1/1] argmax n=7 permllm permllm-wan emulated" in output.err
    assert "ok          argmax n=7" in output.err
    assert "400 kB, 4 hops" in output.err


def test_a_sweep_skips_what_is_stored(session: FakeSession) -> None:
    assert main(["run", "experiment.n=2", "-m"]) == 0
    assert main(["run", "repeat=10", "-m", "experiment.n=1,2,3"]) == 0
    assert session.sizes() == [2, 1, 3]
    assert main([*SWEEP, "force=true"]) == 0
    assert session.sizes() == [2, 1, 3, 1, 2, 3]
    assert len(store.load_current(Path("results/runs"))) == 3


def test_a_failed_run_is_a_row_an_exit_code_and_tried_again(
    session: FakeSession, capsys: pytest.CaptureFixture[str]
) -> None:
    session.status = lambda config: "failed" if "n=2" in config.title() else "ok"
    assert main(SWEEP) == 1
    assert [r.status for r in store.load_all(Path("results/runs"))].count("failed") == 1
    assert "P1: killed by signal 9" in capsys.readouterr().out
    session.status = lambda config: "ok"
    assert main(SWEEP) == 0
    assert session.sizes() == [1, 2, 3, 2]


@pytest.mark.parametrize(("status", "code"), [("incorrect", 1), ("unsupported", 0), ("timeout", 1)])
def test_exit_codes_of_other_endings(status: Status, code: int, session: FakeSession) -> None:
    session.status = lambda config: status
    assert main(["run"]) == code
    assert main(["run"]) == code


def test_an_interrupt_keeps_what_was_measured(session: FakeSession) -> None:
    session.interrupt_at = 2
    assert main(SWEEP) == 130
    assert [r.status for r in store.load_all(Path("results/runs"))].count("ok") == 1
    assert len(store.load_all(Path("results/runs"))) == 2
    session.interrupt_at = 3
    assert main(["run", "experiment.n=1", "force=true"]) == 130
    stored = {r.config["experiment"]["n"]: r.status for r in store.load_all(Path("results/runs"))}
    assert stored == {1: "ok", 2: "failed"}  # an older result is not lost to an interrupt


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "repat=4"],
        ["run", "experiment.n=0"],
        ["run", "-m", "experiment.n=1,0"],
        ["run", "experiment.n=1,2"],
        ["run", "experiment=layer", "model.n_heads=5"],
        ["run", "network.rate_mbit=-1"],
        ["run", "--fast"],
        ["run", "results_dir=/dev/null/runs"],
        ["reproduce", "--quick", "network=nope"],
        ["reproduce", "layer-byte"],
        ["show", "--format", "xml"],
        ["list", "networks"],
        ["fly"],
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    arguments: list[str], session: FakeSession, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    output = capsys.readouterr()
    assert output.err.startswith("permbench: ")
    assert output.err.count("\n") == 1
    assert output.out == ""
    assert session.configs == []
    assert list(tmp_path.iterdir()) == []


def test_reproduce_judges_shows_and_draws(
    session: FakeSession, capsys: pytest.CaptureFixture[str]
) -> None:
    """One session for all claims; a run that two of them share is made once; a second call makes none."""
    assert main(["reproduce", "--quick", "layer-bytes", "layer-hops", "argmax"]) == 0
    assert len(session.configs) == 10
    output = capsys.readouterr()
    assert "3 claims, 1 held, 1 near, 1 off" in output.out
    assert "layer-hops   12 hops deep, in 20 messages  12 hops ± 0 %" in output.out
    assert "[10/10] layer q_len=1 kv_len=5 chatglm-6b permllm" in output.err
    assert session.sizes() == [*[1000] * 3, *[100_000] * 6, None]
    assert "Argmax, permllm-wan (10 ms, 1 Gbit/s)" in output.out
    *_, figure, page = output.out.splitlines()
    assert figure == "results/runs/figures/layer.png (and .svg, .pdf, .csv, .txt)"
    assert page.startswith("results/runs/report.html (the page: 10 records, ")
    outcomes = {r["id"]: r["outcome"] for r in load_outcomes(Path("results/runs"))}
    assert outcomes == {"argmax": "held", "layer-bytes": "near", "layer-hops": "off"}
    assert main(["reproduce", "--quick", "argmax"]) == 0
    assert len(session.configs) == 10


def test_reproduce_stored_judges_what_other_code_has_made(
    session: FakeSession, capsys: pytest.CaptureFixture[str]
) -> None:
    """It runs nothing, and a claim without its runs is not run, whatever this machine has room for."""
    assert main(["reproduce", "--quick", "layer-bytes"]) == 0
    (record,) = store.load_all(Path("results/runs"))
    other = {**record.environment, "sources": {"code": "other", "system": None}}
    store.save(Path("results/runs"), replace(record, environment=other))
    arguments = ["reproduce", "--quick", "layer-bytes", "layer-bytes-mpcformer"]
    assert main([*arguments, "--stored"]) == 0
    assert len(session.configs) == 1
    assert "1 of its 1 runs are still to be made" in capsys.readouterr().out
    outcomes = {r["id"]: r["outcome"] for r in load_outcomes(Path("results/runs"))}
    assert outcomes == {"layer-bytes": "near", "layer-bytes-mpcformer": "not run"}
    assert main(arguments) == 0
    assert len(session.configs) == 3


def test_reproduce_goes_on_and_says_what_is_left(
    session: FakeSession, capsys: pytest.CaptureFixture[str]
) -> None:
    """After an interrupt the rest; with --dry-run nothing but a table."""
    session.interrupt_at = 4
    assert main(["reproduce", "argmax"]) == 130
    capsys.readouterr()
    assert main(["reproduce", "argmax", "--dry-run"]) == 0
    (row,) = [line for line in capsys.readouterr().out.splitlines() if "can be run" in line]
    assert row.split()[-5:] == ["9", "6", "can", "be", "run"]
    session.status = lambda config: "failed" if config.system.name == "puma" else "ok"
    assert main(["reproduce", "paper", "argmax", "repeat=3"]) == 1
    assert len(session.configs) == 4 + 6
    assert "not run" in capsys.readouterr().out


def test_list_and_help_name_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    listed = capsys.readouterr().out
    for arguments in (["--help"], ["run", "--help"]):
        with pytest.raises(SystemExit) as end:
            main(arguments)
        assert end.value.code == 0
    helped = capsys.readouterr().out
    assert all(verb in helped for verb in VERBS)
    for group in ("system", "experiment", "network", "model", "runner", "shaper"):
        for option in options(group):
            assert f"  {option} " in listed
            assert option in helped
    assert "results_dir" in helped


def test_bare_shows_help_and_a_misspelt_verb_gets_a_guess(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main([]) == 0
    assert capsys.readouterr().out.startswith("usage: permbench ")
    assert main(["shwo"]) == 2
    assert "no verb shwo; did you mean show?" in capsys.readouterr().err


@pytest.mark.parametrize("locale", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C"}])
def test_an_ascii_terminal_gets_ascii(locale: dict[str, str], tmp_path: Path) -> None:
    code = (
        "from harness.cli.main import main; main(['list', 'q_len']); print('12 µs × 3 – ☃'); "
        "from harness.progress import PlainProgress; PlainProgress().stage('31 µs')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(REPO)} | locale,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    if "LC_ALL" not in locale:  # there Python itself turns to UTF-8
        lines = done.stdout.decode("ascii").splitlines()
        assert "queries; a whole number >= 1" in lines[1]
        assert lines[-1] == "12 us x 3 - ?"
        assert done.stderr == b"  31 us\n"


def test_program_starts_without_torch_and_reports_errors_in_one_line(tmp_path: Path) -> None:
    code = (
        "import sys; from harness.cli.main import main; code = main(['run', 'network.rtt_ms=-1']); "
        "assert 'torch' not in sys.modules and 'pandas' not in sys.modules; sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(REPO)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == "permbench: network.rtt_ms: got -1.0, must be a number ≥ 0\n"
    assert done.returncode == 2
    assert list(tmp_path.iterdir()) == []


def test_environment_names_every_dependency(tmp_path: Path) -> None:
    project = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]
    required = [text.split("=")[0].split(">")[0] for text in project["dependencies"]]
    assert sorted(required) == sorted(PACKAGES)
    found = environment(REPO)
    assert all(found["packages"].values())
    assert found["cores"] >= 1
    assert git_state(tmp_path) == {"commit": None, "dirty": None}
