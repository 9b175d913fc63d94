"""The same lookup without a cipher: a table that the dealer locks, and one oblivious transfer a bit.

Naor and Pinkas: the position i of an entry has ℓ = ⌈log2 V⌉ bits i_1 … i_ℓ, and each bit two keys. The
dealer gives P1 the whole table, each entry under the ℓ keys of its position:

    T_i = π(i) ⊕ F(k_1,i_1; i) ⊕ … ⊕ F(k_ℓ,i_ℓ; i)

P1 gets one key of each pair, those of its j, and so opens entry j: any other entry has a bit whose key
it lacks. A pair's key comes by a transfer that the dealer has made ready: P0 has pads p_0, p_1, and P1
has a coin c and p_c. P1 sends d = j ⊕ c, a uniform bit; P0 sends k_b ⊕ p_(b ⊕ d) for b = 0, 1, of which
P1 opens b = j. Keys, pads and coins are fresh for every token.

F(k; i) is word i, of 32 bits, of the keystream of AES-128 in counter mode under k, cut to an entry's
bytes: no input of F is used twice under a key.

| phase | from | to | what | name | payload | hop |
|---|---|---|---|---|---|---|
| offline | P2 | P1 | T | | V·⌈ℓ/8⌉ | 1 |
| offline | P2 | P1 | p_c of each bit | | 16·ℓ | 1 |
| online | P1 | P0 | d of each bit | query | ⌈ℓ/8⌉ | 1 |
| online | P0 | P1 | k_0 ⊕ p_d, k_1 ⊕ p_(1 ⊕ d) of each bit | reply | 32·ℓ | 2 |

P0 learns nothing: its d are uniform. P1 learns one entry, whatever it sends. P2 is not online.
Source: Naor and Pinkas, Oblivious transfer and polynomial evaluation, STOC 1999, with Beaver's transfers
made ready (CRYPTO 1995).
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from protocols.arith.prg import KEY_BYTES, Stream, keystream_word
from protocols.party import P0, P1, P2
from protocols.permllm.private_lookup import Lookup, LookupBytes

_KEY = KEY_BYTES // 8  # words


def levels(size: int) -> int:
    """ℓ: bits of a position."""
    return max(1, (size - 1).bit_length())


def entry_bytes(size: int) -> int:
    """Bytes of an entry, and of a query: ⌈ℓ/8⌉."""
    return -(-levels(size) // 8)


class TransferLookup(Lookup):
    """By oblivious transfer."""

    @staticmethod
    def costs(size: int) -> LookupBytes:
        """T and p_c, d, keys."""
        keys = KEY_BYTES * levels(size)
        return LookupBytes(0, size * entry_bytes(size) + keys, entry_bytes(size), 2 * keys)

    def prepare(self) -> None:
        """There are no keys that last."""

    def offline(self, tables: Tensor | None) -> None:
        """Keys and pads at P0 and P2, coins at P1 and P2; locked tables and one pad of each pair to P1."""
        shape = (len(self.ctx.steps), levels(self.size))
        keys = pads = coins = torch.empty(0, dtype=torch.int64)
        if self.role != P1:
            stream = self.ctx.p0p2(f"{self.name}/keys")
            keys, pads = stream.int64(*shape, 2, _KEY), stream.int64(*shape, 2, _KEY)
        if self.role != P0:
            coins = self.ctx.p1p2(f"{self.name}/coins").int64(*shape) & 1  # c
        if self.role == P0:
            self.keep_each(keys, pads)
        elif self.role == P2 and tables is not None:
            locked = [_locked(t, k) for t, k in zip(tables, keys, strict=True)]
            self.party.send(P1, torch.stack(locked))  # T   (steps, V, bytes)
            self.party.send(P1, _chosen(pads, coins))  # p_c   (steps, ℓ, 2)
        else:
            table_shape = (shape[0], self.size, entry_bytes(self.size))
            (locked_tables,) = self.receive(P2, table_shape, dtype=torch.uint8)
            (own,) = self.receive(P2, (*shape, _KEY), dtype=torch.int64)
            self.keep_each(locked_tables, own, coins)

    def ask(self, position: int) -> Callable[[], int]:
        """See `Lookup`."""
        if not 0 <= position < self.size:
            raise ValueError(f"position {position} is outside 0..{self.size - 1}")
        table, pads, coins = (piece[0] for piece in self.take())
        bits = position >> torch.arange(levels(self.size)) & 1
        with self.party.step("query"):
            self.party.send(P0, _packed(bits ^ coins))  # d = j ⊕ c

        def opened() -> int:
            with self.party.step("reply"):
                (reply,) = self.receive(P0, (len(bits), 2, _KEY), dtype=torch.int64)
            keys = _chosen(reply, bits) ^ pads
            pad = 0
            for key in keys:
                pad ^= keystream_word(_bytes(key), position)
            locked = int.from_bytes(table[position].numpy().tobytes(), "little")
            return self.checked(locked ^ pad & (1 << 8 * entry_bytes(self.size)) - 1)

        return opened

    def asked(self) -> Callable[[], None]:
        """See `Lookup`."""
        keys, pads = (piece[0] for piece in self.take())
        with self.party.step("query"):
            (packed,) = self.receive(P1, (entry_bytes(self.size),), dtype=torch.uint8)
        d = _unpacked(packed, len(keys))
        order = torch.stack([d, 1 - d], dim=1)[..., None].expand(-1, -1, _KEY)  # b ⊕ d
        reply = keys ^ pads.gather(1, order)  # k_b ⊕ p_(b ⊕ d)   (ℓ, 2, 2)

        def answer() -> None:
            with self.party.step("reply"):
                self.party.send(P1, reply)

        return answer


def _locked(table: Tensor, keys: Tensor) -> Tensor:
    """T of a table int64 (V,) under keys int64 (ℓ, 2, 2): uint8 (V, bytes), little-endian."""
    entries = table.numpy().astype(np.uint32)
    places = np.arange(len(entries), dtype=np.uint32)
    for level, pair in enumerate(keys):
        zero, one = (_stream(key, len(entries)) for key in pair)
        entries ^= np.where(places >> np.uint32(level) & np.uint32(1), one, zero)
    raw = entries.view(np.uint8).reshape(-1, 4)[:, : entry_bytes(len(entries))]
    return torch.from_numpy(np.ascontiguousarray(raw))


def _stream(key: Tensor, count: int) -> "np.ndarray[tuple[int], np.dtype[np.uint32]]":
    """F(key; 0), F(key; 1), …"""
    return Stream(_bytes(key)).int32(count).numpy().view(np.uint32)


def _bytes(key: Tensor) -> bytes:
    return key.numpy().tobytes()


def _chosen(pairs: Tensor, bits: Tensor) -> Tensor:
    """The word pair that each bit names: pairs (…, ℓ, 2, 2), bits (…, ℓ) → (…, ℓ, 2)."""
    index = bits[..., None, None].expand(*bits.shape, 1, _KEY)
    return pairs.gather(-2, index).squeeze(-2)


def _packed(bits: Tensor) -> Tensor:
    """Eight bits a byte, the first the lowest."""
    return torch.from_numpy(np.packbits(bits.numpy().astype(np.uint8), bitorder="little"))


def _unpacked(packed: Tensor, count: int) -> Tensor:
    bits = np.unpackbits(packed.numpy(), count=count, bitorder="little")
    return torch.from_numpy(bits.astype(np.int64))
