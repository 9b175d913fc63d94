"""What the offline pass left for the online pass, by step of the evaluation; used once, or never.

Masks and pads are one-time: a second message under one of them would tell P0 the difference of two
secrets. So every piece is gone once it is taken, and a step's material is burnt when its online pass
begins, before its first message, whether it succeeds or not. What an answer that ended early leaves
over is discarded with its evaluation.

A long prompt leaves much: large pieces may go to files (`protocols.on_disk`) until they are taken.
"""

from collections.abc import Callable
from typing import Any

from torch import Tensor

Store = Callable[[Tensor], Tensor]  # the same tensor, elsewhere
STORED_BYTES = 1 << 20  # and more: pieces that are worth a file


class Ledger:
    """One role's material of the current evaluation."""

    def __init__(self, store: Store | None = None) -> None:
        """store: where large tensors go; None: they stay in memory."""
        self._store = store
        self._kept: dict[tuple[int, str], tuple[Any, ...]] = {}
        self._dealt: set[int] = set()
        self._burnt: set[int] = set()

    def begin(self) -> None:
        """A new evaluation: whatever was left over is gone."""
        self._kept.clear()
        self._dealt.clear()
        self._burnt.clear()

    def deal(self, steps: range) -> None:
        """Material for these steps follows. Raises RuntimeError where there was some before."""
        if again := self._dealt.intersection(steps):
            raise RuntimeError(f"step {min(again)} was dealt before in this evaluation")
        self._dealt.update(steps)

    def dealt(self, step: int) -> bool:
        """Whether there is, or was, material for `step`."""
        return step in self._dealt

    def burn(self, step: int) -> None:
        """`step` begins online. Raises RuntimeError where it did before, or was never dealt."""
        if step not in self._dealt:
            raise RuntimeError(f"step {step} has no material: its offline pass comes first")
        if step in self._burnt:
            raise RuntimeError(f"the material of step {step} is burnt: it was used before")
        self._burnt.add(step)

    def keep(self, step: int, name: str, *pieces: Any) -> None:
        """Of the offline pass, for protocol step `name` of `step`. Raises RuntimeError where something
        was kept under that name: it would be lost."""
        if (step, name) in self._kept:
            raise RuntimeError(f"{name} has material for step {step} already")
        self._kept[step, name] = tuple(map(self._placed, pieces))

    def take(self, step: int, name: str) -> tuple[Any, ...]:
        """What was kept, which is then gone. Raises RuntimeError where there is nothing."""
        if (step, name) not in self._kept:
            raise RuntimeError(f"{name} has no material for step {step}: it is burnt or never was")
        return self._kept.pop((step, name))

    def _placed(self, piece: Any) -> Any:
        if self._store is None:
            return piece
        if isinstance(piece, list):
            return [self._placed(part) for part in piece]
        large = isinstance(piece, Tensor) and piece.nbytes >= STORED_BYTES
        return self._store(piece) if large else piece
