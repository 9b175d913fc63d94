"""Interactive re-encryption: a ciphertext without levels comes back with all of them.

SEAL has no bootstrapping. P0 masks the ciphertext, P1 decrypts and encrypts anew, P0 takes the mask
off. m is the N integers of the plaintext, noise and all; they stay below 2^(scale_bits + VALUE_BITS).

| phase | from | to | what | name | payload | hop |
|---|---|---|---|---|---|---|
| online | P0 | P1 | ciphertexts of m + r at level 0 | re-encrypt | reply_bytes(2) each | 1 |
| online | P1 | P0 | fresh ciphertexts of m + r | re-encrypt | fresh_bytes each | 2 |

P1 sees m + r, each of the N integers of r uniform in [−2^B, 2^B), B = scale_bits + VALUE_BITS +
STATISTICAL + log₂N − 1: within 2^−STATISTICAL of a distribution that does not depend on m. c1 of what
P0 sends is no secret from P1 for any circuit here: P0 puts no secret of its own into them. P0 sees
ciphertexts alone, never what P1 decrypts: an approximate decryption would tell about the key
(Li, Micciancio, EUROCRYPT 2021).

The masked integers do not wrap: 2^B + 2^(scale_bits + VALUE_BITS) < q/2 for the two base primes.
"""

import os
from collections.abc import Sequence
from typing import Any

from baselines.ckks.keys import SecretKey
from baselines.ckks.parameters import STATISTICAL, VALUE_BITS, Parameters
from baselines.ckks.scheme import Scheme, parts
from protocols.party import P0, P1, Party

REENCRYPT = "re-encrypt"
BASE_PRIMES = 2


def mask_bits(parameters: Parameters) -> int:
    """B of the module."""
    spread = STATISTICAL + parameters.degree.bit_length() - 1
    return parameters.scale_bits + VALUE_BITS + spread - 1


def uniform(bits: int, count: int) -> list[int]:
    """Integers in [−2^bits, 2^bits) from the operating system's generator."""
    size = bits // 8 + 1
    drawn, cut = os.urandom(size * count), (2 << bits) - 1
    whole = (int.from_bytes(drawn[i : i + size], "little") for i in range(0, len(drawn), size))
    return [(value & cut) - (1 << bits) for value in whole]


def reencrypted(party: Party, scheme: Scheme, ciphertexts: Sequence[Any]) -> list[Any]:
    """P0: the ciphertexts, with all levels. Raises PeerError."""
    evaluator, parameters, scale = scheme.evaluator, scheme.parameters, scheme.scale
    bits = mask_bits(parameters)
    with party.step(REENCRYPT):
        masks = [uniform(bits, parameters.degree) for _ in ciphertexts]
        for ciphertext, mask in zip(ciphertexts, masks, strict=True):
            evaluator.mod_switch_to_inplace(ciphertext, scheme.level(BASE_PRIMES))
            evaluator.add_plain_inplace(ciphertext, scheme.polynomial(mask, BASE_PRIMES, scale))
        party.send(P1, scheme.sent(ciphertexts))
        removed = [scheme.polynomial(mask, parameters.top, scale) for mask in masks]
        (message,) = parts(party.recv(P1), 1, REENCRYPT)
        fresh = scheme.fresh(message, len(masks), REENCRYPT)
        for ciphertext, mask in zip(fresh, removed, strict=True):
            evaluator.sub_plain_inplace(ciphertext, mask)
        return fresh


def reencrypt(party: Party, scheme: Scheme, key: SecretKey, count: int) -> None:
    """P1: its side of it."""
    with party.step(REENCRYPT):
        (message,) = parts(party.recv(P0), 1, REENCRYPT)
        masked = scheme.worked_on(message, count, BASE_PRIMES, scheme.scale, REENCRYPT)
        integers = [key.decrypt_integers(ciphertext, BASE_PRIMES) for ciphertext in masked]
        party.send(P0, key.encrypt_integers(integers))
