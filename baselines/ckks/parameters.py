"""CKKS parameters: which there are at 128 bits, and those of a circuit.

    modulus q = base · scale^levels · special        log₂ q ≤ LIMITS[N]

A ciphertext at level l has the base primes and l others. A product takes a level: SEAL divides by a
prime that is near 2^scale_bits, and the scale is taken to be 2^scale_bits again. SEAL keeps the
special prime for switching keys.

At level 0 the two base primes have room for a re-encryption (`reencryption`): a value up to
2^VALUE_BITS under a mask that is 2^STATISTICAL times as large for all N coefficients together.

Precision. Primes are 1 modulo 2N, on average N·ln 2^scale_bits apart, so that the scale drifts by
up to δ = levels · N · ln 2^scale_bits / 2^scale_bits in a product. Rounding and key switching add
up to 2^15·√(N / 2^14) / 2^scale_bits to a slot. A circuit makes both at most `AMPLIFIED` times as
large; tests hold the measured errors below that.

Sources: Cheon, Kim, Kim, Song, ASIACRYPT 2017; the limits are those of SEAL 4.1 for ternary secrets
and 128-bit classical security, from the table of HomomorphicEncryption.org.
"""

import math
from dataclasses import dataclass

from protocols.arith.seal_format import SEED_BYTES
from protocols.errors import Unsupported

LIMITS = {8192: 218, 16384: 438, 32768: 881}  # bits of q
SCALE_BITS = 40
STATISTICAL = 40
VALUE_BITS = 6
PRECISION = 1e-3  # largest accepted error, relative rms
AMPLIFIED = 64
PRIME_BITS = 60  # SEAL's largest prime


@dataclass(frozen=True)
class Parameters:
    """Degree N, and bits: of the base primes, of the scale and each level's prime, of the special prime.

    scale_bits is what a fresh ciphertext is encrypted at, which without levels is no prime's size.
    """

    degree: int
    base: tuple[int, ...]
    scale_bits: int
    levels: int
    special: int

    @property
    def slots(self) -> int:
        """Values in a ciphertext."""
        return self.degree // 2

    @property
    def prime_bits(self) -> tuple[int, ...]:
        """Of all primes, in SEAL's order."""
        return (*self.base, *(self.scale_bits,) * self.levels, self.special)

    @property
    def top(self) -> int:
        """Primes of a fresh ciphertext."""
        return len(self.base) + self.levels

    def poly_bytes(self, primes: int) -> int:
        """One polynomial over the first `primes` primes, on the wire: whole bytes a word."""
        return self.degree * sum(-(-bits // 8) for bits in self.prime_bits[:primes])

    def fresh_bytes(self) -> int:
        """A ciphertext that P1 has just encrypted: one polynomial, and the seed of the other."""
        return self.poly_bytes(self.top) + SEED_BYTES

    def reply_bytes(self, primes: int) -> int:
        """A ciphertext that P0 has worked on."""
        return 2 * self.poly_bytes(primes)

    def switching_key_bytes(self) -> int:
        """One relinearisation key, or the Galois key of one rotation."""
        return self.top * (self.poly_bytes(self.top + 1) + SEED_BYTES)

    def public_key_bytes(self) -> int:
        """A public key."""
        return 2 * self.poly_bytes(self.top + 1)

    def __str__(self) -> str:
        primes = "+".join(map(str, self.base))
        levels = f"+{self.levels}·{self.scale_bits}" if self.levels else ""
        total, limit = sum(self.prime_bits), LIMITS[self.degree]
        return (
            f"degree {self.degree}, scale 2^{self.scale_bits}, primes {primes}{levels}+{self.special}"
            f" = {total} bits, {limit} allowed for 128-bit security"
        )


def estimated_error(degree: int, scale_bits: int, levels: int) -> float:
    """Largest expected error of a circuit's answer, for values around 1."""
    drift = levels * degree * scale_bits * math.log(2) / 2.0**scale_bits
    noise = 2**15 * math.sqrt(degree / 2**14) / 2.0**scale_bits
    return AMPLIFIED * (drift + noise)


def circuit_parameters(degree: int, scale_bits: int) -> Parameters:
    """With as many levels as fit. Raises Unsupported."""
    masked = scale_bits + VALUE_BITS + STATISTICAL + degree.bit_length() - 1  # see `reencryption`
    base = max(-(-(masked + 2) // 2), scale_bits + VALUE_BITS + 2)  # an answer has one prime
    if base > PRIME_BITS:
        raise Unsupported(
            f"system.scale_bits={scale_bits}: too large for an answer or a re-encryption"
        )
    levels = (LIMITS[degree] - 3 * base) // scale_bits
    if levels < 1:
        raise Unsupported(
            f"system.degree={degree} has no level at system.scale_bits={scale_bits}: "
            f"{LIMITS[degree]} bits in all, {3 * base} of them for base and keys"
        )
    error = estimated_error(degree, scale_bits, levels)
    if error > PRECISION:
        raise Unsupported(
            f"system.scale_bits={scale_bits}: an error of about {error:.1g}, above the bound of "
            f"{PRECISION:g}; from {_least(degree)} on"
        )
    return Parameters(degree, (base, base), scale_bits, levels, base)


def _least(degree: int) -> int:
    """The smallest scale that is precise enough, with the levels that it leaves."""
    bits = SCALE_BITS // 2
    while estimated_error(degree, bits, LIMITS[degree] // bits) > PRECISION:
        bits += 1
    return bits
