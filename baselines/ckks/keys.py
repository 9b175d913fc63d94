"""Both sides' keys: what P1 makes, what of it travels, what P0 computes with.

| phase | from | to | what | payload | hop |
|---|---|---|---|---|---|
| prepare | P1 | P0 | a relinearisation key, if there are products | switching_key_bytes | 1 |
| prepare | P1 | P0 | a Galois key for each rotation | switching_key_bytes each | 1 |
| prepare | P1 | P0 | a public key, if the answer hides P0's weights | public_key_bytes | 1 |

All travel in one message. The secret key stays at P1. Keys and noise are SEAL's, which draws them
from the operating system whatever `key_seed` is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tenseal.sealapi as seal
import torch
from numpy.typing import NDArray
from torch import Tensor

from baselines.ckks.parameters import Parameters
from baselines.ckks.scheme import Scheme, checked, parts
from protocols.arith import seal_format
from protocols.arith.seal_format import Seeded

KEYS = "keys"


@dataclass(frozen=True)
class Needed:
    """The keys that P0 needs. rotations: the steps."""

    rotations: tuple[int, ...]
    relinearises: bool = False
    rerandomises: bool = False

    @property
    def switching(self) -> int:
        """How many switching keys."""
        return len(self.rotations) + self.relinearises

    def payload_bytes(self, parameters: Parameters) -> int:
        """What P1 sends of them."""
        public = parameters.public_key_bytes() if self.rerandomises else 0
        return self.switching * parameters.switching_key_bytes() + public


class SecretKey:
    """P1: the keys, encryption and decryption."""

    def __init__(self, scheme: Scheme) -> None:
        self._scheme = scheme
        self._generator = seal.KeyGenerator(scheme.context)
        secret = self._generator.secret_key()
        self._encryptor = seal.Encryptor(scheme.context, secret)
        self._decryptor = seal.Decryptor(scheme.context, secret)

    def public(self, needed: Needed) -> tuple[Tensor, ...]:
        """The message of the module."""
        scheme, messages = self._scheme, []
        lists: list[list[Seeded]] = []
        if needed.relinearises:
            lists += self._lists(self._generator.create_relin_keys())
        for step in needed.rotations:  # one at a time: they are large
            element = scheme.galois_element(step)
            lists += self._lists(self._generator.create_galois_keys([element]))
        if lists:
            packed = [[scheme.pack_seeded(key) for key in keys] for keys in lists]
            messages.append(torch.from_numpy(np.stack([np.stack(keys) for keys in packed])))
        if needed.rerandomises:
            key = seal.PublicKey()
            self._generator.create_public_key(key)
            messages.append(torch.from_numpy(scheme.pack(scheme.words(key))))
        return tuple(messages)

    def _lists(self, keys: Any) -> list[list[Seeded]]:
        return list(seal_format.switching_key_words(self._scheme.file.body(keys)).values())

    def encrypt(self, slots: NDArray[np.float64]) -> Tensor:
        """Slots (count, slots) → fresh ciphertexts."""
        scheme = self._scheme
        top = scheme.parameters.top
        return self._encrypted([scheme.encoded(row, top, scheme.scale) for row in slots])

    def encrypt_integers(self, polynomials: Sequence[Sequence[int]]) -> Tensor:
        """Integers, N a polynomial → fresh ciphertexts."""
        scheme = self._scheme
        top = scheme.parameters.top
        return self._encrypted([scheme.polynomial(c, top, scheme.scale) for c in polynomials])

    def _encrypted(self, plaintexts: Sequence[Any]) -> Tensor:
        scheme, rows = self._scheme, []
        for plaintext in plaintexts:
            body = scheme.file.body(self._encryptor.encrypt_symmetric(plaintext))
            rows.append(scheme.pack_seeded(seal_format.seeded_words(body)))
        return torch.from_numpy(np.stack(rows))

    def decrypt(self, ciphertexts: Sequence[Any]) -> NDArray[np.float64]:
        """Slots (count, slots)."""
        encoder = self._scheme.encoder
        return np.array([encoder.decode_double(self._plain(c)) for c in ciphertexts])

    def decrypt_integers(self, ciphertext: Any, primes: int) -> list[int]:
        """The N integers of a ciphertext over so many primes."""
        return self._scheme.coefficients(self._plain(ciphertext), primes)

    def _plain(self, ciphertext: Any) -> Any:
        plaintext = seal.Plaintext()
        self._decryptor.decrypt(ciphertext, plaintext)
        return plaintext


class EvaluationKeys:
    """P0: what it rotates, relinearises and hides with. Raises PeerError for a bad message."""

    def __init__(self, scheme: Scheme, needed: Needed, message: Sequence[Tensor]) -> None:
        self._scheme, parameters = scheme, scheme.parameters
        self.relinearisation, self.galois = seal.RelinKeys(), seal.GaloisKeys()
        self.encryptor: Any = None
        given = list(parts(message, bool(needed.switching) + needed.rerandomises, KEYS))
        if needed.switching:
            row = parameters.poly_bytes(parameters.top + 1) + seal_format.SEED_BYTES
            lists = checked(given.pop(0), (needed.switching, parameters.top, row), KEYS)
            keys = iter([[self._key(packed) for packed in rows] for rows in lists])
            if needed.relinearises:
                self._load(self.relinearisation, {0: next(keys)})
            elements = [scheme.galois_element(step) for step in needed.rotations]
            if elements:
                self._load(self.galois, {(e - 1) // 2: next(keys) for e in elements})
        if needed.rerandomises:
            packed = checked(given.pop(0), (parameters.public_key_bytes(),), KEYS)
            words = scheme.unpack(packed, 2, parameters.top + 1, KEYS)
            public, level = seal.PublicKey(), scheme.levels[-1]
            scheme.file.load(public, seal_format.ciphertext(words, level, ntt=True))
            self.encryptor = seal.Encryptor(scheme.context, public)

    def _key(self, packed: NDArray[np.uint8]) -> Seeded:
        return self._scheme.unpack_seeded(packed, self._scheme.parameters.top + 1, KEYS)

    def _load(self, target: Any, lists: dict[int, list[Seeded]]) -> None:
        level = self._scheme.levels[-1]
        self._scheme.file.load(target, seal_format.switching_keys(lists, level))
