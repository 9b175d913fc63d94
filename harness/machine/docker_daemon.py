"""The Docker daemon of this machine: reached, or a reason why not; and the parties' image."""

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness.data_files import INSTALLED
from harness.errors import DockerError
from harness.version import REPO, version

PACKAGES = ("baselines", "conf", "harness", "netem", "protocols")
RUN_LABEL = (
    "permbench.run"  # on all that a run makes: the run's name, which begins with its owner's
)
SOURCES_LABEL = "permbench.sources"  # on an image: what it was built from
BUILD = "permbench docker build"
TIMEOUT_S = 60.0
SYSTEMD = Path("/run/systemd/system")  # is there where systemd runs the services


def connect() -> Any:
    """A client of the daemon, a `docker.DockerClient`. Raises DockerError."""
    import docker  # noqa: PLC0415 - slow to import
    from docker.errors import DockerException  # noqa: PLC0415

    try:
        client = docker.from_env(timeout=TIMEOUT_S)
        client.ping()
    except DockerException as error:
        raise _unreachable(str(error)) from None
    return client


def default_tag() -> str:
    """The image that runs use by default."""
    return f"permbench:{version()}"


def find_image(client: Any, tag: str) -> Any:
    """The image `tag`, a `docker.models.images.Image`. Raises DockerError where there is none, or one
    of other sources than these."""
    from docker.errors import ImageNotFound  # noqa: PLC0415

    remedy = BUILD if tag == default_tag() else f"{BUILD} --tag {tag}"
    try:
        image = client.images.get(tag)
    except ImageNotFound:
        raise DockerError(f"there is no image {tag}", remedy) from None
    built = image.labels.get(SOURCES_LABEL)
    if built is not None and built != sources_digest():
        raise DockerError(f"the image {tag} was built from other sources than these", remedy)
    return image


def sources_digest(root: Path = REPO) -> str:
    """16 hex digits over every file of the packages that an image is made of; a wheel's are those of
    the checkout it was built from."""
    digest = hashlib.sha256()
    for name, path in sorted(_sources(root)):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{name} {content}\n".encode())
    return digest.hexdigest()[:16]


def start_command(service: str) -> str:
    """What starts a service of this machine that is installed."""
    return f"systemctl start {service}" if SYSTEMD.is_dir() else f"service {service} start"


def _sources(root: Path) -> Iterator[tuple[str, Path]]:
    for package in PACKAGES:
        for path in (root / package).rglob("*"):
            if path.suffix in (".py", ".sh", ".yaml"):
                name = path.relative_to(root).as_posix()
                yield name.removeprefix(f"harness/{INSTALLED}/"), path


def _unreachable(text: str) -> DockerError:
    if "PermissionError" in text:
        remedy = "sudo usermod -aG docker $USER, then log in again"
        return DockerError("this user may not talk to the Docker daemon", remedy)
    if "FileNotFoundError" in text or "ConnectionRefusedError" in text:
        if shutil.which("dockerd") is None and shutil.which("docker") is None:
            return DockerError("Docker is not installed", "sudo apt-get install docker.io")
        return DockerError("no Docker daemon runs here", f"sudo {start_command('docker')}")
    return DockerError(f"no Docker daemon answers: {' '.join(text.split())}", "docker info")
