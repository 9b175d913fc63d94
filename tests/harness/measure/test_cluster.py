"""Sweeps spread over jobs, by submitit's local processes and by a stand-in for Slurm's commands."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from harness.cli.main import main
from harness.config.groups import CONF_DIR
from harness.records import store

pytest.importorskip("submitit", reason="the extra cluster is not installed")
pytestmark = pytest.mark.slow

QUICK = [
    "shaper=none",
    "repeat=1",
    "warmup=0",
    "calibration.strict=false",
    "calibration.patience_s=0",
]
SWEEP = ["run", "-m", "experiment.n=10,20,30,40", *QUICK, "sweep.jobs=2"]
LOCAL = "hydra/launcher=submitit_local"

SBATCH = """#!/bin/bash
# Runs the job as one task on this machine. As in Slurm, the script is taken over before this
# returns, as submitit then moves the file away, and the job begins later (see srun).
id=$$ script=$(< "${@: -1}")
export SLURM_JOB_ID=$id SLURM_JOB_NUM_NODES=1 SLURM_NTASKS=1 SLURM_NODEID=0 SLURM_PROCID=0
export SLURM_LOCALID=0 SLURM_JOB_NODELIST=here
(bash -c "$script"; touch "$SLURM_DIR/ended.$id") > /dev/null 2>&1 &
echo "Submitted batch job $id"
"""
SRUN = """#!/bin/bash
while [[ $1 == -* ]]; do
  case $1 in --output) out=$2; shift 2;; --error) err=$2; shift 2;; *) shift;; esac
done
for tag in %j:$SLURM_JOB_ID %t:0; do
  out=${out//${tag%%:*}/${tag##*:}} err=${err//${tag%%:*}/${tag##*:}}
done
until [[ -d ${out%/*} ]]; do sleep 0.05; done # made by submitit once it has been told the job's id
exec "$@" > "$out" 2> "$err"
"""
SACCT = """#!/bin/bash
echo "JobID|State|NodeList"
for id in "$@"; do
  [[ $id == [0-9]* ]] || continue
  [[ -e $SLURM_DIR/ended.$id ]] && state=COMPLETED || state=RUNNING
  echo "$id|$state|here"
done
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder; at the end no process is left."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def left_running() -> list[psutil.Process]:
    return psutil.Process().children(recursive=True)


def logs(folder: Path) -> list[str]:
    return [path.read_text() for path in sorted(folder.glob(".submitit/*/*/*_log.err"))]


def test_jobs_share_one_folder(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two jobs, each of two runs with the same parties; then nothing is left to submit."""
    assert main([*SWEEP, LOCAL, "results_dir=results"]) == 0
    records = store.load_all(Path("results"))
    assert sorted((r.config["experiment"]["n"], r.status) for r in records) == [
        (n, "ok") for n in (10, 20, 30, 40)
    ]
    texts = logs(Path("results"))
    assert [text.count("starting parties") for text in texts] == [1, 1]
    assert sorted(re.findall(r"argmax n=(\d+)", text)[0] for text in texts) == ["10", "20"]
    assert " 40  permllm" in capsys.readouterr().out
    assert main([*SWEEP, "results_dir=results"]) == 0
    assert len(logs(Path("results"))) == 2
    assert left_running() == []


def test_a_job_that_ends_early_leaves_failed_rows(folder: Path) -> None:
    """A time limit of no time: submitit's controller kills the job."""
    arguments = ["run", "experiment.n=10", *QUICK, LOCAL, "hydra.launcher.timeout_min=0"]
    assert main(arguments) == 1
    (record,) = store.load_all(Path("results/runs"))
    assert record.status == "failed"
    assert str(record.error).startswith("job ")
    assert "ended without it" in str(record.error)
    assert main(["run", "experiment.n=10", *QUICK]) == 0


def test_ctrl_c_cancels_jobs(folder: Path) -> None:
    program = subprocess.Popen(
        [sys.executable, "-m", "harness", *SWEEP, LOCAL, "repeat=100000"],
        env=os.environ | {"PYTHONPATH": str(CONF_DIR.parent)},
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 60
    while sum("measuring" in text for text in logs(Path("results/runs"))) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    processes = psutil.Process(program.pid).children(recursive=True)
    assert len(processes) == 2 * (1 + 1 + 3)  # submitit's controller, the job, its parties
    program.send_signal(signal.SIGINT)
    assert program.wait(20) == 130
    _, alive = psutil.wait_procs(processes, timeout=5)
    for process in alive:
        process.kill()
    assert alive == []
    assert {record.status for record in store.load_all(Path("results/runs"))} <= {"failed"}


def test_slurm(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What sbatch is asked for, and that its jobs' records come back."""
    commands = folder / "bin"
    commands.mkdir()
    texts = {"sbatch": SBATCH, "srun": SRUN, "sacct": SACCT, "scancel": "#!/bin/bash\n"}
    for name, text in texts.items():
        (commands / name).write_text(text)
        (commands / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{commands}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_DIR", str(commands))
    slurm = ["hydra/launcher=submitit_slurm", "hydra.launcher.partition=cpu"]
    assert main([*SWEEP, *slurm, "results_dir=results"]) == 0
    assert [record.status for record in store.load_all(Path("results"))] == ["ok"] * 4
    scripts = [path.read_text() for path in folder.glob("results/.submitit/*/*/*submission.sh")]
    assert len(scripts) == 2
    for line in ("partition=cpu", "cpus-per-task=3", "mem=16GB", "time=240", "job-name=permbench"):
        assert f"#SBATCH --{line}\n" in scripts[0]
