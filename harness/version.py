"""The version of permbench, and the folder it lies in."""

import importlib.metadata
import tomllib
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]
PYPROJECT = REPO / "pyproject.toml"


def version() -> str:
    """The installed version, or that of the checkout."""
    try:
        return importlib.metadata.version("permbench")
    except importlib.metadata.PackageNotFoundError:
        return str(tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]["version"])
