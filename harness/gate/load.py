"""Reading a baseline file: every error names the file, the row and the field."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from harness.config.errors import ConfigError, close_match, spell
from harness.gate.baseline import SCHEMA, THRESHOLD, Baseline, Counts, Row
from harness.record import Sent

SHOWN = 80  # characters of a wrong value


def load(path: Path) -> Baseline:
    """The baseline in a file. Raises ConfigError."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(str(path), "no such file; permbench gate --update makes it") from None
    except (OSError, ValueError) as error:
        raise ConfigError(str(path), f"cannot be read as JSON: {error}") from None
    return parse(data, str(path))


def parse(data: Any, file: str) -> Baseline:
    """The baseline that is parsed JSON. Raises ConfigError, which names `file`."""
    place = _Place(file)
    values = place.keys(data, [f.name for f in fields(Baseline)], ("schema", "rows"))
    if values["schema"] != SCHEMA:
        raise place.error("schema", values["schema"], f"{SCHEMA} in this version")
    rows = tuple(_row(place, i, row) for i, row in enumerate(place.sequence(values, "rows")))
    names = [row.name for row in rows]
    if twice := [name for name in names if names.count(name) > 1]:
        raise place.error("rows", twice[0], "a list of rows with distinct names")
    return Baseline(rows, place.mapping(values, "machine"), place.mapping(values, "made"))


@dataclass(frozen=True)
class _Place:
    """A place inside a file of parsed JSON."""

    file: str
    path: str = ""

    def inside(self, key: str) -> "_Place":
        """The place `key` in this one."""
        return _Place(self.file, f"{self.path}.{key}" if self.path else key)

    def error(self, key: str, given: object, allowed: str) -> ConfigError:
        """What is wrong at `key`; with no key, here."""
        place = (self.inside(key) if key else self).path or "the file"
        found = spell(given)
        found = found if len(found) <= SHOWN else f"{found[:SHOWN]}…"
        return ConfigError(self.file, f"{place} is {found}, must be {allowed}")

    def keys(self, data: Any, known: Sequence[str], needed: Sequence[str]) -> dict[str, Any]:
        """`data` as a mapping with no key but `known` ones, and with all that are `needed`."""
        if not isinstance(data, dict):
            raise self.error("", data, "a JSON object")
        for key in data:
            if key not in known:
                guess = close_match(str(key), known)
                hint = f"did you mean {guess}? " if guess else ""
                text = (
                    f"unknown key {self.inside(str(key)).path}; {hint}allowed: {', '.join(known)}"
                )
                raise ConfigError(self.file, text)
        for key in needed:
            if key not in data:
                raise ConfigError(self.file, f"{self.inside(key).path} is missing")
        return data

    def mapping(self, values: Mapping[str, Any], key: str) -> dict[str, Any]:
        """An optional JSON object."""
        value = values.get(key, {})
        if not isinstance(value, dict):
            raise self.error(key, value, "a JSON object")
        return value

    def sequence(self, values: Mapping[str, Any], key: str) -> list[Any]:
        """An optional list."""
        value = values.get(key, [])
        if not isinstance(value, list):
            raise self.error(key, value, "a list")
        return value

    def count(self, values: Mapping[str, Any], key: str) -> int:
        """A whole number ≥ 0."""
        value = values[key]
        if not _whole(value) or value < 0:
            raise self.error(key, value, "a whole number ≥ 0")
        return int(value)


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _row(file: _Place, index: int, data: Any) -> Row:
    place = file.inside(f"rows[{index}]")
    values = place.keys(data, [f.name for f in fields(Row)], ("name", "run"))
    name, threshold = values["name"], values.get("threshold", THRESHOLD)
    if not isinstance(name, str) or not name:
        raise place.error("name", name, "a name")
    place = file.inside(f"rows[{index}] ({name})")
    if isinstance(threshold, bool) or not isinstance(threshold, int | float) or not threshold > 1:
        raise place.error("threshold", threshold, "a number > 1: 1.05 allows 5 % more time")
    run = place.sequence(values, "run")
    if not all(isinstance(word, str) for word in run):
        raise place.error("run", run, 'a list of words, as ["experiment.n=1000"]')
    times = place.sequence(values, "online_ns")
    if not all(_whole(ns) and ns > 0 for ns in times):
        raise place.error("online_ns", times, "a list of whole numbers > 0")
    inner = place.inside("phases")
    phases = place.mapping(values, "phases").items()
    counts = {phase: _counts(inner.inside(phase), data) for phase, data in phases}
    return Row(name, tuple(run), float(threshold), counts, tuple(times))


def _counts(place: _Place, data: Any) -> Counts:
    values = place.keys(data, ("hops", "sent"), ("hops", "sent"))
    inner, pairs = place.inside("sent"), place.mapping(values, "sent").items()
    return Counts(
        place.count(values, "hops"), {pair: _sent(inner.inside(pair), t) for pair, t in pairs}
    )


def _sent(place: _Place, data: Any) -> Sent:
    keys = [f.name for f in fields(Sent)]
    values = place.keys(data, keys, keys)
    return Sent(*(place.count(values, key) for key in keys))
