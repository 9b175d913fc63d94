"""What a party is asked to do: one evaluation job, as plain data that travels as JSON."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from netem.link import EmulatedLink
from netem.profile import LinkProfile
from protocols.party import Phase, Role
from protocols.transformer.spec import TransformerSpec
from protocols.workload import (
    Argmax,
    Generation,
    Layer,
    Nonlinear,
    Sampling,
    UserInput,
    Workload,
)

Profiles = Mapping[tuple[Role, Role], LinkProfile]


@dataclass(frozen=True)
class Job:
    """Evaluations of `workload` under `system`, as one role is told of them.

    user: what P1 alone knows; absent in what the others are told.
    """

    system: str
    options: dict[str, Any]
    workload: Workload
    seed: int | None
    user: UserInput | None = None

    def to_json(self) -> dict[str, Any]:
        """JSON fields."""
        kind = type(self.workload).__name__.lower()
        return asdict(self) | {"workload": {"kind": kind, **asdict(self.workload)}}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> "Job":
        """Back from JSON fields. Raises ValueError or TypeError for what is no job."""
        user = None if fields["user"] is None else _user(dict(fields["user"]))
        workload = _workload(dict(fields["workload"]))
        return cls(**{**fields, "workload": workload, "user": user})


def _workload(fields: dict[str, Any]) -> Workload:
    kind = fields.pop("kind")
    if kind == "argmax":
        return Argmax(**fields)
    if kind == "nonlinear":
        return Nonlinear(fields["op"], tuple(fields["shape"]))
    if kind == "layer":
        return Layer(TransformerSpec(**fields.pop("spec")), **fields)
    if kind == "generation":
        return Generation(TransformerSpec(**fields.pop("spec")), **fields)
    raise ValueError(f"no workload of kind {kind!r}")


def _user(fields: dict[str, Any]) -> UserInput:
    prompt = fields["prompt"]
    return UserInput(None if prompt is None else tuple(prompt), Sampling(**fields["sampling"]))


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
