"""The machine and software that a record was made on."""

import os
import platform
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

# The runtime dependencies of pyproject.toml.
PACKAGES = (
    "torch",
    "numpy",
    "numba",
    "hydra-core",
    "pandas",
    "pyarrow",
    "matplotlib",
    "tenseal",
    "cryptography",
    "docker",
    "psutil",
    "rich",
    "jinja2",
)
# What tells machines apart, as far as their numbers go.
MACHINE_KEYS = ("cpu_model", "cores", "usable_cores", "memory_bytes", "governor", "kernel")
GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")


def environment(repo_root: Path) -> dict[str, Any]:
    """What may change a number: date, CPU, governor, load, memory, kernel, versions, commit.

    A value that the machine does not tell is None; so is the container image before a run has one.
    """
    memory = psutil.virtual_memory()
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu_model": cpu_model(),
        "cores": os.cpu_count(),
        "usable_cores": usable_cores(),
        "governor": governor(),
        "load_average": list(os.getloadavg()),
        "memory_bytes": memory.total,
        "memory_available_bytes": memory.available,
        "kernel": platform.release(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: package_version(name) for name in PACKAGES},
        "git": git_state(repo_root),
        "image": None,
    }


def machine_of(environment: Mapping[str, Any]) -> dict[str, Any]:
    """The machine of a record's environment, as far as that tells."""
    return {key: environment.get(key) for key in MACHINE_KEYS}


def cpu_model() -> str | None:
    """The CPU's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or None
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or None)


def usable_cores() -> int:
    """Cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def governor() -> str | None:
    """The CPU frequency governor; None where the kernel does not show one."""
    try:
        return GOVERNOR.read_text(encoding="utf-8").strip()
    except OSError:
        return None


def package_version(name: str) -> str | None:
    """The installed version of a package."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def git_state(repo_root: Path) -> dict[str, Any]:
    """Commit and dirty flag of the checkout at `repo_root`; both None if it is not one."""
    nothing = {"commit": None, "dirty": None}
    top = _git(repo_root, "rev-parse", "--show-toplevel")
    # An installed copy may lie inside some other project's repository.
    if top is None or Path(top).resolve() != repo_root.resolve():
        return nothing
    commit = _git(repo_root, "rev-parse", "--verify", "HEAD")
    changes = _git(repo_root, "status", "--porcelain")
    return nothing if commit is None else {"commit": commit, "dirty": bool(changes)}


def commit_of(repo_root: Path, name: str) -> str | None:
    """The full hash of a commit that git knows by `name`, as HEAD~1 or a tag; None where it does not."""
    if git_state(repo_root)["commit"] is None or name.startswith("-"):
        return None
    return _git(repo_root, "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}") or None


def _git(repo_root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(repo_root), *arguments],
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
            start_new_session=True,  # Ctrl-C would leave a record without its commit
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
