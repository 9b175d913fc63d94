"""Compile all kernels, or load them compiled, so that nobody's measurement pays for it."""

from functools import lru_cache

import numpy as np

from baselines.fss import bits, dpf
from protocols.arith.prg import Stream


@lru_cache(1)
def warm_up() -> None:
    """Evaluate every kind of key once in a process."""
    bits.warm_up()
    zero, table = np.zeros(1, np.uint64), np.zeros(256, np.uint64)
    for n in (1, 8):
        for keys in dpf.generate(zero, n, Stream(bytes(16)), bytes(dpf.BLOCK))[:2]:
            keys.above(zero)
            keys.lookup(zero, table[: 1 << n])
