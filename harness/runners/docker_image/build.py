"""Builds the parties' image: wheels from this machine, a base image where none can be pulled."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from harness.errors import DockerError
from harness.machine.docker_daemon import BUILD, SOURCES_LABEL, sources_digest
from harness.runners.docker_image.package_list import requirements
from harness.version import REPO

WHEELS = REPO / "wheels"
WANTED = "requirements.txt"  # in there: what they were collected for
SUITE = "bookworm"
BASE_TAG = f"permbench-base:{SUITE}"
BASE_PACKAGES = ("python3", "python3-venv", "iproute2", "ethtool")
# Downloaded packages and their lists have no use in an image.
NOT_IN_BASE = ("./var/cache/apt/*", "./var/lib/apt/lists/*", "./var/log/*", "./proc/*", "./sys/*")
PIP_VARIABLES = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL")
LINES_OF_ERROR = 20
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def collect_wheels() -> Iterator[str]:
    """Fill wheels/ with what the image needs, as this Python's pip finds it. Raises DockerError."""
    _checkout()
    yield "collecting wheels"
    with tempfile.TemporaryDirectory(dir=REPO, prefix=".wheels-") as folder:
        found = Path(folder) / "wheels"
        wanted = requirements(REPO / "pyproject.toml")
        _run([sys.executable, "-m", "pip", "wheel", "--quiet", "-w", str(found), *wanted])
        (found / WANTED).write_text("\n".join(wanted))
        shutil.rmtree(WHEELS, ignore_errors=True)
        found.rename(WHEELS)
    sizes = [path.stat().st_size for path in WHEELS.glob("*.whl")]
    yield f"{len(sizes)} wheels, {sum(sizes) / 1e6:.0f} MB, in {WHEELS}"


def make_base(client: Any) -> Iterator[str]:
    """Make `BASE_TAG` from Debian's packages, unless it is there. Raises DockerError."""
    if client.images.list(name=BASE_TAG):
        yield f"{BASE_TAG} is there already (docker rmi {BASE_TAG} to have it made again)"
        return
    if shutil.which("debootstrap") is None:
        raise DockerError("debootstrap is not installed", "sudo apt-get install debootstrap")
    if os.geteuid() != 0:
        raise DockerError(
            "debootstrap needs root", f"sudo {sys.executable} -m harness docker build …"
        )
    yield f"making {BASE_TAG} with debootstrap"
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="permbench-base-") as folder:
        root = f"{folder}/root"  # the image's root: it must be open to all, as `folder` is not
        include = f"--include={','.join(BASE_PACKAGES)}"
        _run(["debootstrap", "--variant=minbase", include, SUITE, root])
        leave_out = [f"--exclude={pattern}" for pattern in NOT_IN_BASE]
        _import(client, ["tar", "-C", root, *leave_out, "-c", "."])
    yield f"made {BASE_TAG}"


def build_image(client: Any, base: str | None, tag: str) -> Iterator[str]:
    """Build `tag` on `base` (None: the Dockerfile's). Raises DockerError."""
    _checkout()
    _check_wheels()
    before = _image_id(client, tag)
    arguments = {name: os.environ[name] for name in PIP_VARIABLES if name in os.environ}
    if base is not None:
        arguments["BASE_IMAGE"] = base
    events = client.api.build(
        path=str(REPO),
        tag=tag,
        buildargs=arguments,
        labels={SOURCES_LABEL: sources_digest()},
        # A base of ours has all that Debian has to give, and wheels are the rest.
        network_mode="none" if base == BASE_TAG and WHEELS.exists() else None,
        rm=True,
        forcerm=True,
        decode=True,
    )
    yield from _steps(events)
    image = client.images.get(tag)
    if before not in (None, image.id):
        _forget(client, str(before))
    yield f"built {tag}, {image.attrs['Size'] / 1e9:.1f} GB"


def _steps(events: Iterator[dict[str, Any]]) -> Iterator[str]:
    """The steps of a build as they begin. Raises DockerError with the last lines of a failed one."""
    last: deque[str] = deque(maxlen=LINES_OF_ERROR)
    for event in events:
        if "error" in event:
            said = "\n".join(last)
            raise DockerError(f"the build failed: {event['error'].strip()}\n{said}")
        for line in COLOUR.sub("", event.get("stream", "")).splitlines():
            last.append(line)
            if line.startswith("Step "):
                yield line.partition(" && ")[0]


def _forget(client: Any, image_id: str) -> None:
    """Remove an image that has lost its name; one that a container still uses stays."""
    from docker.errors import APIError  # noqa: PLC0415 - slow to import

    try:
        client.images.remove(image_id)
    except APIError:
        return


def _image_id(client: Any, tag: str) -> str | None:
    from docker.errors import ImageNotFound  # noqa: PLC0415

    try:
        return str(client.images.get(tag).id)
    except ImageNotFound:
        return None


def _import(client: Any, tar: Sequence[str]) -> None:
    """An image from what `tar` writes to its standard output."""
    repository, _, tag = BASE_TAG.partition(":")
    with subprocess.Popen(tar, stdout=subprocess.PIPE) as process:
        client.api.import_image_from_data(process.stdout, repository=repository, tag=tag)
    if process.returncode:
        client.images.remove(BASE_TAG)
        raise DockerError(f"tar ended with code {process.returncode}")


def _run(argv: Sequence[str]) -> None:
    done = subprocess.run(
        argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode:
        said = "\n".join(done.stdout.splitlines()[-LINES_OF_ERROR:])
        raise DockerError(f"{Path(argv[0]).name} ended with code {done.returncode}:\n{said}")


def _check_wheels() -> None:
    """Wheels that somebody put there by hand are that person's business."""
    wanted = WHEELS / WANTED
    if wanted.exists() and wanted.read_text().splitlines() != requirements(REPO / "pyproject.toml"):
        raise DockerError("wheels/ was collected for other requirements", f"{BUILD} --wheels")


def _checkout() -> None:
    if not (REPO / "Dockerfile").exists():
        raise DockerError(f"there is no Dockerfile in {REPO}", "run this in a checkout")
