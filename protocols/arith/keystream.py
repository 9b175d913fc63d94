"""The keystream of AES-128 in counter mode from any block on, at the speed of the cache.

The same bytes as `prg.Stream` reads, for what is drawn again and again: the masks of a model's
weights. No thread holds up another while it expands.
"""

from collections.abc import Iterator

import numpy as np
import torch
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from llvmlite import ir
from numba import njit
from numpy.typing import NDArray
from torch import Tensor

from protocols.arith.native import HAS_AES, I64, at, call, instruction

BLOCK_BYTES = 16
_VECTOR = ir.VectorType(I64, 8)
_LANES, _VECTORS = 4, 8  # blocks a vector, and vectors under way at a time
PIECE_BYTES = BLOCK_BYTES * _LANES * _VECTORS
PIECE_ROUNDS = 11  # parts that `piece` emits
_ZEROS = bytes(1 << 20)
_ROUND_CONSTANTS = (1, 2, 4, 8, 16, 32, 64, 128, 27, 54)


class Keystream:
    """The keystream of one key."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self.round_keys = _round_keys(key)  # uint8 (176,)

    def fill(self, out: Tensor, block: int = 0) -> None:
        """Fill `out`, a contiguous tensor, from the 16-byte block number `block` on.

        Raises ValueError for a size that is no multiple of 512 bytes.
        """
        if out.nbytes % PIECE_BYTES:
            raise ValueError(
                f"a keystream comes in pieces of {PIECE_BYTES} bytes, not {out.nbytes}"
            )
        view = out.view(-1).view(torch.uint8).numpy()
        if HAS_AES:
            _expand(self.round_keys, block, view)
            return
        counter = modes.CTR(block.to_bytes(BLOCK_BYTES, "big"))
        encryptor = Cipher(algorithms.AES(self._key), counter).encryptor()
        for start in range(0, len(view), len(_ZEROS)):
            piece = view[start : start + len(_ZEROS)]
            encryptor.update_into(_ZEROS[: len(piece)], piece.data)


def _vector(values: list[int]) -> ir.Constant:
    return ir.Constant(_VECTOR, values)


def _round_key(b: ir.IRBuilder, keys: ir.Value, index: int) -> ir.Value:
    """One round key in every lane."""
    pair = ir.VectorType(I64, 2)
    place = b.bitcast(at(b, keys, 16 * index), pair.as_pointer())
    key = b.load(place, align=8)
    lanes = ir.Constant(ir.VectorType(ir.IntType(32), 8), [0, 1] * _LANES)
    return b.shuffle_vector(key, ir.Constant(pair, ir.Undefined), lanes)


def piece(
    b: ir.IRBuilder, keys: ir.Value, counter: ir.Value, out: ir.Value, vectors: int = _VECTORS
) -> Iterator[None]:
    """Emit 64 bytes of keystream a vector, from block number `counter` on, round by round. Counter mode:
    block i is AES of i as a big-endian number of 128 bits. keys: address of the round keys."""
    empty = ir.Constant(_VECTOR, ir.Undefined)
    first = b.insert_element(empty, counter, ir.Constant(ir.IntType(32), 0))
    spread = b.shuffle_vector(first, empty, ir.Constant(ir.VectorType(ir.IntType(32), 8), [0] * 8))
    spread = b.and_(spread, _vector([0, -1] * _LANES))
    texts = []
    for v in range(vectors):
        offsets = [x for lane in range(_LANES) for x in (0, v * _LANES + lane)]
        number = b.add(spread, _vector(offsets))
        texts.append(call(b, "llvm.bswap.v8i64", _VECTOR, number))
    for index in range(PIECE_ROUNDS):
        key = _round_key(b, keys, index)
        if index == 0:
            texts = [b.xor(text, key) for text in texts]
        else:
            name = f"llvm.x86.aesni.aesenc{'last' if index == 10 else ''}.512"
            texts = [call(b, name, _VECTOR, text, key) for text in texts]
        yield
    for v, text in enumerate(texts):
        place = b.bitcast(at(b, out, 64 * v), _VECTOR.as_pointer())
        b.store(text, place, align=1)


def _piece(b: ir.IRBuilder, args: list[ir.Value]) -> None:
    for _ in piece(b, *args):
        pass


# draw_piece(round keys, number of the first block, where PIECE_BYTES go)
draw_piece = instruction(_piece, 3)


@njit(cache=True, nogil=True)
def _expand(keys: NDArray[np.uint8], block: int, out: NDArray[np.uint8]) -> None:
    first, place = keys.ctypes.data, out.ctypes.data
    for start in range(0, out.shape[0], PIECE_BYTES):
        draw_piece(first, block + start // BLOCK_BYTES, place + start)


def _round_keys(key: bytes) -> NDArray[np.uint8]:
    """The eleven round keys, uint8 (176,). Source: FIPS 197, section 5.2."""
    words = [key[i : i + 4] for i in range(0, 16, 4)]
    for i in range(4, 44):
        word = words[-1]
        if i % 4 == 0:
            turned = bytes(_SUBSTITUTE[b] for b in word[1:] + word[:1])
            word = bytes([turned[0] ^ _ROUND_CONSTANTS[i // 4 - 1]]) + turned[1:]
        words.append(bytes(a ^ b for a, b in zip(words[i - 4], word, strict=True)))
    return np.frombuffer(b"".join(words), np.uint8).copy()


def _substitution() -> bytes:
    """AES's S-box: the inverse in GF(2^8), then an affine map (FIPS 197, section 5.1.1)."""
    box = bytearray([0x63] * 256)
    p = q = 1  # p runs through all powers of 3, q through those of its inverse
    while True:
        p ^= (p << 1) ^ (0x11B if p & 0x80 else 0)
        for shift in (1, 2, 4):
            q ^= q << shift & 0xFF
        q ^= 0x09 if q & 0x80 else 0
        turned = [(q << s | q >> (8 - s)) & 0xFF for s in range(5)]
        box[p] = turned[0] ^ turned[1] ^ turned[2] ^ turned[3] ^ turned[4] ^ 0x63
        if p == 1:
            return bytes(box)


_SUBSTITUTE = _substitution()
