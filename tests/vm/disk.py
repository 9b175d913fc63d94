"""A disk for the virtual machine with all that this machine's Docker daemon keeps: images, above all.

Loading an image into a daemon in there would take minutes; a file system made from the daemon's folder
takes seconds, and the copy is the virtual machine's own to write to.
"""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from harness.errors import DockerError
from harness.machine.docker_daemon import connect, default_tag, find_image

MOST_BYTES = 12 << 30  # of a daemon that many others use
ROOM_BYTES = 1 << 30  # on the disk, for what containers write


def missing() -> str | None:
    """Why no such disk can be made here; None where it can."""
    if os.geteuid() != 0:
        return "reading the Docker daemon's folder needs root"
    if shutil.which("mke2fs", path="/usr/sbin:/sbin") is None:
        return "needs `apt-get install e2fsprogs`"
    try:
        client = connect()
        find_image(client, default_tag())
    except DockerError as error:
        return str(error)
    found = client.info()
    if found["ContainersRunning"]:
        return "the daemon has running containers, whose files change"
    if found["Driver"] != "overlay2":
        return f"the daemon keeps its images with {found['Driver']}, not overlay2"
    size = _size_bytes(found)
    return f"the daemon's folder has {size / 1e9:.0f} GB" if size > MOST_BYTES else None


def make(path: Path) -> None:
    """Write the disk to `path`, as a sparse file. Containers and networks are not for in there: remove
    them before a daemon starts."""
    found = connect().info()
    size_kib = (_size_bytes(found) * 5 // 4 + ROOM_BYTES) >> 10
    argv = ["-q", "-t", "ext4", "-m", "0", "-O", "^has_journal", "-d", found["DockerRootDir"]]
    subprocess.run(["/usr/sbin/mke2fs", *argv, str(path), f"{size_kib}k"], check=True, timeout=300)


def _size_bytes(found: dict[str, Any]) -> int:
    du = ["du", "-sk", "--one-file-system", found["DockerRootDir"]]
    done = subprocess.run(du, stdout=subprocess.PIPE, text=True, timeout=60, check=False)
    return int(done.stdout.split()[0]) << 10
