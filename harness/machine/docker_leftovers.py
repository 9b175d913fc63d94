"""Removes what a run left in the Docker daemon: containers and networks with its label."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from harness.errors import DockerError
from harness.machine.docker_daemon import RUN_LABEL, connect
from netem.process_labels import is_alive

BEING_REMOVED = (404, 409)  # by somebody else


def stale() -> list[str]:
    """A line for each thing that a run left behind whose process is gone. Raises DockerError."""
    return [line for line, _ in _things(connect(), _left_behind)]


def remove_stale() -> list[str]:
    """Remove what `stale` finds, and nothing else; a line for each. Raises DockerError."""
    return remove(connect(), _left_behind)


def remove(client: Any, chosen: Callable[[str], bool]) -> list[str]:
    """Remove everything of runs whose name is `chosen`; a line for each. Raises DockerError."""
    from docker.errors import APIError  # noqa: PLC0415 - slow to import
    from requests.exceptions import RequestException  # noqa: PLC0415

    lines = []
    try:
        for line, delete in _things(client, chosen):
            try:
                delete()
            except APIError as error:
                if error.status_code not in BEING_REMOVED:
                    raise
            else:
                lines.append(line)
    except (APIError, RequestException) as error:
        raise DockerError(f"cannot remove what a run left: {error}", "docker info") from None
    return lines


def _left_behind(name: str) -> bool:
    return not is_alive(name)


def _things(
    client: Any, chosen: Callable[[str], bool]
) -> Iterator[tuple[str, Callable[[], object]]]:
    """Containers first: they use the networks."""
    labelled = {"label": RUN_LABEL}
    for container in client.containers.list(all=True, filters=labelled, ignore_removed=True):
        if chosen(container.labels[RUN_LABEL]):
            yield f"container {container.name}", partial(container.remove, force=True, v=True)
    for network in client.networks.list(filters=labelled):
        if chosen(network.attrs["Labels"][RUN_LABEL]):
            yield f"Docker network {network.name}", network.remove
