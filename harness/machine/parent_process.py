"""A party's process ends with the process that started it, from its first instruction on."""

import ctypes
import os
import signal

PARENT_VARIABLE = "PERMBENCH_PARENT"  # whose end is the party's too: a process id
PR_SET_PDEATHSIG = 1  # of <linux/prctl.h>


def end_with_parent() -> None:
    """Let the kernel kill this process when its parent dies (the thread that started it), if a parent on
    this machine did."""
    if not (parent := os.environ.get(PARENT_VARIABLE)):
        return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != int(parent):
        os._exit(0)  # it died before this process could say so
