"""Cryptographic pseudo-random generator: AES-128 in counter mode.

A `Prg` is a key and names streams under it: two roles that hold the same key draw the same values
from the stream of the same name, whatever else they drew before. A stream is read once.
"""

import hashlib
import os

import numpy as np
import torch
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from torch import Tensor

KEY_BYTES = 16
_ZEROS = bytes(1 << 20)


class Stream:
    """The keystream of one AES-CTR key, read forward."""

    def __init__(self, key: bytes) -> None:
        self._encryptor = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()

    def _fill(self, out: Tensor) -> Tensor:
        if out.numel() == 0:
            return out
        view = out.view(-1).numpy().data.cast("B")
        for start in range(0, len(view), len(_ZEROS)):
            piece = view[start : start + len(_ZEROS)]
            self._encryptor.update_into(_ZEROS[: len(piece)], piece)
        return out

    def int64(self, *shape: int) -> Tensor:
        """Uniform elements of Z_2^64, int64 of `shape`."""
        return self._fill(torch.empty(shape, dtype=torch.int64))

    def int32(self, *shape: int) -> Tensor:
        """Uniform elements of Z_2^32, int32 of `shape`."""
        return self._fill(torch.empty(shape, dtype=torch.int32))

    def permutations(self, rows: int, n: int) -> Tensor:
        """Independent uniform permutations of 0..n-1, int64 (rows, n).

        Ranks of 64-bit uniform keys: two keys of a row are equal with probability below n²/2^65.
        """
        return torch.from_numpy(np.argsort(self.int64(rows, n).numpy(), axis=1))


def keystream_word(key: bytes, index: int) -> int:
    """Word number `index`, uint32, of what `Stream(key).int32` yields."""
    block, place = divmod(index, 4)
    counter = modes.CTR(block.to_bytes(16, "big"))
    words = Cipher(algorithms.AES(key), counter).encryptor().update(bytes(16))
    return int.from_bytes(words[4 * place : 4 * place + 4], "little")


class Prg:
    """A key from which any number of independent, named streams can be drawn."""

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise ValueError(f"a PRG key has {KEY_BYTES} bytes, got {len(key)}")
        self._key = key

    @classmethod
    def root(cls, seed: int | None, name: str) -> "Prg":
        """A role's own root: from the operating system, or from `seed` for a repeatable run."""
        if seed is None:
            return cls(os.urandom(KEY_BYTES))
        return cls(hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=KEY_BYTES).digest())

    def key(self, name: str) -> bytes:
        """The key called `name` under this one (BLAKE2b, keyed)."""
        return hashlib.blake2b(name.encode(), key=self._key, digest_size=KEY_BYTES).digest()

    def stream(self, name: str) -> Stream:
        """The stream called `name`. Draw each name once: a second draw repeats the first."""
        return Stream(self.key(name))
