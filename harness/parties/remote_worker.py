"""A party of runner=remote: it serves one session of the harness after the other."""

import os
import subprocess
import sys
from collections.abc import Sequence

from harness.machine.parent_process import PARENT_VARIABLE
from harness.parties.group import kernel_environment
from harness.progress import say
from harness.runners.base import WORKER, HarnessAddress
from harness.transport.handshake import SECRET_VARIABLE
from protocols.party import Role

NOT_JOINED = 2  # the worker's exit code where it could not reach the harness, or was not let in


def join(role: Role, host: str, port: int, secret: bytes, wait_s: float, tls: bool) -> int:
    """Be `role` in every session at host:port until none has come for `wait_s` seconds.

    Returns 0 if there was one at all.
    """
    harness = HarnessAddress(host, port, secret.hex(), tls)
    argv = [sys.executable, *WORKER, *harness.arguments(role), "--wait-s", f"{wait_s:g}"]
    sessions = 0
    while (code := _serve(argv, secret)) != NOT_JOINED:
        sessions += 1
        say(f"{role}: session {sessions} ended with code {code}")
    return 0 if sessions else 1


def _serve(argv: Sequence[str], secret: bytes) -> int:
    """One session, in a process of its own: its kernels need an environment set before Python is."""
    environment = os.environ | kernel_environment(threads=1)
    environment.pop(SECRET_VARIABLE, None)
    environment[PARENT_VARIABLE] = str(os.getpid())
    with subprocess.Popen(
        argv,
        stdin=subprocess.PIPE,
        env=environment,
        start_new_session=True,  # Ctrl-C is for this process, which then ends the worker
    ) as process:
        try:
            process.communicate(secret.hex().encode() + b"\n")
        except KeyboardInterrupt:
            process.kill()
            raise
    return process.returncode
