"""CKKS by SEAL: a context, and what travels of it as bytes.

Ciphertexts are named by how many primes they have. On the wire a word has as many whole bytes as its
prime; what comes in is checked for size before it is unpacked, and every word is below its prime.

| message | shape, uint8 | what |
|---|---|---|
| fresh ciphertexts | (count, fresh_bytes) | c0 in NTT form, and the seed of c1 |
| worked on | (count, reply_bytes) | c0 and c1 in NTT form |
| switching keys | (keys, top, …) | as fresh ciphertexts, over all primes: one for each data prime |
| public key | (public_key_bytes,) | both polynomials, over all primes |
"""

from collections.abc import Sequence
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import tenseal.sealapi as seal
import torch
from numpy.typing import NDArray
from torch import Tensor

from baselines.ckks.parameters import Parameters
from protocols.arith import seal_format
from protocols.arith.seal_context import CKKS, chosen_primes, context
from protocols.arith.seal_format import SEED_BYTES, ParmsId, SealFile, Seeded, Words
from protocols.errors import PeerError

Bytes: TypeAlias = NDArray[np.uint8]


class Scheme:
    """A context for some parameters, and the codec of its objects."""

    def __init__(self, parameters: Parameters) -> None:
        self.parameters = parameters
        self.moduli = chosen_primes(parameters.degree, parameters.prime_bits)
        self.context = context(CKKS, parameters.degree, self.moduli)
        self.encoder = seal.CKKSEncoder(self.context)
        self.evaluator = seal.Evaluator(self.context)
        self.file = SealFile(self.context)
        self.scale = 2.0**parameters.scale_bits

    @cached_property
    def levels(self) -> list[ParmsId]:
        """The parms id of ciphertexts of 1, 2, … primes, and of keys."""
        found, data = [], self.context.key_context_data()
        while data is not None:
            found.append(tuple(data.parms_id()))
            data = data.next_context_data()
        return found[::-1]

    def level(self, primes: int) -> ParmsId:
        """The parms id of ciphertexts of so many primes."""
        return self.levels[primes - 1]

    # Words and bytes

    def pack(self, words: Words) -> Bytes:
        """Words (polynomials, primes, N) → bytes."""
        return np.concatenate(
            [
                words[i, j].astype("<u8").view(np.uint8).reshape(-1, 8)[:, :width].reshape(-1)
                for i in range(words.shape[0])
                for j, width in enumerate(self._widths[: words.shape[1]])
            ]
        )

    def unpack(self, packed: Bytes, polynomials: int, primes: int, what: str) -> Words:
        """Back. Raises PeerError for a word that is not below its prime."""
        n, at = self.parameters.degree, 0
        words = np.zeros((polynomials, primes, n), np.uint64)
        for i in range(polynomials):
            for j, width in enumerate(self._widths[:primes]):
                padded = np.zeros((n, 8), np.uint8)
                padded[:, :width] = packed[at : at + n * width].reshape(n, width)
                words[i, j] = padded.view("<u8")[:, 0]
                at += n * width
                if words[i, j].max() >= self.moduli[j]:
                    raise PeerError(f"{what}: a word is not below its prime")
        return words

    @cached_property
    def _widths(self) -> list[int]:
        return [-(-bits // 8) for bits in self.parameters.prime_bits]

    def pack_seeded(self, parts: Seeded) -> Bytes:
        """A ciphertext with a seed → bytes."""
        return np.concatenate([self.pack(parts.words[None]), np.frombuffer(parts.seed, np.uint8)])

    def unpack_seeded(self, packed: Bytes, primes: int, what: str) -> Seeded:
        """Back."""
        words = self.unpack(packed[:-SEED_BYTES], 1, primes, what)[0]
        return Seeded(words, packed[-SEED_BYTES:].tobytes())

    # Ciphertexts

    def fresh(self, message: Tensor, count: int, what: str) -> list[Any]:
        """P0: what P1 has just encrypted. Raises PeerError."""
        top = self.parameters.top
        rows = checked(message, (count, self.parameters.fresh_bytes()), what)
        return [self._seeded(self.unpack_seeded(row, top, what)) for row in rows]

    def _seeded(self, parts: Seeded) -> Any:
        out, level = seal.Ciphertext(), self.level(self.parameters.top)
        body = seal_format.ciphertext(
            parts.words, level, ntt=True, scale=self.scale, seed=parts.seed
        )
        self.file.load(out, body)
        return out

    def worked_on(
        self, message: Tensor, count: int, primes: int, scale: float, what: str
    ) -> list[Any]:
        """P1: what P0 has worked on. Raises PeerError."""
        rows = checked(message, (count, self.parameters.reply_bytes(primes)), what)
        return [self.ciphertext(self.unpack(row, 2, primes, what), scale) for row in rows]

    def sent(self, ciphertexts: Sequence[Any]) -> Tensor:
        """P0: the message of `worked_on`."""
        return torch.from_numpy(np.stack([self.pack(self.words(c)) for c in ciphertexts]))

    def ciphertext(self, words: Words, scale: float, ntt: bool = True) -> Any:
        """Of words (2, primes, N)."""
        out = seal.Ciphertext()
        level = self.level(words.shape[1])
        self.file.load(out, seal_format.ciphertext(words, level, ntt=ntt, scale=scale))
        return out

    def words(self, ciphertext: Any) -> Words:
        """Words (2, primes, N) of a ciphertext."""
        return seal_format.ciphertext_words(self.file.body(ciphertext))

    # Plaintexts

    def encoded(self, values: NDArray[np.float64] | float, primes: int, scale: float) -> Any:
        """A plaintext of slots, or of one value in all of them."""
        out = seal.Plaintext()
        given = values if isinstance(values, float) else values.tolist()
        self.encoder.encode(given, self.level(primes), scale, out)
        return out

    def polynomial(self, coefficients: Sequence[int], primes: int, scale: float) -> Any:
        """A plaintext of N integers."""
        out = seal.Plaintext()
        words = self._to_ntt(self.residues(coefficients, primes), scale)
        self.file.load(out, seal_format.plaintext(words, self.level(primes), scale))
        return out

    def residues(self, coefficients: Sequence[int], primes: int) -> Words:
        """(primes, N) of integers of any size."""
        whole = np.array(coefficients, dtype=object)
        return np.stack([(whole % p).astype(np.uint64) for p in self.moduli[:primes]])

    def coefficients(self, plaintext: Any, primes: int) -> list[int]:
        """The N integers of a plaintext over so many primes, from −q/2 to q/2."""
        words = seal_format.plaintext_words(self.file.body(plaintext))
        residues = self._from_ntt(words.reshape(primes, -1)).astype(object)
        first, *others = self.moduli[:primes]
        whole, q = residues[0], first
        for row, p in zip(residues[1:], others, strict=True):
            whole = whole + q * ((row - whole) * pow(q, -1, p) % p)
            q *= p
        centred: list[int] = np.where(whole > q // 2, whole - q, whole).tolist()
        return centred

    # SEAL transforms ciphertexts alone, and none whose c1 is zero.

    def _to_ntt(self, words: Words, scale: float) -> Words:
        both = self.ciphertext(np.stack([np.zeros_like(words), words]), scale, ntt=False)
        self.evaluator.transform_to_ntt_inplace(both)
        return self._second(both)

    def _from_ntt(self, words: Words) -> Words:
        both = self.ciphertext(np.stack([np.zeros_like(words), words]), 1.0)
        self.evaluator.transform_from_ntt_inplace(both)
        return self._second(both)

    def _second(self, both: Any) -> Words:
        second: Words = self.words(both)[1]
        return second

    # Keys

    def galois_element(self, step: int) -> int:
        """SEAL's name of the rotation by `step` slots to the left."""
        return pow(3, step, 2 * self.parameters.degree)


def parts(message: Sequence[Tensor], count: int, what: str) -> Sequence[Tensor]:
    """The tensors of a message that has so many. Raises PeerError."""
    if len(message) != count:
        raise PeerError(f"{what} has {len(message)} tensors, not {count}")
    return message


def checked(message: Tensor, shape: tuple[int, ...], what: str) -> Bytes:
    """The bytes of a message of this shape. Raises PeerError."""
    if message.dtype != torch.uint8 or tuple(message.shape) != shape:
        raise PeerError(f"{what} is {message.dtype} {tuple(message.shape)}, not uint8 {shape}")
    packed: Bytes = message.contiguous().numpy()
    return packed
