"""`python package_list.py pyproject.toml`: the packages of the image, one requirement a line.

It stands alone, so that the image's build can run it before anything is installed.
"""

import sys
import tomllib
from pathlib import Path

EXTRAS = ("safetensors",)  # of the extra `hf`: what P0 reads a checkpoint with


def requirements(pyproject: Path) -> list[str]:
    """The runtime dependencies, and what reads checkpoints."""
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    hf = project["optional-dependencies"]["hf"]
    return [*project["dependencies"], *(line for line in hf if line.startswith(EXTRAS))]


if __name__ == "__main__":
    print("\n".join(requirements(Path(sys.argv[1]))))
