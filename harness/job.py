"""What a party is asked to do: one evaluation job, as plain data that travels as JSON."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from netem.link import EmulatedLink
from netem.profile import LinkProfile
from protocols.party import Phase, Role
from protocols.transformer.spec import TransformerSpec
from protocols.workload import Argmax, Layer, Nonlinear, Workload

Profiles = Mapping[tuple[Role, Role], LinkProfile]


@dataclass(frozen=True)
class Job:
    """`repeat` measured evaluations of `workload` under `system`, after `warmup` others."""

    system: str
    options: dict[str, Any]
    workload: Workload
    seed: int | None
    repeat: int
    warmup: int

    def to_json(self) -> dict[str, Any]:
        """JSON fields."""
        kind = type(self.workload).__name__.lower()
        return asdict(self) | {"workload": {"kind": kind, **asdict(self.workload)}}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> "Job":
        """Back from JSON fields. Raises ValueError or TypeError for what is no job."""
        return cls(**{**fields, "workload": _workload(dict(fields["workload"]))})


def _workload(fields: dict[str, Any]) -> Workload:
    kind = fields.pop("kind")
    if kind == "argmax":
        return Argmax(**fields)
    if kind == "nonlinear":
        return Nonlinear(fields["op"], tuple(fields["shape"]))
    if kind == "layer":
        return Layer(TransformerSpec(**fields.pop("spec")), **fields)
    raise ValueError(f"no workload of kind {kind!r}")


@dataclass(frozen=True)
class Shaping:
    """The links that the parties emulate, and in which phases. No profiles: full speed."""

    profiles: dict[str, LinkProfile]
    phases: tuple[Phase, ...]
    seed: int

    def to_json(self) -> dict[str, Any]:
        """JSON fields."""
        return asdict(self)

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> "Shaping":
        """Back from JSON fields."""
        profiles = {pair: LinkProfile(**p) for pair, p in fields["profiles"].items()}
        return cls(profiles, tuple(fields["phases"]), fields["seed"])

    def links_from(self, role: Role) -> dict[Role, EmulatedLink]:
        """The outgoing links of one role; unshaped ones are left out."""
        links: dict[Role, EmulatedLink] = {}
        for pair, profile in self.profiles.items():
            source, _, to = pair.partition(">")
            if source == role and profile.shaped:
                links[to] = EmulatedLink(profile, hash_seed(self.seed, pair))  # type: ignore[index]
        return links


def hash_seed(seed: int, name: str) -> int:
    """A seed for one named use of a run's seed (jitter; nothing secret)."""
    return seed * 1_000_003 + sum(ord(c) << (8 * i) for i, c in enumerate(name))
