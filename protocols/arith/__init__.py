"""Arithmetic that every system stands on: the ring Z_2^64, fixed point, randomness, permutations."""
