"""A whole Linux kernel as one ordinary process: Debian's user-mode-linux.

It boots in a second or two, with one CPU and this machine's files as its root: read-only, under an
overlay that dies with it. Its network has nothing to do with this machine's, so whatever is done to
links, namespaces and qdiscs inside it is undone by its end. What a command leaves in the folder
`/share` is there afterwards. Slow at system calls and page faults: for finding out whether something
is right, not how fast it is.
"""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

KERNEL = "linux.uml"
MODULES = Path("/usr/lib/uml/modules")
NETWORK_MODULES = ("veth", "bridge", "sch_netem", "sch_prio", "cls_u32")
SHARE = "/share"
# Debian's packages, by a program of theirs.
PACKAGES = {
    "linux.uml": "user-mode-linux",
    "insmod": "kmod",
    "ip": "iproute2",
    "ethtool": "ethtool",
    "pivot_root": "util-linux",
    "setpriv": "util-linux",
}

# The overlay becomes the real root (pivot_root), so that the kernel's own modprobe finds its files.
_INIT = """#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 PYTHONDONTWRITEBYTECODE=1
mount -t proc proc /proc
version=$(uname -r)
insmod {modules}/$version/kernel/fs/overlayfs/overlay.ko
mount -t tmpfs tmpfs /mnt
mkdir /mnt/upper /mnt/work /mnt/root
mount -t overlay -o lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work overlay /mnt/root
cd /mnt/root
mkdir -p old share dev/shm dev/pts lib/modules
mount --move /dev dev
pivot_root . old
exec chroot . /bin/sh -c '
mount -t proc proc /proc; mount -t sysfs sysfs /sys; umount -l /old
mkdir -p /dev/shm /dev/pts
mount -t devpts devpts /dev/pts; mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs tmpfs /run
mount -t hostfs -o {share} hostfs /share
ln -sfn {modules}/$(uname -r) /lib/modules/$(uname -r)
ip link set lo up
for module in {names}; do modprobe $module || echo "no module $module" >> /share/output; done
cd {folder}
sh /share/command >> /share/output 2>&1 < /dev/null
echo $? > /share/exit_code
sync
echo o > /proc/sysrq-trigger
sleep 10
'
"""


@dataclass(frozen=True)
class Result:
    """How a command inside ended. exit_code None: it did not end in time, or the kernel died;
    `console` then says more. output: its stdout and stderr. wall_s: boot included."""

    exit_code: int | None
    output: str
    console: str
    wall_s: float


def missing() -> str | None:
    """Why no such kernel can be booted here, with the remedy; None where it can."""
    absent = [package for program, package in PACKAGES.items() if _which(program) is None]
    return f"needs `apt-get install {' '.join(absent)}`" if absent else None


def run(
    command: Sequence[str],
    *,
    timeout_s: float,
    memory_mb: int = 1024,
    modules: Sequence[str] = NETWORK_MODULES,
    share: Path | None = None,
    folder: Path | None = None,
    kernel_arguments: Sequence[str] = (),
) -> Result:
    """Boot, run `command` as root in `folder` (by default the current one), and halt.

    share: the folder that is /share inside; by default one that is thrown away. Ends the kernel
    after `timeout_s` seconds, boot included.
    """
    with tempfile.TemporaryDirectory(prefix="permbench-uml-") as scratch:
        shared = share or Path(scratch, "share")
        shared.mkdir(exist_ok=True)
        (shared / "command").write_text(f"exec {shlex.join(command)}\n")
        init = Path(scratch, "init")
        init.write_text(
            _INIT.format(
                modules=MODULES, share=shared, names=" ".join(modules), folder=folder or Path.cwd()
            )
        )
        init.chmod(0o755)
        argv = _kernel(init, memory_mb, kernel_arguments)
        began = time.monotonic()
        console = _watch(argv, timeout_s, scratch)
        return Result(
            _exit_code(shared), _read(shared / "output"), console, time.monotonic() - began
        )


def _kernel(init: Path, memory_mb: int, more: Sequence[str]) -> list[str]:
    return [
        *("setpriv", "--pdeathsig", "KILL"),  # not to outlive a test that is killed
        _which(KERNEL) or KERNEL,
        f"mem={memory_mb}M",
        "rootfstype=hostfs",
        "rootflags=/",
        "ro",
        f"init={init}",
        f"uml_dir={init.parent}/",
        "quiet",
        "con=null",
        "con0=null,fd:1",
        *more,
    ]


def _watch(argv: Sequence[str], timeout_s: float, scratch: str) -> str:
    """Run the kernel to its end, or for `timeout_s`; returns what it printed."""
    log = Path(scratch, "console")
    with log.open("wb") as out:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env=os.environ | {"TMPDIR": scratch},
            start_new_session=True,
        )
        try:
            process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            pass
        finally:
            with suppress(ProcessLookupError):  # its processes are children of the kernel's
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return _read(log)


def _which(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def _exit_code(shared: Path) -> int | None:
    text = _read(shared / "exit_code").strip()
    return int(text) if text else None


def _read(path: Path) -> str:
    return path.read_text(errors="replace") if path.exists() else ""


def main() -> int:
    """`python -m tests.vm.uml COMMAND…`: run it in there, and print what it printed."""
    result = run(sys.argv[1:], timeout_s=600)
    print(result.output, end="")
    return 1 if result.exit_code is None else result.exit_code


if __name__ == "__main__":
    sys.exit(main())
