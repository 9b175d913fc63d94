"""The `network` group: links between roles, and the profile of every ordered pair."""

from collections.abc import Collection, Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from itertools import permutations, product
from typing import Any, cast

from harness.errors import ConfigError, rejected, unknown
from netem.profile import LinkProfile
from protocols.options import doc
from protocols.party import ALL_ROLES, ROLES, Role

Pair = tuple[Role, Role]
SIDE = f"one role of {ALL_ROLES[0]} to {ALL_ROLES[-1]}, or several joined by +"

RTT = doc("round-trip time, ms", "a number ≥ 0")
RATE = doc("rate of each direction, Mbit/s; null: unlimited", "a number > 0 or null")
JITTER = doc("delays vary evenly by ± this, ms", "from 0 to the one-way delay")
LOSS = doc("part of all packets that is lost; needs a shaper of packets (tc)", "from 0 to below 1")


@dataclass(frozen=True)
class LinkConfig:
    """A symmetric link."""

    rtt_ms: float = field(default=0.0, metadata=RTT)
    rate_mbit: float | None = field(default=None, metadata=RATE)
    jitter_ms: float = field(default=0.0, metadata=JITTER)
    loss: float = field(default=0.0, metadata=LOSS)

    def direction(self) -> "DirectionConfig":
        """Either direction of the link."""
        return DirectionConfig(self.rtt_ms / 2, self.rate_mbit, self.jitter_ms, self.loss)


@dataclass(frozen=True)
class DirectionConfig:
    """One direction of a link."""

    delay_ms: float = field(metadata=doc("one-way delay, ms", "a number ≥ 0"))
    rate_mbit: float | None = field(metadata=RATE)
    jitter_ms: float = field(default=0.0, metadata=JITTER)
    loss: float = field(default=0.0, metadata=LOSS)

    def profile(self) -> LinkProfile:
        """The same in the units of `LinkProfile`."""
        return LinkProfile(
            delay_s=self.delay_ms / 1e3,
            rate_bit_s=None if self.rate_mbit is None else self.rate_mbit * 1e6,
            jitter_s=self.jitter_ms / 1e3,
            loss=self.loss,
        )


@dataclass(frozen=True)
class NetworkConfig:
    """Named links. The network's own keys hold between the roles that are online."""

    name: str = field(metadata=doc("its name in tables", "a name"))
    source: str = field(metadata=doc("where the numbers are from"))
    rtt_ms: float = field(metadata=RTT)
    rate_mbit: float | None = field(metadata=RATE)
    jitter_ms: float = field(default=0.0, metadata=JITTER)
    loss: float = field(default=0.0, metadata=LOSS)
    dealer: LinkConfig = field(
        default_factory=LinkConfig,
        metadata=doc("with a role that is only a dealer (unshaped unless set):"),
    )
    links: dict[str, dict[str, Any]] = field(
        default_factory=dict,
        metadata=doc(
            "directions that differ, each with delay_ms, rate_mbit, jitter_ms, loss; "
            "in a file P0+P3>P1 is from P0 and from P3, where a run has them",
            "network.links.P1_P0.delay_ms=5 …",
        ),
    )

    def main_link(self) -> LinkConfig:
        """The link between roles that are online."""
        return LinkConfig(self.rtt_ms, self.rate_mbit, self.jitter_ms, self.loss)

    def profiles(
        self, online_roles: Collection[Role], roles: Collection[Role] = ROLES
    ) -> dict[Pair, LinkProfile]:
        """The profile of every ordered pair of `roles`.

        Two online roles get the main link, a pair with another role the dealer's; `links` replaces
        directions. Raises ConfigError for a direction between two single roles that are not both there.
        """
        links = self._directions(roles)
        main, dealer = self.main_link().direction(), self.dealer.direction()
        return {
            pair: links.get(pair, main if set(pair) <= set(online_roles) else dealer).profile()
            for pair in permutations(roles, 2)
        }

    def _directions(self, roles: Collection[Role]) -> dict[Pair, DirectionConfig]:
        """Those of `links`. One between two single roles counts before those of several roles, which
        say where roles stand if there are any: of them what `roles` has is taken."""
        singles: dict[Pair, DirectionConfig] = {}
        several: dict[Pair, DirectionConfig] = {}
        for name, values in self.links.items():
            pairs, direction = pairs_of_direction(name), DirectionConfig(**values)
            if len(pairs) > 1:
                several |= dict.fromkeys(pairs, direction)
                continue
            if absent := [role for role in pairs[0] if role not in roles]:
                rule = f"there is no {absent[0]} in this run, which has {', '.join(roles)}"
                raise ConfigError(f"network.links.{name}", rule)
            singles[pairs[0]] = direction
        return several | singles


def pairs_of_direction(name: str) -> list[Pair]:
    """The ordered pairs of a direction such as P0>P1 or P0+P3>P1. Raises ValueError for none."""
    sides = [cast(list[Role], side.split("+")) for side in name.split(">")]
    known = all(role in ALL_ROLES for side in sides for role in side)
    pairs = list(product(*sides)) if known and len(sides) == 2 else []
    if not pairs or any(a == b for a, b in pairs) or len(set(pairs)) < len(pairs):
        raise ValueError(f"no direction: {name}")
    return [(a, b) for a, b in pairs]


FIELDS = {field.name: field.default is MISSING for field in fields(DirectionConfig)}


def canonical_links(network: NetworkConfig) -> NetworkConfig:
    """`network` with every direction spelt P0>P1 and holding all its values as floats.

    The command line spells directions P0_P1, since `>` redirects. Raises ConfigError, also where two
    directions of several roles name one pair.
    """
    links = {}
    several: set[Pair] = set()
    for given, values in network.links.items():
        name = given.replace("_", ">")
        pairs = _pairs(given, name)
        if len(pairs) > 1 and (twice := several.intersection(pairs)):
            a, b = min(twice)
            raise ConfigError(f"network.links.{given}", f"{a}>{b} is in another direction already")
        several.update(pairs if len(pairs) > 1 else ())
        links[name] = asdict(_direction(f"network.links.{name}.", values))
    return replace(network, links=links)


def _pairs(given: str, name: str) -> list[Pair]:
    try:
        return pairs_of_direction(name)
    except ValueError:
        rule = f"must be a direction such as P0>P1, each side {SIDE}"
        raise ConfigError(f"network.links.{given}", rule) from None


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
