"""The networks that a replay is asked about: named ones, or a grid of round-trip times and rates."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from harness.config.groups import check_option, options
from harness.config.network import NetworkConfig
from harness.errors import ConfigError, rejected

RANGE = re.compile(
    r"^(?P<low>[^.]+(?:\.\d+)?)\.\.(?P<high>[^:]+)(?::(?P<log>log)?(?P<count>\d+))?$"
)
AXIS = "numbers such as 10, 1,10,100, 1..200:log20 (20 of them, even in the logarithm) or 0..100:11"
RATE_AXIS = f"{AXIS}, or null (unlimited)"


@dataclass(frozen=True)
class Networks:
    """What to predict for.

    rtts_ms, rates_mbit: the axes of a grid, whose points `configs` then are, a row for each rate.
    """

    configs: tuple[NetworkConfig, ...]
    rtts_ms: tuple[float, ...] = ()
    rates_mbit: tuple[float | None, ...] = ()

    @property
    def is_grid(self) -> bool:
        """Whether there are axes."""
        return bool(self.rtts_ms)


def named(names: Sequence[str], overrides: Sequence[str]) -> Networks:
    """The presets of these names with `network.key=value` overrides; no names: all presets."""
    from harness.config.compose import compose_all  # noqa: PLC0415 - Hydra is slow to import

    for name in names:
        check_option("network", name)
    chosen = names or options("network")
    configs = [c.network for c in compose_all([[f"network={n}", *overrides] for n in chosen])]
    if not names:
        configs.sort(key=lambda c: (c.rtt_ms, -(c.rate_mbit or math.inf)))
    return Networks(tuple(configs))


def grid(
    names: Sequence[str], overrides: Sequence[str], rtt_text: str | None, rate_text: str | None
) -> Networks:
    """Round-trip times × rates; an axis that is not given is the one value of the named network, or
    of a run's default one. Raises ConfigError."""
    from harness.config.compose import compose_run  # noqa: PLC0415 - Hydra is slow to import

    if len(names) > 1:
        raise rejected("network", ",".join(names), "one network where rtt_ms or rate_mbit is given")
    base = compose_run([*(f"network={name}" for name in names), *overrides]).network
    rtts = (base.rtt_ms,) if rtt_text is None else _rtts(rtt_text)
    rates = (base.rate_mbit,) if rate_text is None else _rates(rate_text)
    points = [replace(base, rtt_ms=rtt, rate_mbit=rate) for rate in rates for rtt in rtts]
    return Networks(tuple(points), rtts, rates)


def _rtts(text: str) -> tuple[float, ...]:
    values = parse_axis("rtt_ms", text, AXIS)
    if min(values) < 0:
        raise rejected("rtt_ms", text, "numbers ≥ 0")
    return values


def _rates(text: str) -> tuple[float | None, ...]:
    if text == "null":
        return (None,)
    values = parse_axis("rate_mbit", text, RATE_AXIS)
    if min(values) <= 0:
        raise rejected("rate_mbit", text, "numbers > 0, or null (unlimited)")
    return values


def parse_axis(key: str, text: str, allowed: str = AXIS) -> tuple[float, ...]:
    """The numbers of `1,10,100`, `1..200:log20` or `0..100:11`, rising. Raises ConfigError."""
    try:
        values = _range(text) if ".." in text else [float(part) for part in text.split(",")]
    except ValueError:
        raise rejected(key, text, allowed) from None
    if not all(math.isfinite(value) for value in values) or len(set(values)) < len(values):
        raise rejected(key, text, allowed)
    return tuple(sorted(values))


def _range(text: str) -> list[float]:
    """Raises ValueError."""
    found = RANGE.match(text)
    if found is None or found["count"] is None:
        raise ValueError(text)
    low, high, count = float(found["low"]), float(found["high"]), int(found["count"])
    if count < 2 or low >= high:
        raise ValueError(text)
    if not found["log"]:
        return [low + (high - low) * i / (count - 1) for i in range(count)]
    logs = math.log(low), math.log(high)  # ValueError for what has none
    middle = [
        math.exp(logs[0] + (logs[1] - logs[0]) * i / (count - 1)) for i in range(1, count - 1)
    ]
    return [low, *middle, high]


def check_predictable(networks: Networks) -> Networks:
    """Return `networks`, or raise ConfigError where one has loss or jitter."""
    for config in networks.configs:
        links = [vars(config), vars(config.dealer), *config.links.values()]
        for key in ("loss", "jitter_ms"):
            if any(link.get(key) for link in links):
                raise ConfigError(f"network.{key}", "a replay knows delay and rate only; must be 0")
    return networks
