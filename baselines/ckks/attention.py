"""One attention head under CKKS: softmax(q·Kᵀ / √d)·V for new tokens over cached keys and values.

L keys of width d, both padded to powers of two; L·d values fill a ciphertext, once or several times.

| what | slot c·L + j holds | levels |
|---|---|---|
| q, one ciphertext a token | q_c | |
| K, V, one ciphertext each | K_jc, V_jc | |
| q∘K, rotated by L, 2L, … and added | q·K_j, whatever c | 1 |
| by 1 / √d | score j | 1 |
| softmax over j: rotated by 1, 2, 4, … | weight p_j, whatever c; past the last key 0 | `functions` |
| p∘V, rotated by 1, 2, 4, … and added | j = 0: Σ p_j·V_jc; others: sums that are nobody's | 1 |
| by 1 where j = 0, else 0 | the answer at j = 0, else 0 | 1 |
"""

import math
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from baselines.ckks.functions import EXP_LEVELS, SCORE_BOUND, softmax
from baselines.ckks.operations import Operations, Slots

V = TypeVar("V")


@dataclass(frozen=True)
class Head:
    """Where a head's values stand: `keys` of them and width `d`, padded to `rows` and `columns`."""

    keys: int
    d: int
    slots: int

    @property
    def rows(self) -> int:
        """Keys, padded."""
        return _power(self.keys)

    @property
    def columns(self) -> int:
        """Width, padded."""
        return _power(self.d)

    @property
    def fits(self) -> bool:
        """Whether a ciphertext holds all keys."""
        return self.rows * self.columns <= self.slots

    def pack_queries(self, q: Tensor) -> Slots:
        """float64 (n, d) → (n, slots)."""
        return self._filled(q[:, :, None].expand(-1, -1, self.rows))

    def pack_rows(self, k: Tensor) -> Slots:
        """Keys or values, float64 (keys, d) → (1, slots)."""
        return self._filled(k.T[None])

    def unpack(self, slots: Slots) -> Tensor:
        """The answers, float64 (n, d)."""
        return torch.from_numpy(np.ascontiguousarray(slots[:, : self.d * self.rows : self.rows]))

    def _filled(self, x: Tensor) -> Slots:
        """(n, ≤ columns, ≤ rows), padded with zeros, again and again."""
        full = np.zeros((len(x), self.columns, self.rows))
        full[:, : x.shape[1], : x.shape[2]] = x.numpy()
        again = self.slots // (self.columns * self.rows)
        return np.tile(full.reshape(len(x), -1), (1, again))

    def _each(self, column: Slots) -> Slots:
        """One value for each j, the same for every c."""
        return np.tile(column, self.slots // self.rows)

    def attend(self, ops: Operations[V], q: V, k: V, v: V) -> V:
        """The module's table."""
        rows, place = self.rows, np.arange(self.rows)
        q = ops.ready(q, 2 + EXP_LEVELS)
        scores = ops.rotated_sum(ops.multiply(q, k), rows, self.columns)
        a = ops.times(scores, 1 / (math.sqrt(self.d) * SCORE_BOUND))
        seen = self._each(np.where(place < self.keys, 1.0, 0.0))
        p = softmax(ops, a, self.keys, seen, partial(_sums, rows))
        summed = _sums(rows, ops, ops.multiply(ops.ready(p, 2), v))
        return ops.times(summed, self._each(np.where(place == 0, 1.0, 0.0)))


def _sums(rows: int, ops: Operations[V], x: V) -> V:
    return ops.rotated_sum(x, 1, rows)


def _power(n: int) -> int:
    return 1 << (n - 1).bit_length()
