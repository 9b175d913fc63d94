"""A checkpoint's config.json, read with checks."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from protocols.errors import CheckpointError


@dataclass(frozen=True)
class Config:
    """The values of one config.json. A null counts as absent, as it does in transformers."""

    path: Path
    values: Mapping[str, Any]

    def get(self, key: str, default: Any = None) -> Any:
        """The value of `key`, or `default`."""
        value = self.values.get(key)
        return default if value is None else value

    def size(self, key: str, default: int | None = None) -> int:
        """A positive integer; CheckpointError for anything else, or if absent without a default."""
        value = self.get(key, default)
        if type(value) is not int or value < 1:
            raise self.error(f"{key} is {_spell(value)}, expected a positive integer")
        return value

    def number(self, key: str, default: float) -> float:
        """A positive number."""
        value = self.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            raise self.error(f"{key} is {_spell(value)}, expected a positive number")
        return float(value)

    def section(self, key: str) -> "Config":
        """The object at `key`, empty if absent."""
        value = self.get(key, {})
        if not isinstance(value, dict):
            raise self.error(f"{key} is {_spell(value)}, expected an object")
        return Config(self.path, value)

    def require(self, key: str, *supported: object) -> None:
        """CheckpointError unless `key` has one of the values, the first standing for an absent key."""
        value = self.get(key, supported[0])
        if value not in supported:
            allowed = " or ".join(_spell(option) for option in supported)
            raise self.error(f"{key} is {_spell(value)}, supported: {allowed}")

    def require_multiple(self, key: str, of: str, value: int, divisor: int) -> None:
        """CheckpointError unless `divisor` (named `of`) divides `value` (named `key`)."""
        if value % divisor:
            raise self.error(f"{key} is {value}, expected a multiple of {of} = {divisor}")

    def error(self, problem: str) -> CheckpointError:
        """The error for this file."""
        return CheckpointError(self.path, problem)


def read_config(folder: Path) -> Config:
    """The config.json of `folder`. Raises CheckpointError if there is none, or none that can be read."""
    if not folder.is_dir():
        raise CheckpointError(folder, "no such folder")
    path = folder / "config.json"
    return Config(path, read_object(path))


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in `path`; CheckpointError if it is missing or something else."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(path, "no such file") from None
    except (OSError, ValueError) as error:
        raise CheckpointError(path, f"cannot be read as JSON: {error}") from None
    if not isinstance(content, dict):
        raise CheckpointError(path, "cannot be read as JSON: not an object")
    return content


def _spell(value: object) -> str:
    return "missing" if value is None else json.dumps(value, default=str)
