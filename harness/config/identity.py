"""A configuration as plain data, and its hash: the name of its record."""

import hashlib
import json
from dataclasses import asdict
from typing import Any

from harness.config.schema import RunConfig

# What a run's numbers do not depend on: where they go, and why they were measured (again).
NOT_IDENTITY = ("results_dir", "force")
MEETING = (
    "listen",
    "secret_file",
    "wait_s",
)  # of a runner: how parties and harness find each other


def resolved(config: RunConfig) -> dict[str, Any]:
    """The whole configuration as nested dicts, lists and plain values."""
    return asdict(config)


def config_hash(config: RunConfig) -> str:
    """16 hex digits over everything that decides what a run does."""
    data = resolved(config)
    for key in NOT_IDENTITY:
        del data[key]
    del data["network"]["source"]  # a citation
    del data["calibration"]["max_age_s"]
    for key in MEETING:
        data["runner"].pop(key, None)
    if not data["trace"]:
        del data["trace"]  # a traced run is another one; all others are named as before traces
    if not data["transport"]["tls"]:
        del data["transport"]  # as before there was TLS
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
