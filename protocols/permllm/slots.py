"""Slots: in which row and at which position P1 sees the score of a head and a key.

Row g holds query head `head[g]`, its position i key `key[g, i]`: an order of the heads and, in each row,
an order of its own of the keys, drawn by P0 and the dealer. A step brings one new key. Either it deals
all slots anew, or (refresh=bounded) it deals m of them among each other, the new key's with them, and all
others stay as they are.

Which positions are dealt anew is drawn by P0 and the dealer and public: the dealer tells P1.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from protocols.arith.prg import Stream


def dealt_anew(length: int, dealt: int, slots: int | None) -> int:
    """How many of `length` slots a step deals: all, unless `slots` bounds them and the `dealt` that
    stood before are all but the new key's."""
    return length if slots is None or dealt != length - 1 else min(slots, length)


@dataclass(frozen=True)
class Deal:
    """The slots of one step. head (h,), key (h, L); moved (m,): the positions dealt anew, ascending.

    "Seen": in P1's order, rows and positions. "Natural": by head and by key.
    """

    head: Tensor
    key: Tensor
    moved: Tensor

    def seen(self, x: Tensor) -> Tensor:
        """Natural (h, L, …) as P1 sees it."""
        return x[self.head[:, None], self.key]

    def natural(self, x: Tensor) -> Tensor:
        """What P1 sees, (h, L, …), by head and key."""
        out = torch.empty_like(x)
        out[self.head[:, None], self.key] = x
        return out

    def by_head(self, x: Tensor) -> Tensor:
        """Rows (h, …) as P1 sees them, by head."""
        return x[self.head.argsort()]

    @property
    def _all_moved(self) -> bool:
        return len(self.moved) == self.key.shape[1]

    @property
    def moved_positions(self) -> Tensor | None:
        """`moved` for every row, (h, m); None where it is every position."""
        return None if self._all_moved else self.moved.expand(len(self.head), -1)

    @property
    def moved_keys(self) -> Tensor | None:
        """The keys at the moved positions, (h, m), by head, ascending; None where it is every key."""
        return None if self._all_moved else self.by_head(self.key[:, self.moved].sort(dim=1).values)

    def moved_natural(self, x: Tensor) -> Tensor:
        """(h, m, …) at the moved positions as P1 sees them → by head, keys ascending."""
        order = self.key[:, self.moved].argsort(dim=1)
        return self.by_head(x[torch.arange(len(x))[:, None], order])

    @property
    def newest(self) -> Tensor:
        """Which of the moved positions holds the new key, (h,), in P1's rows."""
        return self.key[:, self.moved].argmax(dim=1)


class Slots:
    """How the slots stand after the last step that was dealt. P1 counts them alone."""

    def __init__(self, slots: int | None) -> None:
        self._slots, self._dealt = slots, 0
        self._last: Deal | None = None

    def count(self, length: int) -> int:
        """How many slots the step with `length` keys deals anew; the step is then dealt."""
        count = dealt_anew(length, self._dealt, self._slots)
        self._dealt = length
        return count

    def deal(self, stream: Stream, heads: int, length: int) -> Deal:
        """The slots of the step with `length` keys, by P0 or the dealer."""
        count = self.count(length)
        if count == length or self._last is None:
            head, key = stream.permutations(1, heads)[0], stream.permutations(heads, length)
            self._last = Deal(head, key, torch.arange(length))
            return self._last
        others = stream.permutations(1, length - 1)[0, : count - 1]
        moved = torch.cat([others, torch.tensor([length - 1])]).sort().values
        newest = torch.full((heads, 1), length - 1)
        key = torch.cat([self._last.key, newest], dim=1)
        key[:, moved] = key[:, moved].gather(1, stream.permutations(heads, count))
        self._last = Deal(self._last.head, key, moved)
        return self._last


class SlotRows:
    """A row of numbers for every slot, (h, L, w), of which each step replaces those dealt anew."""

    def __init__(self, keep: bool) -> None:
        self._keep = keep  # whether a later step replaces but a part
        self._memory = torch.empty(0)

    def replace(self, at: Tensor | None, rows: Tensor, length: int) -> Tensor:
        """rows (h, m, w) at `at` (h, m), or everywhere where it is None; all rows (h, length, w)."""
        if at is None:
            if self._keep:
                self._memory = rows
            return rows
        if length > self._memory.shape[1]:
            heads, old, width = self._memory.shape
            grown = torch.empty((heads, 2 * length, width), dtype=rows.dtype)
            grown[:, :old] = self._memory
            self._memory = grown
        self._memory[torch.arange(len(rows))[:, None], at] = rows
        return self._memory[:, :length]
