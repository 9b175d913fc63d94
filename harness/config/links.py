"""`network.links`, the one mapping with free keys: OmegaConf leaves its types to us."""

from collections.abc import Mapping
from dataclasses import MISSING, asdict, fields, replace

from harness.config.errors import ConfigError, rejected, unknown
from harness.config.network import DIRECTIONS, DirectionConfig, NetworkConfig

FIELDS = {field.name: field.default is MISSING for field in fields(DirectionConfig)}


def canonical_links(network: NetworkConfig) -> NetworkConfig:
    """`network` with every direction spelt P0>P1 and holding all its values as floats.

    The command line spells directions P0_P1, since `>` redirects. Raises ConfigError.
    """
    links = {}
    for given, values in network.links.items():
        name = given.replace("_", ">")
        if name not in DIRECTIONS:
            raise unknown(f"network.links.{given}", "unknown direction", DIRECTIONS)
        links[name] = asdict(_direction(f"network.links.{name}.", values))
    return replace(network, links=links)


def _direction(prefix: str, values: Mapping[str, object]) -> DirectionConfig:
    for key in values:
        if key not in FIELDS:
            raise unknown(f"{prefix}{key}", "unknown key", FIELDS, prefix)
    for key, required in FIELDS.items():
        if required and key not in values:
            raise ConfigError(f"{prefix}{key}", "is not set, and a direction needs it")
    rate = values["rate_mbit"]
    return DirectionConfig(
        delay_ms=_number(f"{prefix}delay_ms", values["delay_ms"]),
        rate_mbit=None if rate is None else _number(f"{prefix}rate_mbit", rate),
        jitter_ms=_number(f"{prefix}jitter_ms", values.get("jitter_ms", 0.0)),
        loss=_number(f"{prefix}loss", values.get("loss", 0.0)),
    )


def _number(key: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise rejected(key, value, "a number")
    return float(value)
