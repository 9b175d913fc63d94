"""A run's lock: one holder at a time, and none that is dead."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from harness.records.run_lock import lock_path, locked
from harness.version import REPO

HOLD = """
import sys, time
from pathlib import Path
from harness.records.run_lock import locked
with locked(Path(sys.argv[1])) as holder:
    print(holder, flush=True)
    time.sleep(60)
"""


def test_one_holder_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "argmax" / "0123.json"
    with locked(path) as holder:
        assert holder is None
        with locked(path) as second:
            assert second is not None
            assert second.startswith(f"process {os.getpid()} on ")
        with locked(path.with_name("4567.json")) as other:
            assert other is None
        assert lock_path(path).exists()
    assert list(path.parent.iterdir()) == []
    with locked(path) as again:
        assert again is None


def test_a_killed_holder_is_none(tmp_path: Path) -> None:
    path = tmp_path / "argmax" / "0123.json"
    holds = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True, cwd=REPO
    )
    assert holds.stdout is not None
    assert holds.stdout.readline() == "None\n"
    with locked(path) as holder:
        assert holder is not None
        assert holder.startswith(f"process {holds.pid} on ")
    holds.send_signal(signal.SIGKILL)
    holds.wait(10)
    holds.stdout.close()
    with locked(path) as holder:
        assert holder is None
