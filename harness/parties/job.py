"""What a party is asked to do: one evaluation job, as plain data that travels as JSON."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import permutations
from typing import Any, Literal, cast

from harness.parties.faults import Fault
from harness.registry import options_class
from netem.emulated_link import EmulatedLink
from netem.profile import LinkProfile
from protocols.party import Phase, Role
from protocols.transformer.spec import TransformerSpec
from protocols.workload import (
    Argmax,
    Attention,
    Bootstrapping,
    Generation,
    Layer,
    Linear,
    Nonlinear,
    Sampling,
    UserInput,
    Workload,
)

IN_FULL = 3  # links of the same two profiles that are measured at every size
Shaper = Literal["none", "emulated", "tc", "proxy"]  # proxy: between the parties, on loopback


@dataclass(frozen=True)
class Job:
    """Evaluations of `workload` under `system`, as they are sent to one role.

    user: what P1 alone knows; absent in what the others get. trace: report what `replay` needs.
    key_seed: of keys, for tests; None: from the operating system. check_memory: the party is to see
    for itself whether its machine has what it will need; the harness cannot.
    fault: what `permbench gate --self-test` must find; there is no configuration key for it.
    """

    system: str
    options: Any
    workload: Workload
    seed: int
    user: UserInput | None = None
    trace: bool = False
    fault: Fault | None = None
    key_seed: int | None = None
    check_memory: bool = False

    def to_json(self) -> dict[str, Any]:
        """JSON fields."""
        kind = type(self.workload).__name__.lower()
        return asdict(self) | {"workload": {"kind": kind, **asdict(self.workload)}}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> "Job":
        """Back from JSON fields. Raises ValueError or TypeError for what is no job, KeyError for an
        unknown system."""
        options = options_class(fields["system"])(**fields["options"])
        user = None if fields["user"] is None else _user(dict(fields["user"]))
        workload = _workload(dict(fields["workload"]))
        fault = None if fields["fault"] is None else Fault(**fields["fault"])
        given = {"options": options, "workload": workload, "user": user, "fault": fault}
        return cls(**{**fields, **given})


def _workload(fields: dict[str, Any]) -> Workload:
    kind = fields.pop("kind")
    if kind == "argmax":
        return Argmax(**fields)
    if kind == "nonlinear":
        return Nonlinear(fields["op"], tuple(fields["shape"]))
    if kind == "linear":
        return Linear(**fields)
    if kind == "attention":
        return Attention(**fields)
    if kind == "layer":
        return Layer(TransformerSpec(**fields.pop("spec")), **fields)
    if kind == "generation":
        return Generation(TransformerSpec(**fields.pop("spec")), **fields)
    if kind == "bootstrapping":
        return Bootstrapping(**fields)
    raise ValueError(f"no workload of kind {kind!r}")


def _user(fields: dict[str, Any]) -> UserInput:
    prompt = fields["prompt"]
    return UserInput(None if prompt is None else tuple(prompt), Sampling(**fields["sampling"]))


@dataclass(frozen=True)
class Shaping:
    """What the links are to be like, who makes them so, and in which phases.

    profiles: by "P0>P1", of every ordered pair. phases: the shaped ones; others run at full speed.
    """

    shaper: Shaper = "none"
    profiles: dict[str, LinkProfile] = field(default_factory=dict)
    phases: tuple[Phase, ...] = ()
    seed: int = 0

    @classmethod
    def of_delay(cls, delay_s: float, roles: Collection[Role]) -> "Shaping":
        """Online, every link between `roles` has this delay each way, and nothing else."""
        links = {f"{a}>{b}": LinkProfile(delay_s) for a, b in permutations(roles, 2)}
        return cls("emulated", links, ("online",))

    def to_json(self) -> dict[str, Any]:
        """JSON fields."""
        return asdict(self)

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> "Shaping":
        """Back from JSON fields."""
        profiles = {pair: LinkProfile(**p) for pair, p in fields["profiles"].items()}
        return cls(fields["shaper"], profiles, tuple(fields["phases"]), fields["seed"])

    def profile(self, source: Role, to: Role) -> LinkProfile:
        """What one direction is to be like."""
        return self.profiles.get(f"{source}>{to}", LinkProfile())

    def profiles_from(self, role: Role) -> dict[Role, LinkProfile]:
        """The shaped links that go out of one role, by receiving role."""
        return {to: p for source, to, p in self._links() if source == role and p.shaped}

    def emulated_to(self, role: Role) -> dict[Role, EmulatedLink]:
        """The links in user space to one role, by sending role; none where somebody else shapes."""
        if self.shaper != "emulated":
            return {}
        return {
            source: EmulatedLink(profile, hash_seed(self.seed, f"{source}>{role}"))
            for source, to, profile in self._links()
            if to == role and profile.shaped
        }

    def _links(self) -> Iterator[tuple[Role, Role, LinkProfile]]:
        for name, profile in self.profiles.items():
            source, to = cast(list[Role], name.split(">"))
            yield source, to, profile

    def measured_briefly(self, pairs: Sequence[tuple[Role, Role]]) -> set[tuple[Role, Role]]:
        """Those of `pairs` whose link is measured without the ladder of sizes: `IN_FULL` others of the
        same two profiles come before. So calibration of many alike links takes little longer. Of links that
        nobody shapes, nobody knows that they are alike."""
        if self.shaper == "none":
            return set()
        count: Counter[frozenset[LinkProfile]] = Counter()
        briefly = set()
        for a, b in pairs:
            kind = frozenset((self.profile(a, b), self.profile(b, a)))
            if count[kind] >= IN_FULL:
                briefly.add((a, b))
            count[kind] += 1
        return briefly


def hash_seed(seed: int, name: str) -> int:
    """A seed for one named use of a run's seed (jitter; nothing secret)."""
    return seed * 1_000_003 + sum(ord(c) << (8 * i) for i, c in enumerate(name))
