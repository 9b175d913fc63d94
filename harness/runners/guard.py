"""Runs one program so that nothing of it outlives its end, or whoever asked for it.

`python -IS guard.py FD FOLDER PROGRAM …` starts PROGRAM in FOLDER, with this process's standard input and
output. FD is one end of a socket: where the other end is closed, the program ends. When the program ends,
so does all that it has started, also what has left its session; what they took is written to FD as
"cpu_ns peak_bytes", and this process ends as the program did.

Only the standard library is imported: a program starts some 20 ms later for it.
"""

import ctypes
import os
import resource
import select
import signal
import subprocess
import sys
from contextlib import suppress

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36  # of <linux/prctl.h>
CANNOT_START = 126


def main(arguments: list[str]) -> int:
    """The exit code; a signal that ended the program ends this process too."""
    life, folder, *command = arguments
    libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # orphans of the program come here

    def end_with_guard() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)

    try:
        child = subprocess.Popen(command, cwd=folder, preexec_fn=end_with_guard)  # noqa: PLW1509 - there is one thread
    except OSError as error:
        print(f"{command[0]}: {error.strerror}", flush=True)
        return CANNOT_START
    select.select([int(life), os.pidfd_open(child.pid)], [], [])
    code = child.poll()
    end_descendants()
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_ns = round((used.ru_utime + used.ru_stime) * 1e9)
    with suppress(OSError):  # nobody is there to read it
        os.write(int(life), f"{cpu_ns} {used.ru_maxrss * 1024}".encode())
    if code is not None and code < 0:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        signal.signal(-code, signal.SIG_DFL) if -code != signal.SIGKILL else None
        os.kill(os.getpid(), -code)
    return 1 if code is None else code


def end_descendants() -> None:
    """Kill until no child is left: whose parent dies becomes a child of this process."""
    while children := _children():
        for pid in children:
            os.kill(pid, signal.SIGKILL)
        for pid in children:
            os.waitpid(pid, 0)


def _children() -> list[int]:
    """This process's children, those among them that have ended and not been waited for too."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    parent = int(file.read().rpartition(b")")[2].split()[1])
            except OSError:
                continue  # it has ended
            if parent == os.getpid():
                found.append(int(name))
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
