"""Arrays of words in SEAL's own format, and back.

`tenseal.sealapi` gives no access to an object's words but one by one, and saves to files alone,
compressed. Words therefore enter SEAL in its uncompressed format, and leave it decompressed, through
an anonymous memory file.

| object | its bytes |
|---|---|
| frame | magic, header size, version, mode of compression, 0, size of all (16 bytes); body |
| array | frame of: count, words of 8 bytes |
| ciphertext | parms id, NTT or not, polynomials, N, primes, scale, 1; array; frame of a seed, or none |
| plaintext | parms id, count, scale; array |
| switching keys | parms id, number of lists; of each list its length and its keys: frames of ciphertexts |

Of a ciphertext with a seed the array has c0 alone: c1 is what SEAL draws from the seed.
"""

import io
import os
import struct
import threading
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa
import tenseal.sealapi as seal
from numpy.typing import NDArray

Words: TypeAlias = NDArray[np.uint64]
ParmsId: TypeAlias = tuple[int, ...]

SEED_BYTES = 64

_BLAKE2XB = 1
_MAGIC = 0xA15E
_HEADER_BYTES = 16
_CIPHERTEXT = struct.Struct("<4QBQQQdQ")


class Seeded(NamedTuple):
    """A ciphertext whose c1 is drawn from a seed: the words of c0 (primes, N)."""

    words: Words
    seed: bytes


class SealFile:
    """The memory file of one context. Several threads may use it."""

    def __init__(self, context: Any) -> None:
        self._context = context
        self._file = os.fdopen(os.memfd_create("seal"), "r+b", buffering=0)
        self._path = f"/proc/self/fd/{self._file.fileno()}"
        self._in_use = threading.Lock()

    def load(self, target: Any, body: bytes) -> None:
        """Fill a SEAL object from the body of its frame. Raises what SEAL raises: ValueError,
        RuntimeError."""
        with self._in_use:
            self._empty()
            self._file.write(framed(body))
            target.load(self._context, self._path)

    def body(self, source: Any) -> bytes:
        """The body of the frame of a SEAL object."""
        with self._in_use:
            self._empty()
            source.save(self._path)
            size = os.fstat(self._file.fileno()).st_size
            saved = os.pread(self._file.fileno(), size, 0)
        packed = io.BytesIO(saved[_HEADER_BYTES:])
        body: bytes = pa.CompressedInputStream(packed, "zstd").read()
        return body

    def _empty(self) -> None:
        self._file.seek(0)
        self._file.truncate()


def framed(body: bytes) -> bytes:
    """A frame without compression."""
    version = seal.Serialization.SEALHeader()
    size = _HEADER_BYTES + len(body)
    numbers = (_HEADER_BYTES, version.version_major, version.version_minor, 0, 0, size)
    return struct.pack("<HBBBBHQ", _MAGIC, *numbers) + body


def array(words: Words) -> bytes:
    """The frame of an array."""
    return framed(struct.pack("<Q", words.size) + words.tobytes())


def ciphertext(
    words: Words, level: ParmsId, *, ntt: bool, scale: float = 1.0, seed: bytes = b""
) -> bytes:
    """The body of a ciphertext of two polynomials. words: (2, primes, N), or with a seed (primes, N)."""
    primes, n = words.shape[-2:]
    info = framed(bytes([_BLAKE2XB]) + seed) if seed else b""
    return _CIPHERTEXT.pack(*level, ntt, 2, n, primes, scale, 1) + array(words) + info


def ciphertext_words(body: bytes) -> Words:
    """The words of a ciphertext without a seed, (polynomials, primes, N)."""
    *_, polynomials, n, primes, _, _ = _CIPHERTEXT.unpack_from(body)
    return _array_words(body, _CIPHERTEXT.size).reshape(polynomials, primes, n)


def seeded_words(body: bytes) -> Seeded:
    """The parts of a ciphertext with a seed."""
    *_, n, primes, _, _ = _CIPHERTEXT.unpack_from(body)
    words = _array_words(body, _CIPHERTEXT.size).reshape(primes, n)
    return Seeded(words, body[-SEED_BYTES:])


def plaintext(words: Words, level: ParmsId, scale: float = 1.0) -> bytes:
    """The body of a plaintext."""
    return struct.pack("<4QQd", *level, words.size, scale) + array(words)


def plaintext_words(body: bytes) -> Words:
    """The words of a plaintext, flat."""
    return _array_words(body, struct.calcsize("<4QQd"))


def switching_keys(lists: Mapping[int, Sequence[Seeded]], level: ParmsId) -> bytes:
    """The body of relinearisation or Galois keys: the keys of each index."""
    parts = [struct.pack("<4QQ", *level, max(lists) + 1)]
    for index in range(max(lists) + 1):
        keys = lists.get(index, ())
        parts.append(struct.pack("<Q", len(keys)))
        parts += [framed(ciphertext(key.words, level, ntt=True, seed=key.seed)) for key in keys]
    return b"".join(parts)


def switching_key_words(body: bytes) -> dict[int, list[Seeded]]:
    """The keys of each index that has some."""
    (count,), at = struct.unpack_from("<Q", body, 32), 40
    found: dict[int, list[Seeded]] = {}
    for index in range(count):
        (length,), at = struct.unpack_from("<Q", body, at), at + 8
        for _ in range(length):
            (size,) = struct.unpack_from("<Q", body, at + 8)
            found.setdefault(index, []).append(seeded_words(body[at + _HEADER_BYTES : at + size]))
            at += size
    return found


def _array_words(body: bytes, at: int) -> Words:
    (count,) = struct.unpack_from("<Q", body, at + _HEADER_BYTES)
    return np.frombuffer(body, "<u8", count, at + _HEADER_BYTES + 8)
