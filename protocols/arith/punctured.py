"""A puncturable pseudo-random function: all values but one, from a few seeds.

A tree of Goldreich, Goldwasser and Micali (J. ACM 1986): the children of a seed x are H_0(x) and H_1(x),
value i of a tree is the expansion of its leaf i. Whoever has the root computes all values; whoever has
the siblings of the nodes on the way to leaf i computes all but value i, which stays uniform to it.

H_c(x) = AES_c(x) ⊕ x with fixed public keys (Matyas, Meyer, Oseas), as correlation-robust hashing is
done in oblivious-transfer extension (Guo et al., IEEE S&P 2020). Word j of a value is word j mod 2 of
H_2(leaf ⊕ ⌊j/2⌋).

Shapes: many trees at once. Roots int64 (trees, 2), siblings int64 (trees, depth, 2), values int64
(trees, count, width); depth = ⌈log2 count⌉.
"""

import numpy as np
import torch
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray
from torch import Tensor

from protocols.arith.prg import KEY_BYTES, Stream

SEED_WORDS = 2
SEED_BYTES = 8 * SEED_WORDS
Seeds = NDArray[np.uint64]  # (…, 2)
_LEFT, _RIGHT, _EXPAND = (bytes([c]) * KEY_BYTES for c in (1, 2, 3))


def depth_of(count: int) -> int:
    """Levels below the root of a tree with `count` leaves."""
    return (count - 1).bit_length()


class Trees:
    """The trees as their three users see them."""

    @staticmethod
    def key_shape(trees: int, count: int, width: int) -> tuple[int, ...]:
        """Of the siblings."""
        return (trees, depth_of(count), SEED_WORDS)

    @staticmethod
    def roots(stream: Stream, trees: int, count: int, width: int) -> Tensor:
        """Fresh ones."""
        return stream.int64(trees, SEED_WORDS)

    @staticmethod
    def values(roots: Tensor, count: int, width: int) -> Tensor:
        """All values."""
        leaves = _descend(_seeds(roots)[:, None], depth_of(count))
        return _expand(leaves[:, :count], width)

    @staticmethod
    def puncture(roots: Tensor, count: int, at: Tensor, width: int) -> tuple[Tensor, Tensor]:
        """The siblings on the way to leaf `at` (trees,) of each tree, from the top; and the value there,
        int64 (trees, width)."""
        node, places, depth = _seeds(roots), at.numpy(), depth_of(count)
        every = np.arange(len(places))
        siblings = np.empty((len(places), depth, SEED_WORDS), np.uint64)
        for level in range(depth):
            children = _children(node)
            bit = (places >> (depth - 1 - level)) & 1
            siblings[:, level] = children[every, 1 - bit]
            node = children[every, bit]
        return torch.from_numpy(siblings.view(np.int64)), _expand(node[:, None], width)[:, 0]

    @staticmethod
    def punctured_values(keys: Tensor, count: int, at: Tensor, width: int) -> Tensor:
        """All values but those at `at`, which are 0."""
        siblings, places, depth = _seeds(keys), at.numpy(), depth_of(count)
        leaves = np.zeros((len(places), 1 << depth, SEED_WORDS), np.uint64)
        for level in range(depth):
            below = depth - 1 - level
            first = ((places >> below) ^ 1) << below  # of the leaves under this level's sibling
            where = first[:, None] + np.arange(1 << below)
            leaves[np.arange(len(places))[:, None], where] = _descend(
                siblings[:, level, None], below
            )
        found = _expand(leaves[:, :count], width)
        found[torch.arange(len(at)), at] = 0
        return found


def _seeds(words: Tensor) -> Seeds:
    return words.contiguous().numpy().view(np.uint64)


def _hash(key: bytes, x: Seeds) -> Seeds:
    """AES(x) ⊕ x of each seed."""
    text = np.ascontiguousarray(x)
    # A fixed, public key makes a permutation of it: nothing is encrypted, and a mode would add nothing.
    cipher = Cipher(algorithms.AES(key), modes.ECB()).encryptor()
    out = np.empty(text.nbytes + SEED_BYTES, np.uint8)
    if text.size:
        cipher.update_into(text.reshape(-1).data.cast("B"), out.data)
    hashed = out[: text.nbytes].view(np.uint64).reshape(text.shape)
    hashed ^= text
    return hashed


def _children(node: Seeds) -> Seeds:
    """(…, 2) → (…, 2, 2)."""
    return np.stack([_hash(_LEFT, node), _hash(_RIGHT, node)], axis=-2)


def _descend(nodes: Seeds, levels: int) -> Seeds:
    """(trees, n, 2) → (trees, n·2^levels, 2)."""
    for _ in range(levels):
        nodes = _children(nodes).reshape(len(nodes), -1, SEED_WORDS)
    return nodes


def _expand(leaves: Seeds, width: int) -> Tensor:
    """(trees, count, 2) → int64 (trees, count, width)."""
    blocks = (width + 1) // 2
    text = np.empty((*leaves.shape[:2], blocks, SEED_WORDS), np.uint64)
    text[..., 0] = leaves[:, :, :1] ^ np.arange(blocks, dtype=np.uint64)
    text[..., 1] = leaves[:, :, 1:]
    words = _hash(_EXPAND, text).view(np.int64).reshape(*leaves.shape[:2], -1)
    return torch.from_numpy(words[:, :, :width])
