"""The configuration of one run, as frozen dataclasses.

They are the types that the files of conf/ and the command line are checked against. Plain keys have
their defaults here; a group's values stand in conf/<group>/<option>.yaml. What a key means stands here
alone, in its field's metadata: `harness.config.reference` makes help and reference of it.
"""

from dataclasses import dataclass, field, fields
from typing import Any

from harness.config.experiments import AT_LEAST_1, ExperimentConfig, ModelConfig
from harness.config.network import NetworkConfig
from harness.errors import ConfigError
from harness.registry import options_class, system_class
from netem.profile import LinkProfile
from protocols.options import doc
from protocols.party import ALL_ROLES, Role
from protocols.workload import Workload

SHAPED_PHASES = ("online", "all")
AT_LEAST_0 = "a whole number ≥ 0"


@dataclass(frozen=True)
class SystemConfig:
    """A system under test. `harness.config.systems` adds the fields of the system's options."""

    name: str

    def options(self) -> Any:
        """The system's own options. Raises ValueError."""
        given = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "name"}
        return options_class(self.name)(**given)

    def roles(self) -> tuple[Role, ...]:
        """The roles that take part. Raises ConfigError for a system that says what cannot be."""
        roles = system_class(self.name).roles(self.options())
        if roles != tuple(role for role in ALL_ROLES if role in roles) or not {"P0", "P1"} <= set(
            roles
        ):
            rule = "roles must be a tuple with P0 and P1 in it, in the order P0 … P15"
            raise ConfigError("system", f"{self.name} says that {roles} take part: {rule}")
        return roles

    def online_roles(self) -> tuple[Role, ...]:
        """Those of them that take part online."""
        return system_class(self.name).online_roles(self.options())


@dataclass(frozen=True)
class RunnerConfig:
    """Where the parties live."""

    name: str


@dataclass(frozen=True)
class ShaperConfig:
    """What makes the WAN."""

    name: str


@dataclass(frozen=True)
class CalibrationConfig:
    """How links are measured before a run."""

    strict: bool = field(
        default=True,
        metadata=doc(
            "refuse to run over a link outside tolerance; false: measure, and mark the run"
        ),
    )
    patience_s: float = field(
        default=30.0,
        metadata=doc(
            "how long to wait and measure a link again before it is refused, in seconds",
            "a number ≥ 0 (0: measure once)",
        ),
    )
    max_age_s: float = field(
        default=60.0,
        metadata=doc(
            "how long a good measurement counts for later runs over the same links, in seconds",
            "a number ≥ 0 (0: calibrate before every run)",
        ),
    )


@dataclass(frozen=True)
class MemoryConfig:
    """What is looked at before a run."""

    check: bool = field(
        default=True,
        metadata=doc("refuse a run that memory or disk of this machine are too small for"),
    )


@dataclass(frozen=True)
class TransportConfig:
    """What the parties' connections are like."""

    tls: bool | None = field(
        default=None,
        metadata=doc("TLS 1.3 on every connection; null: with runner=remote and runner=docker"),
    )


@dataclass(frozen=True)
class RunConfig:
    """One run."""

    experiment: ExperimentConfig = field(metadata=doc("what is computed"))
    system: SystemConfig = field(metadata=doc("the method of private inference"))
    model: ModelConfig = field(
        metadata=doc("the model's dimensions, for experiments that have one")
    )
    network: NetworkConfig = field(metadata=doc("the links between the parties"))
    runner: RunnerConfig = field(metadata=doc("where the parties live"))
    shaper: ShaperConfig = field(metadata=doc("what makes the links slow"))
    repeat: int = field(default=10, metadata=doc("measured evaluations", AT_LEAST_1))
    warmup: int = field(
        default=2, metadata=doc("evaluations before them, not measured", AT_LEAST_0)
    )
    threads: int = field(default=1, metadata=doc("threads of compute of each party", AT_LEAST_1))
    seed: int = field(
        default=1,
        metadata=doc(
            "of synthetic weights and inputs, jitter and loss", "a whole number from 0 to 2^63 - 1"
        ),
    )
    key_seed: int | None = field(
        default=None,
        metadata=doc(
            "of all keys, for tests; null: the operating system draws them",
            "null or a whole number from 0 to 2^63 - 1",
        ),
    )
    timeout_s: float = field(
        default=120.0, metadata=doc("longest silence of a party, in seconds", "a number > 0")
    )
    shape: str = field(
        default="online",
        metadata=doc(
            "the phases over slow links; others run at full speed", " or ".join(SHAPED_PHASES)
        ),
    )
    trace: bool = field(default=False, metadata=doc("keep what permbench replay needs"))
    calibration: CalibrationConfig = field(default_factory=CalibrationConfig)
    transport: TransportConfig = field(default_factory=TransportConfig)
    memory: MemoryConfig = field(default_factory=MemoryConfig)
    force: bool = field(default=False, metadata=doc("measure again what is stored"))
    results_dir: str = field(
        default="results/runs", metadata=doc("the folder that records go to", "a folder")
    )

    def workload(self) -> Workload:
        """What is computed, as the protocols see it."""
        return self.experiment.workload(self.model)

    def profiles(self) -> dict[tuple[Role, Role], LinkProfile]:
        """The profile of every ordered pair of its system's roles. Raises ConfigError."""
        return self.network.profiles(self.system.online_roles(), self.system.roles())

    def title(self) -> str:
        """A short human name: experiment with its values, system, model, network, shaper."""
        values = [
            f"{f.name}={getattr(self.experiment, f.name)}"
            for f in fields(self.experiment)
            if f.name != "name" and getattr(self.experiment, f.name) is not None
        ]
        model = [self.model.name] if self.experiment.uses_model else []
        parts = [*model, self.system.name, self.network.name, self.shaper.name]
        return " ".join([self.experiment.name, *values, *parts])
