"""Records of older schemas as ones of this schema: plain data to plain data, one step a schema.

1: the first. Its emulated link stood at the sender, and its frames were longer. Keys came one by one:
   `trace`, `generated`, `network.interfaces`, `network.calibrated_at`.
2: a frame's header is shorter, and the emulated link stands at the receiver.
3: `environment.sources`, `correctness.exact`, `stored_bytes`.
4: `operators`.

No number is changed. What a record could not know is null; with no `sources` it counts as made by
other code, so that it is read, and shown under its own commit, but never measured with what is new.
"""

from collections.abc import Callable, Mapping
from typing import Any

SCHEMA = 4
Data = dict[str, Any]


def migrated(data: Mapping[str, Any]) -> Data:
    """A record's data at schema `SCHEMA`. Raises ValueError for a schema that never was."""
    found = data.get("schema")
    if not isinstance(found, int) or not 1 <= found <= SCHEMA:
        raise ValueError(f"schema {found}, this version reads schemas 1 to {SCHEMA}")
    current = dict(data)
    for step in STEPS[found - 1 :]:
        current = step(current)
    return current | {"schema": SCHEMA}


def _from_1(data: Data) -> Data:
    config = {"trace": False, **data["config"]}
    network = {"interfaces": {}, "calibrated_at": None, **data["network"]}
    return {"generated": None, **data, "config": config, "network": network}


def _from_2(data: Data) -> Data:
    correctness = data["correctness"] and {"exact": None, **data["correctness"]}
    environment = {"sources": None, **data["environment"]}
    new = {"correctness": correctness, "environment": environment, "stored_bytes": None}
    return {**data, **new}


def _from_3(data: Data) -> Data:
    return {**data, "operators": None}


STEPS: tuple[Callable[[Data], Data], ...] = (_from_1, _from_2, _from_3)
