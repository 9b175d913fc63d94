"""How fast P0's weights are multiplied: `python -m tests.weight_speed [SECONDS]`, one thread.

A decode step reads each weight once, so the floor is a plain read of the same bytes. Matrices of 6 MB
that lie one after the other in 400 MB, so that no cache holds them, and one column; all kinds take turns.
Prints GB/s of weights: the median, and the fastest 3 %.
"""

import sys
import time
from collections.abc import Callable

import numpy as np
import torch
from numba import njit, set_num_threads
from numpy.typing import NDArray
from torch import Tensor

from protocols.arith import byte_products, ring

COLUMNS, MATRIX_BYTES, ALL_BYTES = 4096, 6 << 20, 400 << 20
Product = Callable[[Tensor, Tensor], object]


@njit(cache=True)
def total(words: NDArray[np.int64]) -> int:
    """The least that reads every byte once."""
    found = 0
    for word in words:
        found += word
    return found


def read(weight: Tensor, x: Tensor) -> object:
    """A plain read."""
    return total(weight.view(torch.int64).view(-1).numpy())


KINDS: dict[str, tuple[torch.dtype, Product]] = {
    "a plain read": (torch.int8, read),
    "int8, bytes": (torch.int8, byte_products.linear),
    "int16, bytes": (torch.int16, byte_products.linear),
    "int16, word by word": (torch.int16, ring.linear),
    "int8, word by word": (torch.int8, ring.linear),
}


def main(seconds: float) -> None:
    """Print the table."""
    set_num_threads(1)
    torch.set_num_threads(1)
    memory = torch.randint(-128, 128, (ALL_BYTES,), dtype=torch.int8)
    x = torch.randint(-(2**62), 2**62, (1, COLUMNS))
    speeds: dict[str, list[float]] = {kind: [] for kind in KINDS}
    place, until = 0, time.monotonic() + seconds
    byte_products.warm_up()
    while time.monotonic() < until:
        for kind, (dtype, product) in KINDS.items():
            place = (place + MATRIX_BYTES) % (ALL_BYTES - MATRIX_BYTES)
            weight = memory[place : place + MATRIX_BYTES].view(dtype).reshape(-1, COLUMNS)
            began = time.perf_counter()
            product(weight, x)
            speeds[kind].append(MATRIX_BYTES / (time.perf_counter() - began) / 1e9)
    for kind, found in speeds.items():
        median, fastest = np.quantile(found[1:], (0.5, 0.97))
        print(f"{kind:20} {median:5.1f} GB/s, fastest 3 % {fastest:5.1f}  ({len(found)} calls)")


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 30.0)
