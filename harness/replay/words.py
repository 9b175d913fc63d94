"""The words of `permbench replay`, sorted by what they say."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from harness.config.errors import ConfigError, rejected
from harness.verbs.show import split_folder

if TYPE_CHECKING:
    from harness.replay.networks import Networks

OWN_KEYS = ("network", "rtt_ms", "rate_mbit", "compute", "compute_scale")


@dataclass(frozen=True)
class Words:
    """records: files and beginnings of ids. filters: as of show. network_overrides:
    `network.key=value`. own: the other keys of replay itself."""

    records: list[str]
    filters: list[str]
    network_overrides: list[str]
    own: dict[str, str]
    results_dir: Path

    def compute(self) -> Literal["cpu", "wall"]:
        """Whose time a segment takes. Raises ConfigError."""
        given = self.own.get("compute", "cpu")
        if given not in ("cpu", "wall"):
            raise rejected("compute", given, "cpu or wall")
        return "wall" if given == "wall" else "cpu"

    def scale(self) -> float:
        """How many times as long the parties' work takes. Raises ConfigError."""
        text = self.own.get("compute_scale", "1")
        try:
            scale = float(text)
        except ValueError:
            scale = math.nan
        if not 0 <= scale < math.inf:
            raise rejected("compute_scale", text, "a number ≥ 0 (2: machines half as fast)")
        return scale

    def networks(self) -> "Networks | None":
        """What they say about networks; None if nothing. Raises ConfigError."""
        from harness.replay.networks import check_predictable, grid, named  # noqa: PLC0415 - slow

        names = self.own["network"].split(",") if "network" in self.own else []
        axes = self.own.get("rtt_ms"), self.own.get("rate_mbit")
        if axes != (None, None):
            return check_predictable(grid(names, self.network_overrides, *axes))
        if not names and not self.network_overrides:
            return None
        return check_predictable(named(names, self.network_overrides))


def split_words(words: Sequence[str]) -> Words:
    """Sort words by what they say. Raises ConfigError for a key given twice."""
    folder, rest = split_folder(words)
    split = Words([], [], [], {}, folder)
    for word in rest:
        key, equals, value = word.partition("=")
        if not equals:
            split.records.append(word)
        elif key.startswith("network."):
            split.network_overrides.append(word)
        elif key not in OWN_KEYS:
            split.filters.append(word)
        elif key in split.own:
            raise ConfigError(key, "is given twice")
        else:
            split.own[key] = value
    return split
