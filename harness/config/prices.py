"""Prices, for what a token costs in money: keys of a report, with the date on which they held."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields

from harness.config.groups import CONF_DIR, loaded
from harness.errors import rejected, unknown
from protocols.options import doc

PREFIX = "prices."
AT_LEAST_0 = "a number ≥ 0"


@dataclass(frozen=True)
class Prices:
    """What is paid for; conf/prices.yaml has the defaults."""

    currency: str = field(metadata=doc("of all prices", "a text, as USD"))
    per_gb: float = field(metadata=doc("of 10^9 bytes between the parties", AT_LEAST_0))
    per_core_hour: float = field(metadata=doc("of one core for an hour", AT_LEAST_0))
    date: str = field(metadata=doc("when they held", "a text, as 2026-11"))
    source: str = field(metadata=doc("where they are from", "a text"))


def prices_of(arguments: Sequence[str]) -> tuple[Prices, list[str]]:
    """The prices with what `prices.KEY=VALUE` sets, and the other arguments. Raises ConfigError."""
    given = loaded(CONF_DIR / "prices.yaml")
    others = []
    for argument in arguments:
        key, _, value = argument.partition("=")
        if not key.startswith(PREFIX):
            others.append(argument)
            continue
        name = key.removeprefix(PREFIX)
        if name not in given:
            raise unknown(key, "unknown key", [f"{PREFIX}{f.name}" for f in fields(Prices)])
        given[name] = _number(key, value) if name.startswith("per_") else value
    return Prices(**given), others


def _number(key: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise rejected(key, text, AT_LEAST_0)
    return value
