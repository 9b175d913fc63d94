"""How fast masked weights are multiplied offline: `python -m tests.mask_speed [ROUNDS]`.

Prints nanoseconds of one thread's processor time for a word of 8 bytes: of a matrix that is drawn from its
key on the way (P2's half) and of one that lies in memory (P1's), with 8 and with 32 rows. The best of
ROUNDS (20) in turns, and their median.
"""

import sys
import time
from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor

from protocols.arith import ring, tiles

HEIGHT, WIDTH = 4096, 4096


def products(rows: int) -> dict[str, Callable[[], Tensor]]:
    """Each way of multiplying, by name."""
    x = torch.arange(rows * WIDTH).reshape(rows, WIDTH) << 30
    mask = tiles.Mask(bytes(16), HEIGHT, WIDTH, torch.int64)
    stored = tiles.tiled(HEIGHT, WIDTH, 8)
    return {
        f"drawn on the way, {rows} rows": lambda: mask.linear(x),
        f"in memory, {rows} rows": lambda: tiles.linear(stored, x, HEIGHT),
    }


def main() -> None:
    """Measure and print."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    ring.use_threads(1)
    tiles.warm_up()
    ways = products(8) | products(32)
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, multiply in ways.items():
            begin_ns = time.thread_time_ns()
            multiply()
            taken[name].append((time.thread_time_ns() - begin_ns) / (HEIGHT * WIDTH))
    for name, times in taken.items():
        print(f"{name:26} {min(times):.2f} ns a word, median {median(times):.2f}")


if __name__ == "__main__":
    main()
