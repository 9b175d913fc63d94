"""An installed wheel works from an empty folder, and leaves nothing but its packages behind."""

import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from harness.machine.docker_daemon import sources_digest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("permbench", "harness", "protocols", "baselines", "netem")
SOURCES = (*PACKAGES, "conf", "pyproject.toml", "setup.py", "README.md", "LICENSE")
DATA = ("results/reference/gate.json", "results/reference/published.csv")
LIMIT_S = 300


def run(argv: Sequence[str | Path], folder: Path) -> str:
    """What a command writes; nothing but the installed packages may be found by it."""
    environment = {name: text for name, text in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        argv,
        cwd=folder,
        env=environment,
        timeout=LIMIT_S,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy: a build leaves files of its own beside the sources."""
    if importlib.util.find_spec("setuptools") is None or importlib.util.find_spec("pip") is None:
        pytest.skip("building a wheel: setuptools and pip are not installed")
    tree = tmp_path_factory.mktemp("tree")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif (ROOT / name).exists():
            shutil.copy(ROOT / name, tree / name)
    for name in DATA:
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tree / name)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    run([*pip, "--wheel-dir", tree / "dist", tree], tree)
    (built,) = (tree / "dist").iterdir()
    return built


@pytest.fixture(scope="module")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site-packages of a new environment with the wheel, and beside it this one's packages."""
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder, symlinks=True)
    installed = Path(sysconfig.get_path("purelib", "venv", {"base": str(folder)}))
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), "install"]
    run([*pip, "--quiet", "--no-deps", "--no-index", wheel], folder)
    (installed / "others.pth").write_text(
        "\n".join(path for path in sys.path if "-packages" in path)
    )
    return installed


def test_a_wheel_brings_its_packages_and_no_other_name(wheel: Path) -> None:
    names = {Path(name).parts[0] for name in zipfile.ZipFile(wheel).namelist()}
    there = {name for name in PACKAGES if (ROOT / name).is_dir()}
    assert {name for name in names if not name.endswith(".dist-info")} == there


def test_an_installed_wheel_is_of_the_same_sources(site: Path) -> None:
    assert sources_digest(site) == sources_digest(ROOT)


@pytest.mark.slow
def test_an_installed_wheel_runs_from_an_empty_folder(site: Path, tmp_path: Path) -> None:
    permbench = site.parents[2] / "bin" / "permbench"
    assert "permllm-wan" in run([permbench, "list"], tmp_path)
    assert "3 s/token" in run([permbench, "published", "system=permllm"], tmp_path)
    assert "layer-bytes" in run([permbench, "reproduce", "--quick", "--dry-run"], tmp_path)
    run([permbench, "run", "experiment=argmax", "experiment.n=100", "shaper=none"], tmp_path)
    (record,) = (tmp_path / "results" / "runs").rglob("*.json")
    assert '"status": "ok"' in record.read_text()
    run([permbench, "report"], tmp_path)
    page = (tmp_path / "results" / "runs" / "report.html").read_text("utf-8")
    assert record.stem[:6] in page
    gated = run([permbench, "gate", "--counters-only", "--rows", "argmax plaintext"], tmp_path)
    assert "argmax plaintext" in gated
