"""Output that cannot be written: streams that nobody reads, full disks, folders that are none."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.measure import unsaved
from harness.records.record import Record
from harness.records.store import load_all, path_of
from harness.version import REPO
from tests.faults.program import TINY, Program, hidden
from tests.harness.conftest import build_record

# No secret: a failed record, before any party is started.
FAILING = (*TINY, "runner=remote", "results_dir=results")


@pytest.fixture
def broken() -> Iterator[int]:
    """The writing end of a pipe that nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    yield writer
    os.close(writer)


@pytest.fixture
def full() -> Iterator[int]:
    number = os.open("/dev/full", os.O_WRONLY)
    yield number
    os.close(number)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no tmpfs can be mounted here: root, with CAP_SYS_ADMIN")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """A file that takes what is free."""
    path = folder / "filling"
    try:
        with path.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
    except OSError:
        return path


@pytest.mark.slow
@pytest.mark.parametrize("stream", ["stderr", "stdout"])
def test_a_good_run_is_good_whoever_reads_of_it(broken: int, stream: str, tmp_path: Path) -> None:
    words = (*TINY, "results_dir=results")
    ended = Program("run", *words, folder=tmp_path, streams={stream: broken}).end(120)
    assert (ended.code, ended.left) == (0, []), ended.err
    assert [record.status for record in load_all(tmp_path / "results")] == ["ok"]


@pytest.mark.parametrize("stream", ["stderr", "stdout"])
def test_a_bad_run_is_bad_whoever_reads_of_it(broken: int, stream: str, tmp_path: Path) -> None:
    ended = Program("run", *FAILING, folder=tmp_path, streams={stream: broken}).end()
    assert ended.code == 1
    (record,) = load_all(tmp_path / "results")
    assert "no secret in the environment variable" in str(record.error)
    assert "Traceback" not in ended.err


def test_a_table_that_fits_no_disk_is_a_line_and_a_code(full: int, tmp_path: Path) -> None:
    for verb in (["run", *FAILING], ["list"]):
        ended = Program(*verb, folder=tmp_path, streams={"stdout": full}).end()
        assert ended.code == 1
        line = "permbench: standard output: No space left on device"
        assert ended.err.splitlines()[-1] == line
    assert Program("list", folder=tmp_path, streams={"stderr": full}).end().code == 0


def test_who_has_seen_enough_is_no_failure(broken: int, tmp_path: Path) -> None:
    ended = Program("list", folder=tmp_path, streams={"stdout": broken}).end()
    assert (ended.code, ended.err) == (0, "")


def test_streams_that_are_closed_hold_nothing_else(tmp_path: Path) -> None:
    """A socket would get their numbers, and a message go to a peer."""
    command = f"exec {sys.executable} -m harness run {' '.join(FAILING)} >&- 2>&- <&-"
    environment = {**os.environ, "PYTHONPATH": str(REPO)}
    done = subprocess.run(["sh", "-c", command], cwd=tmp_path, env=environment, check=False)
    assert done.returncode == 1
    assert len(load_all(tmp_path / "results")) == 1


def test_a_folder_that_is_none_is_bad_input(tmp_path: Path) -> None:
    """Before anything is started, with its name and what is wrong with it."""
    results = tmp_path / "results"
    results.mkdir()
    (results / "argmax").write_text("not a folder")
    ended = Program("run", *FAILING, folder=tmp_path).end()
    assert ended.code == 2
    line = f"permbench: results_dir: {results}/argmax is not a folder"
    assert ended.err.splitlines() == [line]
    (results / "argmax").unlink()
    (results / "argmax").symlink_to("argmax")
    ended = Program("run", *FAILING, folder=tmp_path).end()
    assert ended.code == 2
    assert ended.err.startswith(f"permbench: results_dir: {results}/argmax: Too many levels")
    ended = Program("run", *FAILING[:-1], f"results_dir={'x' * 300}", folder=tmp_path).end()
    assert ended.code == 2
    assert "File name too long" in ended.err


@pytest.mark.slow
def test_a_measured_record_survives_a_full_disk(small_disk: Path, tmp_path: Path) -> None:
    """It is kept in a place that is named, with its trace, and the code says that it is not saved."""
    fill(small_disk)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    words = (*TINY, "trace=true", f"results_dir={small_disk}/results")
    ended = Program("run", *words, folder=tmp_path, environment={"TMPDIR": str(elsewhere)}).end(120)
    assert (ended.code, ended.left) == (1, [])
    assert "Traceback" not in ended.err
    (place,) = elsewhere.glob("permbench-unsaved-*")
    assert f"not saved: what is in {place}; see it with: permbench show results_dir={place}" in (
        ended.err
    )
    (record,) = load_all(place)
    assert (record.status, record.error) == ("ok", None)
    assert [path.stem for path in (place / "traces").iterdir()] == [record.id]
    assert hidden(small_disk) == []


def saved(folder: Path, record: Record) -> bool:
    return path_of(folder, "argmax", record.id).exists()


def test_what_could_not_be_saved_is_tried_again(
    small_disk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    filling = fill(small_disk)
    first, second = (build_record([f"experiment.n={n}"]) for n in (11, 12))
    unsaved.keep_record(small_disk, first)
    assert unsaved.any_left()
    said = capsys.readouterr().err
    assert "No space left on device; kept as " in said
    (kept,) = (Path(word.strip(",")) for word in said.split() if "permbench-unsaved-" in word)
    assert kept.exists()
    filling.unlink()
    unsaved.keep_record(small_disk, second)
    assert not unsaved.any_left()
    assert saved(small_disk, first)
    assert saved(small_disk, second)
    assert not kept.parents[1].exists()


def test_what_can_be_kept_nowhere_is_printed(
    small_disk: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(unsaved, "ELSEWHERE", (str(small_disk),))
    filling = fill(small_disk)
    record = build_record(["experiment.n=13"])
    unsaved.keep_record(small_disk, record)
    unsaved.finish()
    out = capsys.readouterr()
    assert "kept in memory, to be tried again" in out.err
    assert Record.from_json(out.out) == record
    filling.unlink()
    unsaved.retry()
    assert saved(small_disk, record)


def test_figures_that_do_not_fit_are_a_line(small_disk: Path, tmp_path: Path) -> None:
    for n in (1000, 10_000):
        unsaved.keep_record(small_disk, build_record(["experiment=argmax", f"experiment.n={n}"]))
    assert not unsaved.any_left()
    fill(small_disk)
    ended = Program("report", f"results_dir={small_disk}", folder=tmp_path).end()
    assert ended.code == 1
    (line,) = ended.err.splitlines()
    assert line.startswith(f"permbench: {small_disk}/figures")
    assert line.endswith("No space left on device")
    assert hidden(small_disk) == []
    (small_disk / "filling").unlink()
    (small_disk / "figures").rmdir()
    (small_disk / "figures").write_text("")
    ended = Program("report", f"results_dir={small_disk}", folder=tmp_path).end()
    assert ended.code == 2
    assert ended.err == f"permbench: results_dir: {small_disk}/figures is not a folder\n"
