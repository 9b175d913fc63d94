"""Keys of many points of one gate (`dpf`), packed until they are evaluated.

They come in messages of some thousands. Each message has an AES key of its own, which is public: it follows
from the pass and from the number of the message. So whoever tries seeds tries them for one message.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from math import prod

import numpy as np
import torch
from torch import Tensor

from baselines.fss import dpf
from baselines.fss.bits import Words, low_bits, tensor_of, unpack, words_of


@dataclass(frozen=True)
class Message:
    """Keys lo to hi of the gate; at P0 and P1 online `packed`, at the dealer their w (`dpf.generate`)."""

    lo: int
    hi: int
    aes_key: bytes
    packed: Callable[[], Tensor] | None = None
    sign: Words | None = None


def aes_key(number_of_pass: int, number: int) -> bytes:
    """Of one message of a pass."""
    return blake2b(f"{number_of_pass}/{number}".encode(), digest_size=dpf.BLOCK).digest()


@dataclass(frozen=True)
class Points:
    """One role's keys for points of `width` bits in a tensor of `shape`; party: 0 or 1."""

    party: int
    width: int
    shape: tuple[int, ...]
    messages: list[Message]

    @property
    def sign(self) -> Tensor:
        """The dealer's w."""
        signs = [message.sign for message in self.messages if message.sign is not None]
        return tensor_of(signs, self.shape)

    def above(self, x: Tensor) -> Tensor:
        """This role's bit of [α > x], x of the keys' width in its low bits; of shape (m, …) for m x a
        point."""
        flat = x.reshape(-1, prod(self.shape)) & low_bits(self.width)
        out = np.empty(flat.shape, np.uint64)
        for lo, hi, keys in self._evaluated():
            for row in range(len(flat)):
                out[row, lo:hi] = keys.above(words_of(flat[row, lo:hi]))
        return torch.from_numpy(out.view(np.int64)).reshape(x.shape)

    def lookup(self, x: Tensor, table: Tensor, two_digits: bool) -> tuple[Tensor, Tensor]:
        """This role's halves of w·table[x − α] and of w (`dpf.Keys.lookup`)."""
        flat, entries, u, w = x.reshape(-1), words_of(table), [], []
        for lo, hi, keys in self._evaluated():
            halves = keys.lookup(words_of(flat[lo:hi]), entries, two_digits)
            u.append(halves[0])
            w.append(halves[1])
        return tensor_of(u, self.shape), tensor_of(w, self.shape)

    def _evaluated(self) -> Iterator[tuple[int, int, dpf.Keys]]:
        layout = dpf.layout(self.width)
        for message in self.messages:
            if message.packed is None:
                raise RuntimeError("keys are evaluated online")
            numbers = unpack(layout, message.hi - message.lo, message.packed())
            keys = dpf.from_fields(self.party, self.width, numbers, message.aes_key)
            yield message.lo, message.hi, keys
