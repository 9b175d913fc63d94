"""One party in a Docker container."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from harness.docker.engine import DockerError
from harness.runners.base import Place

POLL_S = 0.02
SIGNALLED = 128  # what the init process adds to the number of the signal that ended a party


class Container(Place):
    """Created by `create`, a call of the Docker SDK, then started and told the secret on its standard
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
        """See `Place.lines`. At the end, whether it was ended for want of memory."""
        with suppress(*self._lost):
            yield from split_lines(self._container.logs(stream=True, follow=True))
        if self._state().get("OOMKilled"):
            yield "the kernel ended a process here: the container used all of runner.memory_mb"

    def exit_code(self, wait_s: float = 0.0) -> int | None:
        """See `Place.exit_code`."""
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
        """See `Place.kill`. The container is removed too; if not, `Runner.close` says why."""
        with suppress(*self._lost):
            self._container.remove(force=True, v=True)

    @property
    def pid(self) -> int | None:
        """See `Place.pid`; that of the party, not of the container's init process."""
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
    if rest:
        yield _text(rest)


def signed(code: int) -> int:
    """The exit code as `Place.exit_code` has it."""
    return SIGNALLED - code if code > SIGNALLED else code


def _text(line: bytes) -> str:
    return line.decode(errors="replace").rstrip()


def _only_child(pid: int) -> int | None:
    with suppress(OSError, ValueError):
        return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])
    return None
