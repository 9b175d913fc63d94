"""The files that come with the code, and no code of its own: conf/, the gate's baseline and published
numbers."""

from importlib.resources import files
from pathlib import Path

from harness.version import REPO

INSTALLED = "_data"  # setup.py puts them there


def data_path(name: str) -> Path:
    """Where `name`, a path from the root of a checkout, stands: there, or in the installed package."""
    installed = Path(str(files("harness"))) / INSTALLED
    return (installed if installed.is_dir() else REPO) / name
