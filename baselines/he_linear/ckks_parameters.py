"""CKKS parameters for the matrices of a workload, and what these then send.

P1 scales a row x, whose last value is a 1 for P0's bias, to norm INPUT_NORM; P0 scales the matrix to
rows of a norm up to ROW_NORM. Then |W·x| ≤ 62 < 2^ANSWER_BITS whatever the values are
(Cauchy-Schwarz). The bias has a ciphertext of its own where a last column would take more diagonals:
beside 1024 or 4096 columns, but not beside 768.

**Modulus.** N = 8192, q = p0·p1·p2 and a special prime, which SEAL chooses; all but p0 have UPPER_BITS
bits. An answer at scale 2^(scale + WEIGHT_BITS), its flood and its sign are below q. P0 divides by p1
and p2 before it replies, so that p0 is as small as precision lets it be.

**Precision.** What is off in a slot, for the flood bound 2^F of `baselines.ckks.matrix`:

    flood                 2^(F − WEIGHT_BITS − scale)·√(N/6)
    encoding the weights  2^−WEIGHT_BITS·√(N/24)·INPUT_NORM
    dividing by p1, p2    2^(2·UPPER_BITS − WEIGHT_BITS − scale)·√(N/2)·√((1 + 2N/3)/12)

The root of the squares' sum, beside a product of random directions, ROW_NORM·INPUT_NORM/√k, shall be
2^-precision. All matrices of a workload have the scale of the one that needs most, and one set of keys.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

from baselines.ckks.keys import Needed
from baselines.ckks.matrix import ANSWER_BITS, PRIMES, ROW_NORM, WEIGHT_BITS, Diagonals
from baselines.ckks.parameters import LIMITS, PRIME_BITS, Parameters
from baselines.he_linear.parameters import COPIES, Shape
from protocols.errors import Unsupported
from protocols.party import P0, P1, Role

DEGREE = 8192
SLOTS = DEGREE // 2
UPPER_BITS = 48
VALUES = PRIMES * DEGREE * 8  # bytes in memory of one polynomial modulo p0, p1 and p2
KEY_VALUES = (PRIMES + 1) * DEGREE * 8  # and modulo the special prime
INPUT_NORM = 62 / ROW_NORM
MIN_BASE_BITS = 20  # there are primes of that size which are 1 modulo 2N


@dataclass(frozen=True)
class CkksSizes:
    """What matrices take under CKKS: on the wire of n rows, and at each role."""

    parameters: Parameters
    needed: Needed

    @property
    def key_bytes(self) -> int:
        """P1 → P0."""
        return self.needed.payload_bytes(self.parameters)

    @property
    def kept_keys(self) -> dict[Role, int]:
        """P0: Galois keys, with what their seeds stand for, and the public key. P1: the secret key."""
        pairs = self.needed.switching * self.parameters.top + 1
        return {P0: 2 * pairs * KEY_VALUES, P1: KEY_VALUES}

    @property
    def keys_in_passing(self) -> int:
        """At either role, while they travel."""
        return 2 * self.key_bytes

    def query_bytes(self, n: int, shape: Shape) -> int:
        """P1 → P0."""
        return n * query_count(shape) * self.parameters.fresh_bytes()

    def reply_bytes(self, n: int, shape: Shape) -> int:
        """P0 → P1."""
        return n * reply_count(shape) * self.parameters.reply_bytes(1)

    def encoded_bytes(self, shape: Shape) -> int:
        """P0: the encoded matrix."""
        return sum(one.encoded_count for one in pieces(shape)) * VALUES

    def blank_bytes(self, shape: Shape) -> int:
        """P1 makes nothing ahead."""
        return 0

    def zero_bytes(self, shape: Shape) -> int:
        """P0: what hides a row of the answer."""
        return reply_count(shape) * 2 * VALUES

    def worked_bytes(self, n: int, shape: Shape) -> dict[Role, int]:
        """In passing, while n rows are asked and answered."""
        query = n * query_count(shape) * 2 * VALUES
        turned = sum(one.column_blocks * one.baby for one in pieces(shape)) * 2 * VALUES
        return {P0: 2 * query + turned, P1: COPIES * query}


@lru_cache(256)
def pieces(shape: Shape) -> tuple[Diagonals, ...]:
    """How a matrix lies in ciphertexts: its bias as the last column, or by itself."""
    whole = Diagonals(shape.rows, shape.columns, SLOTS)
    if shape.exact:
        return (whole,)
    apart = (
        Diagonals(shape.rows, shape.columns - 1, SLOTS),
        Diagonals(shape.rows, 1, SLOTS),
    )
    return min((whole,), apart, key=lambda some: sum(one.encoded_count for one in some))


def flood_bits(shape: Shape) -> int:
    """F, but for log₂N, of the sum of all pieces."""
    return max(one.flood_bits for one in pieces(shape)) + len(pieces(shape)) - 1


def query_count(shape: Shape) -> int:
    """Ciphertexts of a row of x."""
    return sum(one.column_blocks for one in pieces(shape))


def reply_count(shape: Shape) -> int:
    """Ciphertexts of a row of the answer."""
    return pieces(shape)[0].row_blocks


def input_norm(shape: Shape) -> float:
    """Of a row that P1 encrypts. Half of it for one-hots: the other half is for what P0 adds."""
    return INPUT_NORM / 2 if shape.exact else INPUT_NORM


@lru_cache(64)
def ckks_sizes(shapes: tuple[Shape, ...], precision: int) -> CkksSizes:
    """The parameters of the fewest bits. Raises Unsupported where none are precise enough."""
    scale = max(_least_scale(shape, precision) for shape in shapes)
    base = _base_bits(scale)
    parameters = Parameters(DEGREE, (base, UPPER_BITS, UPPER_BITS), scale, 0, UPPER_BITS)
    places = [one for shape in shapes for one in pieces(shape)]
    rotations = {step for one in places for step in one.rotations}
    return CkksSizes(parameters, Needed(tuple(sorted(rotations)), rerandomises=True))


def relative_error(shape: Shape, scale_bits: int) -> float:
    """Of a product of random directions, rms; the module's sum."""
    n, at = DEGREE, 2.0 ** -(WEIGHT_BITS + scale_bits)
    flood = 2.0 ** (flood_bits(shape) + math.log2(n)) * at * math.sqrt(n / 6)
    weights = 2.0**-WEIGHT_BITS * math.sqrt(n / 24) * input_norm(shape)
    rounding = 4.0**UPPER_BITS * at * math.sqrt(n / 2 * (1 + 2 * n / 3) / 12)
    typical = ROW_NORM * input_norm(shape) / math.sqrt(shape.columns)
    return math.hypot(flood, weights, rounding) / typical


def _base_bits(scale: int) -> int:
    """Of p0: an answer and its sign. From 62 to 64 there is room for the flood."""
    return scale + WEIGHT_BITS + ANSWER_BITS + 1 - (PRIMES - 1) * UPPER_BITS


def _least_scale(shape: Shape, precision: int) -> int:
    for base in range(MIN_BASE_BITS, PRIME_BITS + 1):
        scale = base - _base_bits(0)
        if base + PRIMES * UPPER_BITS > LIMITS[DEGREE]:
            break
        if relative_error(shape, scale) <= 2.0**-precision:
            return scale
    raise Unsupported(
        f"system.precision={precision} is too high for sums of {shape.columns} products under CKKS with "
        f"{LIMITS[DEGREE]} bits of modulus, which degree {DEGREE} allows for 128-bit security"
    )
