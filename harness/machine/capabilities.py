"""What runners and shapers need of this machine, whether it is there, and what would mend it."""

import errno
import os
import socket
from dataclasses import dataclass

from harness.config.program_files import require_programs
from harness.config.runners import RemoteRunner, check_cores
from harness.config.schema import RunConfig
from harness.errors import ConfigError, DockerError
from netem.command import find
from netem.tc_probe import TC_PROGRAMS, namespaces_missing, tc_missing

NO_NETEM = (
    "load it with `modprobe sch_netem` (Debian: linux-image-amd64 has it), or use shaper=emulated, "
    "which needs no kernel module"
)


@dataclass(frozen=True)
class MissingRequirement:
    """Why something cannot be used here, and the command that would mend it."""

    why: str
    remedy: str


def missing_for_netns() -> MissingRequirement | None:
    """What `runner=netns` needs."""
    why = namespaces_missing()
    return None if why is None else MissingRequirement(why, _remedy(why))


def missing_for_docker(image: str | None = None) -> MissingRequirement | None:
    """What `runner=docker` needs: a daemon, and the image (by default ours)."""
    from harness.machine import docker_daemon  # noqa: PLC0415 - the SDK is slow to import

    try:
        docker_daemon.find_image(docker_daemon.connect(), image or docker_daemon.default_tag())
    except DockerError as error:
        return MissingRequirement(error.reason, error.remedy)
    return None


def missing_for_tc() -> MissingRequirement | None:
    """What `shaper=tc` needs of the kernel and of this user."""
    why = tc_missing()
    return None if why is None else MissingRequirement(why, _remedy(why))


def _remedy(why: str) -> str:
    if "sch_" in why or "cls_" in why:
        return NO_NETEM
    absent = dict.fromkeys(TC_PROGRAMS[name] for name in TC_PROGRAMS if find(name) is None)
    if absent:
        return f"sudo apt-get install {' '.join(absent)}"
    return "run as root: sudo permbench …" if "root" in why else "look at: dmesg | tail"


def require(config: RunConfig) -> None:
    """Raise ConfigError unless this machine can do what the configuration asks for.

    Of remote parties nothing is known here: each reports itself what it lacks.
    """
    require_programs(config)
    if config.network.links:
        config.profiles()  # which refuses links of roles that the system has not
    check_cores(config.runner, config.system.roles())
    if isinstance(config.runner, RemoteRunner):
        _require_port(config.runner)
    runner, shaper = config.runner.name, config.shaper.name
    if shaper == "tc" and runner == "local":
        raise ConfigError(
            "shaper",
            "tc needs runner=netns, docker or remote: on loopback all parties and both directions "
            "share one queue",
        )
    missing = {
        "shaper": missing_for_tc() if shaper == "tc" and runner != "remote" else None,
        "runner": missing_for_netns() if runner == "netns" else None,
    }
    if runner == "docker":
        missing["runner"] = missing_for_docker(getattr(config.runner, "image", None))
    for group, found in missing.items():
        if found:
            name = shaper if group == "shaper" else runner
            raise ConfigError(group, f"{name} cannot be used here: {found.why}; {found.remedy}")


def _require_port(runner: RemoteRunner) -> None:
    """Raise ConfigError unless the harness could listen where the parties will look for it."""
    host, port = runner.address()
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        remedies = {
            errno.EADDRINUSE: f"take another port, e.g. {port + 1}, or end what listens there (ss -ltnp)",
            errno.EACCES: "take a port of 1024 or above",
        }
        remedy = remedies.get(error.errno or 0, "give an address of this machine, or 0.0.0.0")
        reason = os.strerror(error.errno).lower() if error.errno else str(error)
        raise ConfigError("runner.listen", f"{runner.listen}: {reason}; {remedy}") from None
