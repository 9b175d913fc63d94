"""What pyproject.toml cannot say: folders at the root that are data of the package once installed."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
INSIDE = "harness/_data"  # as harness/data_files.py looks for them
DATA = (
    "conf/**/*.yaml",
    "conf/external/*.py",
    "results/reference/gate.json",
    "results/reference/published.csv",
)


class BuildWithData(build_py):
    """Copies `DATA` into a wheel; an editable install reads it where it stands."""

    def run(self) -> None:
        """Build the packages, then their data."""
        super().run()
        if not self.editable_mode:
            for path in _files():
                self._take(path)

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        """All files of the wheel."""
        inside = Path(self.build_lib, INSIDE)
        data = [str(inside / path) for path in _files()]
        return super().get_outputs(include_bytecode) + ([] if self.editable_mode else data)

    def _take(self, path: Path) -> None:
        target = Path(self.build_lib, INSIDE, path)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / path, target)


def _files() -> list[Path]:
    return sorted(path.relative_to(ROOT) for pattern in DATA for path in ROOT.glob(pattern))


setup(cmdclass={"build_py": BuildWithData})
