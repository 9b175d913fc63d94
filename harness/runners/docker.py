"""`runner=docker`: one container per role, on a bridge network that this run alone uses.

The network is internal: containers reach each other and, at its gateway's address, the harness, and
nothing else. They run with a read-only root and without any capability but the one that tc needs.
"""

import secrets
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from harness.config.runners import DockerRunner
from harness.config.schema import RunnerConfig
from harness.errors import DockerError, RunnerError
from harness.machine.docker_daemon import RUN_LABEL, connect, default_tag, find_image
from harness.machine.docker_leftovers import remove
from harness.runners.base import LINE_BYTES, HarnessAddress, Runner, RunningParty
from netem.process_labels import run_label
from netem.tcp import SYSCTLS
from protocols.party import P0, Role

MB = 10**6
SCRATCH = {"/tmp": "rw,noexec,nosuid,nodev,size=256m"}


def make(config: RunnerConfig, tc: bool, roles: Sequence[Role]) -> Runner:
    """The runner of `config`. tc: its containers may change their interface."""
    if not isinstance(config, DockerRunner):
        raise TypeError(f"not a configuration of runner=docker: {config}")
    return Docker(config, tc, roles)


class Docker(Runner):
    """Containers of this machine's daemon, and their network."""

    def __init__(self, config: DockerRunner, tc: bool, roles: Sequence[Role]) -> None:
        super().__init__(roles)
        self._config, self.tc = config, tc
        self.one_machine = not config.cpus.given()
        self._name = f"{run_label()}-{secrets.token_hex(3)}"
        self._client: Any = None
        self._image: Any = None

    def open(self) -> None:
        """See `Runner.open`."""
        self._client = connect()
        self._image = find_image(self._client, self._config.image or default_tag())
        self.image = str(self._image.id)
        self.host = self._make_network()

    def launch(
        self, role: Role, harness: HarnessAddress, environment: Mapping[str, str]
    ) -> RunningParty:
        """See `Runner.launch`."""
        settings = self._limits(role) | self._privileges() | self._mounts(role)
        create = partial(
            self._client.containers.create,
            self._image.id,
            harness.arguments(role),
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
        return Container(create, harness.secret)

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
        cores = self._config.cpus.given().get(role)
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


POLL_S = 0.02
SIGNALLED = 128  # what the init process adds to the number of the signal that ended a party


class Container(RunningParty):
    """Created by `create`, a call of the Docker SDK, then started and given the secret on its standard
    input: what is in its environment or on its command line anybody may read who may ask the daemon.

    Raises DockerError; then nothing is left.
    """

    def __init__(self, create: Callable[[], Any], secret: str) -> None:
        from docker.errors import APIError  # noqa: PLC0415 - slow to import
        from requests.exceptions import RequestException  # noqa: PLC0415

        self._lost = (APIError, RequestException)  # it has gone, or the daemon has
        self._pid: int | None = None
        self._code: int | None = None
        try:
            self._container = create()
        except APIError as error:
            raise DockerError(f"no container can be made: {error.explanation}") from None
        try:
            self._start(secret)
        except APIError as error:
            self.kill()
            raise DockerError(f"a container does not start: {error.explanation}") from None

    def lines(self) -> Iterator[str]:
        """See `RunningParty.lines`. At the end, whether it was ended for want of memory."""
        with suppress(*self._lost):
            yield from split_lines(self._container.logs(stream=True, follow=True))
        if self._state().get("OOMKilled"):
            yield "the kernel ended a process here: the container used all of runner.memory_mb"

    def exit_code(self, wait_s: float = 0.0) -> int | None:
        """See `RunningParty.exit_code`."""
        deadline = time.monotonic() + wait_s
        while self._code is None:
            state = self._state()
            if state.get("Status") in ("exited", "dead"):
                self._code = signed(state["ExitCode"])
            if not state or time.monotonic() > deadline:
                break
            time.sleep(POLL_S)
        return self._code

    def kill(self) -> None:
        """See `RunningParty.kill`. The container is removed too; if not, `Runner.close` says why."""
        with suppress(*self._lost):
            self._container.remove(force=True, v=True)

    @property
    def pid(self) -> int | None:
        """See `RunningParty.pid`; that of the party, not of the container's init process."""
        if self._pid is None:
            self._pid = _only_child(self._state().get("Pid", 0))
        return self._pid

    def _start(self, secret: str) -> None:
        stdin = self._container.attach_socket(params={"stdin": 1, "stream": 1})
        try:
            self._container.start()
            stdin._sock.sendall(secret.encode() + b"\n")
        finally:
            stdin.close()

    def _state(self) -> dict[str, Any]:
        """What the daemon says of it; nothing where it is gone."""
        try:
            self._container.reload()
        except self._lost:
            return {}
        return dict(self._container.attrs["State"])


def split_lines(chunks: Iterable[bytes]) -> Iterator[str]:
    """The lines of a text that comes in pieces of any size."""
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        yield from (_text(line) for line in whole)
        while len(rest) > LINE_BYTES:
            yield _text(rest[:LINE_BYTES])
            rest = rest[LINE_BYTES:]
    if rest:
        yield _text(rest)


def signed(code: int) -> int:
    """The exit code as `RunningParty.exit_code` has it."""
    return SIGNALLED - code if code > SIGNALLED else code


def _text(line: bytes) -> str:
    return line.decode(errors="replace").rstrip()


def _only_child(pid: int) -> int | None:
    with suppress(OSError, ValueError):
        return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])
    return None
