"""Token selection under BFV: the user gets `table[j]`, the model provider learns nothing about j.

P1 (user) owns the secret key s and a position j; P0 (model provider) owns n ids: its permutation.
Ring Z_q[X]/(X^N + 1), N = 4096, plaintext modulus t = 2^19, Δ = ⌊q/t⌉. Chunk c of the table is
T_c = T[cN] − Σ_{i=1..N−1} T[cN+i]·X^(N−i): the constant coefficient of X^i·T_c is T[cN+i].

| when    | from → to | what                                                 | bytes             |
|---------|-----------|------------------------------------------------------|-------------------|
| prepare | P1 → P0   | public key                                           | 6·6N              |
| hop 1   | P1 → P0   | by chunk: e − a·s + Δ·[c = j÷N]·X^(j mod N), a's seed | ⌈n/N⌉·(2·6N + 64) |
| hop 2   | P0 → P1   | constant coefficient of c0, all of c1                | 6·(N + 1)         |

P0 sums query_c·T_c, adds a fresh encryption of zero under P1's public key and a flood, and switches
to the first prime; P1 decrypts one coefficient. Coefficients, not batching slots: the sum of slots
*is* N times the constant coefficient, and when that one alone travels, the flood has to hide one
number instead of 4096. A word is below 2^47 and travels in 6 bytes.

Parameters: data primes of 46 and 47 bits (q ≈ 2^93) and one of 16 bits that SEAL reserves for keys,
109 bits in all: SEAL's limit for 128-bit classical security at N = 4096. Secrets are ternary; noise
is centred binomial over 42 bits, as SEAL's (|e| ≤ 21, sub-Gaussian with variance 10.5).

Noise of the constant coefficient, with |T| ≤ 2^18 once centred and n ≤ 2^19 (128 chunks):

- query: at most 21; products and sum: S = Σ ±e_i·T_i, always below 21·n·2^18 < 2^41.4, and by
  Hoeffding Pr[|S| > 26·√(Σ T_i²)] < 2^-45: |S| < 2^32.3 (permutation of n = 130528: 2^29.5);
- encryption of zero, once SEAL has dropped the 16-bit prime: below 2^11.1;
- flood: uniform in [−2^72, 2^72). Statistical distance to a noise independent of the table:
  2^32.3 / 2^73 + 2^-45 < 2^-40 for the worst table, 2^-43 for that permutation;
- left: log2(q/2t) − log2(2^72 + 2^41.5) > 0.99 bits (SEAL reports 1 or more), no less after the
  switch, which adds 2^11 to 2^25 under a limit of 2^26. These are bounds: decryption never fails.

P0 sees ring-LWE samples. P1 sees c1 hidden by pk1·u + e1 (ring-LWE) and a constant coefficient
hidden by the flood. Both are semi-honest: a query that is not a one-hot gets a linear combination
of ids, and altered words that stay below their prime are not detected.

Sources: Fan and Vercauteren, eprint 2012/144; flooding: Gentry, STOC 2009. P1 forms e − a·s itself,
so that blanks can be made ahead and filled in; `protocols.arith.seal_format` is how words enter SEAL.
"""

import os
import secrets
from dataclasses import dataclass
from math import prod

import numpy as np
import tenseal.sealapi as seal
import torch
from numpy.typing import NDArray
from torch import Tensor

from protocols.arith import seal_format
from protocols.arith.seal_context import BFV, chosen_primes, context, words_of
from protocols.arith.seal_format import SEED_BYTES, SealFile, Words
from protocols.arith.word_bytes import WORD_BYTES, Bytes, centred_binomial, packed, unpacked

N = 4096
PRIME_BITS = (46, 47, 16)
DATA_PRIMES = 2
PLAIN_MODULUS = 1 << 19
MAX_IDS = PLAIN_MODULUS
FLOOD_BITS = 72

_ANY_LEVEL = (0, 0, 0, 0)


