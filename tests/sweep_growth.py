"""What many runs in one sweep cost this process: `python -m tests.sweep_growth [RUNS] [KEY=VALUE …]`.

Measures RUNS (300) tiny runs with one set of parties, with the keys of `permbench run`. Prints memory,
descriptors and threads of the harness and of its parties every tenth of the way; all should be flat.
"""

import sys
import tempfile
from collections.abc import Iterable

import psutil

from harness.config.compose import compose_run
from harness.measure import sweep
from harness.measure.session import Session
from harness.progress import SilentProgress
from tests.faults.program import TINY


def grown(processes: Iterable[psutil.Process]) -> str:
    """Memory in MB, descriptors and threads of each."""
    return "  ".join(
        f"{p.memory_info().rss / 1e6:.0f} MB {p.num_fds()} fds {p.num_threads()} threads"
        for p in processes
    )


def main() -> None:
    """Measure, and print a line now and then."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 300
    me = psutil.Process()
    with tempfile.TemporaryDirectory() as folder:
        words = [*TINY, f"results_dir={folder}", *sys.argv[2:]]
        configs = [compose_run([*words, f"experiment.n={n}"]) for n in range(2, runs + 2)]
        plan = sweep.plan(configs)
        for number, record in enumerate(sweep.measured_here(plan, Session, SilentProgress()), 1):
            assert record.status == "ok", record.error
            if number % max(1, runs // 10) == 0:
                print(f"{number}: {grown([me, *me.children()])}", flush=True)


if __name__ == "__main__":
    main()
