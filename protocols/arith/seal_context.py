"""What all uses of SEAL begin with: a context of 128-bit security, and words out of its objects."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import tenseal.sealapi as seal

from protocols.arith.seal_format import Words

BFV, CKKS = seal.SCHEME_TYPE.BFV, seal.SCHEME_TYPE.CKKS
SECURITY = seal.SEC_LEVEL_TYPE.TC128  # classical, ternary secrets


def chosen_primes(degree: int, bits: Sequence[int]) -> list[int]:
    """The primes of these sizes that SEAL chooses for ring Z_q[X]/(X^degree + 1)."""
    return [int(prime.value()) for prime in seal.CoeffModulus.Create(degree, list(bits))]


def context(scheme: Any, degree: int, primes: Sequence[int], plain_modulus: int = 0) -> Any:
    """A context of `scheme`. plain_modulus: t, of BFV alone. Raises ValueError where SEAL does not hold the
    parameters to 128 bits."""
    parms = seal.EncryptionParameters(scheme)
    parms.set_poly_modulus_degree(degree)
    parms.set_coeff_modulus([seal.Modulus(prime) for prime in primes])
    if plain_modulus:
        parms.set_plain_modulus(plain_modulus)
    made = seal.SEALContext(parms, True, SECURITY)
    if not made.parameters_set():
        bits = [prime.bit_length() for prime in primes]
        why = made.parameters_error_message()
        raise ValueError(f"SEAL refuses N = {degree} with primes of {bits} bits: {why}")
    return made


def words_of(source: Any, start: int, count: int) -> Words:
    """`count` words, from word `start` on, of a ciphertext, a key or a plaintext, flat."""
    return np.fromiter(map(source.__getitem__, range(start, start + count)), np.uint64, count)
