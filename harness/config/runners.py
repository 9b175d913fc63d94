"""The `runner` group: those runners that have options."""

import os
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace

from harness.config.schema import RunConfig, RunnerConfig
from harness.errors import ConfigError, rejected
from protocols.options import doc
from protocols.party import Role

_ADDRESS = re.compile(r"(?P<host>\[[0-9a-fA-F:]+\]|[^:\[\]]+):(?P<port>\d+)")
_CORES = re.compile(r"\d+(-\d+)?(,\d+(-\d+)?)*")
LEAST_MB = 256
CORES = doc(
    "cores of this machine that the role may run on; null: all",
    'null, or cores such as "0", "0-3", "0,2"',
)


@dataclass(frozen=True)
class RoleCores:
    """The cores of this machine that each of these roles may run on; the others run on all."""

    P0: str | None = field(default=None, metadata=CORES)
    P1: str | None = field(default=None, metadata=CORES)
    P2: str | None = field(default=None, metadata=CORES)
    P3: str | None = field(default=None, metadata=CORES)
    P4: str | None = field(default=None, metadata=CORES)
    P5: str | None = field(default=None, metadata=CORES)
    P6: str | None = field(default=None, metadata=CORES)
    P7: str | None = field(default=None, metadata=CORES)
    P8: str | None = field(default=None, metadata=CORES)
    P9: str | None = field(default=None, metadata=CORES)
    P10: str | None = field(default=None, metadata=CORES)
    P11: str | None = field(default=None, metadata=CORES)
    P12: str | None = field(default=None, metadata=CORES)
    P13: str | None = field(default=None, metadata=CORES)
    P14: str | None = field(default=None, metadata=CORES)
    P15: str | None = field(default=None, metadata=CORES)

    def given(self) -> dict[str, str]:
        """Of the roles that do not run on all."""
        return {role: cores for role, cores in asdict(self).items() if cores is not None}


@dataclass(frozen=True)
class DockerRunner(RunnerConfig):
    """Containers."""

    image: str | None = field(
        metadata=doc(
            "image of the parties; null: the one that permbench docker build makes",
            "an image's name, or null",
        )
    )
    memory_mb: int | None = field(
        metadata=doc(
            "the most memory of each party, in 10^6 bytes; null: no limit",
            f"null or a whole number ≥ {LEAST_MB}",
        )
    )
    cpus: RoleCores = field(default_factory=RoleCores)
    p0_folder: str | None = field(
        default=None,
        metadata=doc(
            "folder that P0 alone can read; model.checkpoint sets it", "null or an absolute path"
        ),
    )


@dataclass(frozen=True)
class RemoteRunner(RunnerConfig):
    """Parties that somebody else starts."""

    listen: str = field(
        metadata=doc("where the harness waits for the parties", "host:port, e.g. 0.0.0.0:7700")
    )
    secret_file: str | None = field(
        metadata=doc(
            "file with the secret that all share, or with one for each role in order; null: "
            "PERMBENCH_SECRET in the environment",
            "a path or null",
        )
    )
    wait_s: float = field(
        metadata=doc("how long to wait for the parties, in seconds", "a number > 0")
    )
    shared_secret: bool = field(
        default=False,
        metadata=doc("allow one secret for all roles, who can then join as one another"),
    )

    def address(self) -> tuple[str, int]:
        """`listen` as (host, port). Raises ConfigError."""
        found = parse_address(self.listen)
        if found is None:
            raise rejected("runner.listen", self.listen, "host:port, e.g. 0.0.0.0:7700")
        return found


# Those that are not here have no options.
RUNNERS: dict[str, type[RunnerConfig]] = {"docker": DockerRunner, "remote": RemoteRunner}


def check_runner(runner: RunnerConfig) -> None:
    """Raise `ConfigError` for a value that its runner does not allow."""
    if RUNNERS.get(runner.name, RunnerConfig) is not type(runner):
        raise rejected("runner.name", runner.name, "left as the option gives it")
    if isinstance(runner, DockerRunner):
        _check_docker(runner)
    if isinstance(runner, RemoteRunner):
        _check_remote(runner)


def parse_address(text: str) -> tuple[str, int] | None:
    """(host, port) of "host:port"; None for what is no address."""
    found = _ADDRESS.fullmatch(text)
    if not found or not 0 < int(found["port"]) < 1 << 16:
        return None
    return found["host"].strip("[]"), int(found["port"])


def check_cores(runner: RunnerConfig, roles: Sequence[Role]) -> None:
    """Raise `ConfigError` for cores of a role that a run of these has not."""
    if not isinstance(runner, DockerRunner):
        return
    for role in runner.cpus.given():
        if role not in roles:
            rule = f"there is no {role} in this run, which has {', '.join(roles)}"
            raise ConfigError(f"runner.cpus.{role}", rule)


def with_checkpoint(config: RunConfig) -> RunConfig:
    """`config` with what P0's container must be able to read."""
    if not isinstance(config.runner, DockerRunner) or config.model.checkpoint is None:
        return config
    return replace(config, runner=replace(config.runner, p0_folder=config.model.checkpoint))


def with_tls(config: RunConfig) -> RunConfig:
    """`config` with `transport.tls` decided: on where parties may be on several hosts."""
    if config.transport.tls is not None:
        return config
    tls = isinstance(config.runner, DockerRunner | RemoteRunner)
    return replace(config, transport=replace(config.transport, tls=tls))


def _check_docker(runner: DockerRunner) -> None:
    if runner.image is not None and not runner.image:
        raise rejected("runner.image", runner.image, "an image's name, or null")
    if runner.memory_mb is not None and runner.memory_mb < LEAST_MB:
        rule = f"null or a whole number ≥ {LEAST_MB}, in 10^6 bytes"
        raise rejected("runner.memory_mb", runner.memory_mb, rule)
    for role, cores in runner.cpus.given().items():
        if not _CORES.fullmatch(cores):
            raise rejected(f"runner.cpus.{role}", cores, 'null or cores such as "0", "0-3", "0,2"')
    if runner.p0_folder is not None and not os.path.isabs(runner.p0_folder):
        raise rejected("runner.p0_folder", runner.p0_folder, "null or an absolute path")


def _check_remote(runner: RemoteRunner) -> None:
    runner.address()
    if not 0 < runner.wait_s < 1e6:
        raise rejected("runner.wait_s", runner.wait_s, "a number of seconds > 0")