def chunks_of(n: int) -> int:
    """Return the number of ciphertexts in a query over `n` positions. Raises ValueError."""
    if not 1 <= n <= MAX_IDS:
        raise ValueError(f"n = {n} is outside 1..{MAX_IDS}")
    return -(-n // N)


def query_shape(n: int) -> tuple[int, int]:
    """Return the shape of one query over `n` positions, in bytes."""
    return chunks_of(n), DATA_PRIMES * N * WORD_BYTES + SEED_BYTES


def query_bytes(n: int) -> int:
    """Return the payload of one query over `n` positions, in bytes."""
    return prod(query_shape(n))


def reply_bytes() -> int:
    """Return the payload of one reply, in bytes."""
    return (N + 1) * WORD_BYTES


def public_key_bytes() -> int:
    """Return the size of the public key, in bytes."""
    return 2 * len(PRIME_BITS) * N * WORD_BYTES


class _Ring:
    """SEAL context, and a codec between its objects and arrays of words."""

    def __init__(self) -> None:
        primes = chosen_primes(N, PRIME_BITS)
        self.context = context(BFV, N, primes, PLAIN_MODULUS)
        self.evaluator = seal.Evaluator(self.context)
        self.data_level = tuple(self.context.first_parms_id())
        self._levels = (self.context.last_parms_id(), self.data_level, self.context.key_parms_id())
        self.moduli: Words = np.array(primes, np.uint64)[:, None]
        self.q = int(self.moduli[0, 0]) * int(self.moduli[1, 0])
        self._file = SealFile(self.context)

    def ciphertext(
        self, words: Words, *, primes: int = DATA_PRIMES, ntt: bool = False, seed: bytes = b""
    ) -> seal.Ciphertext:
        """Build a ciphertext from the words of c0 and c1, or of c0 and the seed of c1."""
        out = seal.Ciphertext()
        shape = (primes, N) if seed else (2, primes, N)
        level = self._levels[primes - 1]
        self._file.load(
            out, seal_format.ciphertext(words.reshape(shape), level, ntt=ntt, seed=seed)
        )
        return out

    def public_key(self, words: Words) -> seal.PublicKey:
        """Build a public key from its words (2, 3, N)."""
        out = seal.PublicKey()
        self._file.load(out, seal_format.ciphertext(words, self._levels[-1], ntt=True))
        return out

    def plaintext(self, words: Words, level: tuple[int, ...] = _ANY_LEVEL) -> seal.Plaintext:
        """Build a plaintext from N coefficients mod t, or from NTT words of the given level."""
        out = seal.Plaintext()
        self._file.load(out, seal_format.plaintext(words, level))
        return out

    def transformed(self, poly: Words) -> seal.Ciphertext:
        """Return (0, poly) in NTT form: SEAL refuses to transform a ciphertext whose c1 is zero."""
        out = self.ciphertext(np.stack([np.zeros_like(poly), poly]))
        self.evaluator.transform_to_ntt_inplace(out)
        return out

    def unpack(self, given: Bytes, primes: int, what: str) -> Words:
        """Return words (polynomials, primes, N). Raises ValueError for one not below its prime."""
        polynomials = given.reshape(-1, primes * N * WORD_BYTES)
        moduli = [int(p) for p in self.moduli[:primes, 0]]
        return unpacked(polynomials, moduli, what).view(np.uint64)


def _pack(words: Words) -> Bytes:
    return packed(words.reshape(-1))


def _checked(message: Tensor, shape: tuple[int, ...], what: str) -> Bytes:
    if message.dtype != torch.uint8 or tuple(message.shape) != shape:
        raise ValueError(f"{what} is {message.dtype} {tuple(message.shape)}, not uint8 {shape}")
    packed: Bytes = message.contiguous().numpy()
    return packed


def _noise() -> NDArray[np.int64]:
    """Return N samples of fresh noise."""
    return centred_binomial(np.frombuffer(os.urandom(8 * N), np.int64))


class Selector:
    """P1: owns the secret key, asks for one position at a time and opens the replies."""

    def __init__(self) -> None:
        self._ring = _Ring()
        keys = seal.KeyGenerator(self._ring.context)
        secret = keys.secret_key()
        self._public = seal.PublicKey()
        keys.create_public_key(self._public)
        self._decryptor = seal.Decryptor(self._ring.context, secret)
        words = words_of(secret.data(), 0, DATA_PRIMES * N)
        self._secret = self._ring.plaintext(words, self._ring.data_level)

    def public_key(self) -> Tensor:
        """Return the public key, uint8 (public_key_bytes(),)."""
        return torch.from_numpy(_pack(words_of(self._public.data(), 0, 2 * len(PRIME_BITS) * N)))

    def prepare(self, n: int) -> Bytes:
        """Encrypted zeros, made ahead of time, for one later query over `n` positions."""
        return self._blank(chunks_of(n))

    def query(self, index: int, n: int, blank: Bytes | None = None) -> Tensor:
        """Encrypt the one-hot of `index` among `n`; uint8 (⌈n/N⌉, bytes of one ciphertext).

        blank: what `prepare` gave for n, used up here; None: made on the spot. Raises ValueError for
        an index outside 0..n−1.
        """
        chunks = chunks_of(n)
        if not 0 <= index < n:
            raise ValueError(f"index {index} is outside 0..{n - 1}")
        rows = self._blank(chunks) if blank is None else blank
        body = rows[index // N, :-SEED_BYTES]
        zero = self._ring.unpack(body, DATA_PRIMES, "blank")[0]
        body[:] = _pack((zero + self._one_hot(index % N)) % self._ring.moduli[:DATA_PRIMES])
        return torch.from_numpy(rows)

    def open(self, reply: Tensor) -> int:
        """Decrypt a reply, uint8 (reply_bytes(),), to the id. Raises ValueError."""
        packed = _checked(reply, (reply_bytes(),), "reply")
        unsent = np.zeros((N - 1) * WORD_BYTES, np.uint8)
        both = np.concatenate([packed[:WORD_BYTES], unsent, packed[WORD_BYTES:]])
        words = self._ring.unpack(both, 1, "reply")
        plain = seal.Plaintext()
        self._decryptor.decrypt(self._ring.ciphertext(words, primes=1), plain)
        return int(plain[0])

    def _blank(self, chunks: int) -> Bytes:
        return np.stack([self._zero_row() for _ in range(chunks)])

    def _zero_row(self) -> Bytes:
        """Return one packed (e − a·s, seed of a), in NTT form."""
        ring, seed = self._ring, os.urandom(SEED_BYTES)
        masked = ring.ciphertext(np.zeros((DATA_PRIMES, N), np.uint64), ntt=True, seed=seed)
        ring.evaluator.multiply_plain_inplace(masked, self._secret)
        noise = ring.transformed((_noise() % ring.moduli[:DATA_PRIMES].astype(np.int64)).view("u8"))
        ring.evaluator.sub_inplace(noise, masked)
        packed = _pack(words_of(noise, DATA_PRIMES * N, DATA_PRIMES * N))
        return np.concatenate([packed, np.frombuffer(seed, np.uint8)])

    def _one_hot(self, position: int) -> Words:
        """Return Δ·X^position in NTT form, (DATA_PRIMES, N)."""
        delta = (self._ring.q + PLAIN_MODULUS // 2) // PLAIN_MODULUS
        poly = np.zeros((DATA_PRIMES, N), np.uint64)
        poly[:, position] = [delta % int(p) for p in self._ring.moduli[:DATA_PRIMES, 0]]
        lifted = self._ring.transformed(poly)
        return words_of(lifted, DATA_PRIMES * N, DATA_PRIMES * N).reshape(DATA_PRIMES, N)


@dataclass(frozen=True)
class EncodedTable:
    """The n ids of P0 as polynomials in NTT form; None stands for a chunk of zeros."""

    n: int
    chunks: tuple[seal.Plaintext | None, ...]


class Server:
    """P0: owns the table and answers queries under the user's public key."""

    def __init__(self, public_key: Tensor) -> None:
        self._ring = _Ring()
        packed = _checked(public_key, (public_key_bytes(),), "public key")
        words = self._ring.unpack(packed, len(PRIME_BITS), "public key")
        self._encryptor = seal.Encryptor(self._ring.context, self._ring.public_key(words))

    def load_table(self, ids: Tensor) -> EncodedTable:
        """Encode int64 ids (n,), each in [0, 2^19). Raises ValueError."""
        if ids.dtype != torch.int64 or ids.dim() != 1:
            raise ValueError(f"table is {ids.dtype} {tuple(ids.shape)}, not int64 (n,)")
        n = len(ids)
        # Positions past n hold 1: no chunk of a permutation is zero, which would show in the time.
        padded = np.ones((chunks_of(n), N), np.int64)
        padded.reshape(-1)[:n] = ids.numpy()
        if padded.min() < 0 or padded.max() >= PLAIN_MODULUS:
            raise ValueError(f"table has an id outside 0..{PLAIN_MODULUS - 1}")
        return EncodedTable(n, tuple(self._encode(chunk) for chunk in padded))

    def answer(self, query: Tensor, table: EncodedTable) -> Tensor:
        """Encrypt the chosen id for P1, uint8 (reply_bytes(),). Raises ValueError."""
        rows = _checked(query, query_shape(table.n), "query")
        reply = self._select(rows, table)
        self._ring.evaluator.mod_switch_to_next_inplace(reply)
        return torch.from_numpy(_pack(np.append(words_of(reply, 0, 1), words_of(reply, N, N))))

    def _encode(self, chunk: NDArray[np.int64]) -> seal.Plaintext | None:
        if not chunk.any():
            return None  # SEAL refuses a product that is zero
        coefficients = np.append(chunk[:1], -chunk[:0:-1] % PLAIN_MODULUS).astype(np.uint64)
        plain = self._ring.plaintext(coefficients)
        self._ring.evaluator.transform_to_ntt_inplace(plain, self._ring.data_level)
        return plain

    def _select(self, rows: Bytes, table: EncodedTable) -> seal.Ciphertext:
        """Return Σ query_c·T_c + Enc(0) + flood over both data primes."""
        ring, total = self._ring, seal.Ciphertext()
        self._encryptor.encrypt_zero(total)
        ring.evaluator.transform_to_ntt_inplace(total)
        for row, chunk in zip(rows, table.chunks, strict=True):
            words = ring.unpack(row[:-SEED_BYTES], DATA_PRIMES, "query")
            if chunk is None:
                continue
            part = ring.ciphertext(words, ntt=True, seed=row[-SEED_BYTES:].tobytes())
            ring.evaluator.multiply_plain_inplace(part, chunk)
            ring.evaluator.add_inplace(total, part)
        ring.evaluator.transform_from_ntt_inplace(total)
        ring.evaluator.add_inplace(total, self._flood())
        return total

    def _flood(self) -> seal.Ciphertext:
        noise = secrets.randbits(FLOOD_BITS + 1) - (1 << FLOOD_BITS)
        words = np.zeros((2, DATA_PRIMES, N), np.uint64)
        words[0, :, 0] = [noise % int(p) for p in self._ring.moduli[:DATA_PRIMES, 0]]
        return self._ring.ciphertext(words)
