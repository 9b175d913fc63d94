"""`runner=docker`: one container per role, on a bridge network that this run alone uses.

The network is internal: containers reach each other and, at its gateway's address, the harness, and
nothing else. They run with a read-only root and without any capability but the one that tc needs.
"""

import secrets
import socket
from collections.abc import Mapping
from functools import partial
from typing import Any

from harness.config.runners import DockerRunner
from harness.config.schema import RunnerConfig
from harness.docker.clean import remove
from harness.docker.engine import RUN_LABEL, DockerError, connect, default_tag, find_image
from harness.runners.base import Door, Place, Runner, RunnerError
from harness.runners.container import Container
from netem.ownership import run_label
from netem.tcp import SYSCTLS
from protocols.party import P0, Role

MB = 10**6
SCRATCH = {"/tmp": "rw,noexec,nosuid,nodev,size=256m"}


def make(config: RunnerConfig, tc: bool) -> Runner:
    """The runner of `config`. tc: its containers may change their interface."""
    if not isinstance(config, DockerRunner):
        raise TypeError(f"not a configuration of runner=docker: {config}")
    return Docker(config, tc)


class Docker(Runner):
    """Containers of this machine's daemon, and their network."""

    def __init__(self, config: DockerRunner, tc: bool) -> None:
        self._config, self.tc = config, tc
        self._name = f"{run_label()}-{secrets.token_hex(3)}"
        self._client: Any = None
        self._image: Any = None

    def open(self) -> None:
        """See `Runner.open`."""
        self._client = connect()
        self._image = find_image(self._client, self._config.image or default_tag())
        self.image = str(self._image.id)
        self.host = self._make_network()

    def launch(self, role: Role, door: Door, environment: Mapping[str, str]) -> Place:
        """See `Runner.launch`."""
        settings = self._limits(role) | self._privileges() | self._mounts(role)
        create = partial(
            self._client.containers.create,
            self._image.id,
            door.arguments(role),
            name=f"{self._name}-{role}",
            hostname=role.lower(),
            network=self._name,
            environment=dict(environment),
            labels={RUN_LABEL: self._name},
            sysctls={f"net.ipv4.{name}": value for name, value in SYSCTLS.items()},
            init=True,
            stdin_open=True,
            **settings,
        )
        return Container(create, door.secret)

    def close(self) -> None:
        """See `Runner.close`."""
        if self._client is not None:
            remove(self._client, lambda name: name == self._name)
            self._client.close()
            self._client = None

    def _make_network(self) -> str:
        """Make it, and return the address of this machine on it."""
        from docker.errors import APIError  # noqa: PLC0415 - slow to import

        labels = {RUN_LABEL: self._name}
        try:
            # Docker chooses a subnet that no network of its, and no route of this machine, covers.
            made = self._client.networks.create(
                self._name, driver="bridge", internal=True, check_duplicate=True, labels=labels
            )
        except APIError as error:
            raise DockerError(f"no network can be made: {error.explanation}") from None
        made.reload()
        gateway = str(made.attrs["IPAM"]["Config"][0]["Gateway"]).partition("/")[0]
        _check_here(gateway)
        return gateway

    def _limits(self, role: Role) -> dict[str, Any]:
        memory = self._config.memory_mb and self._config.memory_mb * MB
        cores = getattr(self._config.cpus, role)
        return {"mem_limit": memory, "memswap_limit": memory, "cpuset_cpus": cores}

    def _privileges(self) -> dict[str, Any]:
        return {
            "cap_drop": ["ALL"],
            "cap_add": ["NET_ADMIN"] if self.tc else [],
            "security_opt": ["no-new-privileges"],
            "read_only": True,
            "tmpfs": SCRATCH,
        }

    def _mounts(self, role: Role) -> dict[str, Any]:
        folder = self._config.p0_folder
        if folder is None or role != P0:
            return {}
        return {"volumes": {folder: {"bind": folder, "mode": "ro"}}}


def _check_here(gateway: str) -> None:
    """Raise RunnerError where the daemon's networks are not this machine's."""
    try:
        socket.create_server((gateway, 0)).close()
    except OSError as error:
        raise RunnerError(
            f"the Docker daemon is not on this machine, or hides its networks: cannot listen at "
            f"{gateway} ({error.strerror}); use runner=remote there"
        ) from None
