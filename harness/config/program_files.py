"""What programs of others need of a run: a file that can be read, programs that are there, a link that
they can be put behind."""

import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from harness.config import peers
from harness.config.groups import CONF_DIR
from harness.config.schema import RunConfig, SystemConfig
from harness.errors import ConfigError, rejected, unknown
from harness.registry import EXTERNAL, OURS, PEERS, is_external
from protocols.errors import Unsupported

if TYPE_CHECKING:
    from baselines.external.program_file import ProgramFile, RoleProgram
    from protocols.party import Role

PLACES = {"local": ("emulated", "none"), "netns": ("tc",)}  # shapers by runner
PYTHON = "{python}"  # of the environment that a file names, or this one
RULE = "runner=local with shaper=emulated or none, or runner=netns with shaper=tc"


def file_of(system: SystemConfig) -> str | None:
    """The file of programs of others; None of all other systems."""
    if system.name in PEERS:
        return str(CONF_DIR / "external" / f"{system.name}.yaml")
    return getattr(system, "file", None) if system.name == EXTERNAL else None


def with_program(config: RunConfig) -> RunConfig:
    """`config` with the whole path of `system.file`, which is read. Raises ConfigError."""
    if not is_external(config.system.name):
        return config
    _check_place(config)
    if config.system.name in PEERS:
        return config
    file = file_of(config.system)
    if not file:
        raise rejected("system.file", file, "a YAML file, as docs/external.md describes it")
    path = Path(file).expanduser().resolve()
    made = replace(config, system=replace(config.system, file=str(path)))  # type: ignore[call-arg]
    program_file(made)
    return made


def program_file(config: RunConfig) -> "ProgramFile":
    """The file of a run of programs of others. Raises ConfigError."""
    from baselines.external import program_file as files  # noqa: PLC0415 - torch is slow to import

    try:
        found = files.read(Path(file_of(config.system) or ""))
    except files.ProgramError as error:
        raise ConfigError("system.file", str(error)) from None
    if found.peer:
        peers.peer(found.peer, f"system.file: {found.path}: peer")
    if (system := found.answer.functions) and system not in OURS:
        raise unknown(
            f"system.file: {found.path}: answer.functions", f"no system {system}", OURS, of=system
        )
    return found


def python_for(file: "ProgramFile") -> str:
    """What `{python}` stands for: the Python of the peer's environment, or this one. Raises Unsupported
    where that is not installed."""
    if not file.peer:
        return sys.executable
    if not peers.is_installed(file.peer):
        raise Unsupported(f"{file.peer} is not installed: {peers.remedy(file.peer)}")
    return str(peers.python_of(file.peer))


def check_programs(config: RunConfig) -> None:
    """Raise Unsupported for an experiment that the programs do not compute, and where they are those of
    a peer that is not installed."""
    file, name = program_file(config), config.experiment.name
    if name not in file.experiments:
        known = " or ".join(f"experiment={each}" for each in file.experiments)
        raise Unsupported(f"{file.path.name} computes {known}, not {name}")
    python_for(file)


def require_programs(config: RunConfig) -> None:
    """Raise ConfigError for a program that is not installed here."""
    if not is_external(config.system.name):
        return
    file = program_file(config)
    for role, program in file.roles.items():
        if problem := _missing(file, role, program):
            remedy = f"; {file.install}" if file.install else ""
            raise ConfigError("system.file", f"{file.path}: {problem}{remedy}")


def _missing(file: "ProgramFile", role: "Role", program: "RoleProgram") -> str | None:
    """Why a command cannot be started; None where its program is there."""
    name = program.command[0]
    if name == PYTHON:
        return None
    found = name if "/" in name else shutil.which(name, path=program.environment.get("PATH"))
    if found is None:
        return f"roles.{role}.command: no program {name} on the PATH"
    place = file.path.parent / Path(found).expanduser()
    if not place.is_file():
        return f"roles.{role}.command: no program {place}"
    if not os.access(place, os.X_OK):
        return f"roles.{role}.command: {place} cannot be executed"
    return None


def _check_place(config: RunConfig) -> None:
    runner, shaper = config.runner.name, config.shaper.name
    system = f"system={config.system.name}"
    if shaper not in PLACES.get(runner, ()):
        given = f"runner={runner} with shaper={shaper}"
        raise ConfigError("runner", f"{system}: got {given}, must be {RULE}")
    if config.trace:
        raise rejected("trace", True, f"false with {system}: programs of others leave no trace")
    if config.transport.tls:
        rule = f"false or null with {system}: programs encrypt what they want encrypted"
        raise rejected("transport.tls", True, rule)
