"""What PyTorch takes for a run's work in the clear: no privacy, no message, float32, as many threads as a
party has. The work is what `system=plaintext` does at P0, on the same input and weights."""

import time
from collections.abc import Callable

import torch

from baselines.plaintext.services import service
from protocols.workload import Workload

WARMUPS, MOST, LEAST = 5, 50, 5  # calls
LONG_ENOUGH_NS = 500_000_000  # of all samples together, where there are enough


def pytorch_times_ns(workload: Workload, seed: int, threads: int) -> list[int]:
    """Wall times of single calls, `LEAST` to `MOST` of them. The caches are as the call before has left
    them, which is as good as it gets."""
    made = service(workload, seed, None, "exact")
    made.load()
    if given := made.given():
        made.take(given)
    request = made.request(0)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        return _timed(lambda: made.reply(0, request))
    finally:
        torch.set_num_threads(before)


def _timed(call: Callable[[], object]) -> list[int]:
    for _ in range(WARMUPS):
        call()
    found: list[int] = []
    while len(found) < LEAST or (len(found) < MOST and sum(found) < LONG_ENOUGH_NS):
        start = time.perf_counter_ns()
        call()
        found.append(time.perf_counter_ns() - start)
    return found
