"""A secret matrix times an encrypted vector, by diagonals, with an answer that hides the matrix.

W (m, n) is padded to e × d, powers of two up to S slots; what is larger is cut into blocks of S.
D = min(d, e) offsets make the product; slots are filled by G = S ÷ max(d, e) groups, each with
K = max(1, D ÷ G) of the offsets. P1 encrypts x̂, P0 has K diagonals w_k:

    x̂[t] = x[(t + g(t)·K) mod d],  g(t) = t ÷ max(d, e)      w_k[t] = W[t mod e, column of x̂[t + k]]
    y[t mod e] = Σ over slots e apart of Σ_k w_k∘rot(x̂, k)

Baby and giant steps, k = j·b + i: the rotations rot(x̂, i) are made once, and
Σ_k = Σ_j rot(Σ_i rot(w_(jb+i), −jb)∘rot(x̂, i), jb) is summed by Horner's rule. Every rotation is then by
1, by b, or by a power of two times e: few keys. SEAL does not export the decomposition that rotations
of one ciphertext could share (hoisting), so that rotating by 1 again and again costs no more.

| phase | from | to | what | name | payload | hop |
|---|---|---|---|---|---|---|
| prepare | P1 | P0 | keys (`keys`) | keys | | 1 |
| online | P1 | P0 | a ciphertext a row and block of columns | request | fresh_bytes each | 1 |
| online | P0 | P1 | a ciphertext a row and block of rows | reply | reply_bytes(1) each | 2 |

P0 sees ciphertexts. P1 learns what the *encoded* matrix makes of x, in all e padded rows: y = x·Wᵀ + b,
and about 2^−23 of a weight beside, for encoding rounds the diagonals to integers. No slot has a partial
sum; P0 adds an encryption of zero under P1's public key, which makes c1 anew, and a flood, N integers
uniform in [−2^F, 2^F). Without it the noise of computing the N integers would depend on W:

- a key switch adds below 2^NOISE_BITS (9 standard deviations), and b − 1 of them one after the other
  √b times that;
- the K diagonals multiply it. Rows of W are no longer than ROW_NORM, so that the squared norms of all
  diagonals' coefficients add up to 2^(2·WEIGHT_BITS)·ROW_NORM²·e/S at most, and their norms to √K
  times the root of that;
- adding slots e apart makes it S/e times as large, if all goes the same way. In all the factor is
  2^WEIGHT_BITS·ROW_NORM·√(K·S/e). Later key switches are not multiplied, and small beside it.

F is STATISTICAL + log₂N bits above: the distance of all N integers to those of another matrix is below
2^−STATISTICAL. Then the ciphertext is scaled down to one prime.

Sources: Halevi, Shoup, CRYPTO 2014 (diagonals), CRYPTO 2018 (baby and giant steps); Juvekar et al.,
GAZELLE, USENIX Security 2018 (groups); flooding: Gentry, STOC 2009.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import tenseal.sealapi as seal
import torch
from numpy.typing import NDArray
from torch import Tensor

from baselines.ckks.keys import EvaluationKeys, Needed
from baselines.ckks.parameters import (
    LIMITS,
    PRECISION,
    PRIME_BITS,
    STATISTICAL,
    Parameters,
)
from baselines.ckks.reencryption import uniform
from baselines.ckks.scheme import Scheme
from protocols.errors import OutOfRange, Unsupported

WEIGHT_BITS = 28  # scale of the diagonals
NOISE_BITS = 12
ROW_NORM = 4.0
ANSWER_BITS = 6
SPARE_BITS = 16  # the flood is that much below a value of 1
PRIMES = 3
# In the place of a diagonal of zeros: SEAL refuses to multiply by zero, and leaving it out would show
# in the time.
NOT_ZERO = 2.0 ** (1 - WEIGHT_BITS)
Column = NDArray[np.int64]


@dataclass(frozen=True)
class Diagonals:
    """How a matrix (rows, columns) lies in ciphertexts of `slots`."""

    rows: int
    columns: int
    slots: int

    @property
    def e(self) -> int:
        """Rows of a block."""
        return min(self.slots, 1 << (self.rows - 1).bit_length())

    @property
    def d(self) -> int:
        """Columns of a block."""
        return min(self.slots, 1 << (self.columns - 1).bit_length())

    @property
    def row_blocks(self) -> int:
        """Ciphertexts of an answer."""
        return -(-self.rows // self.slots)

    @property
    def column_blocks(self) -> int:
        """Ciphertexts of an input."""
        return -(-self.columns // self.slots)

    @property
    def count(self) -> int:
        """K, the diagonals of a block."""
        groups = self.slots // max(self.d, self.e)
        return max(1, min(self.d, self.e) // groups)

    @property
    def baby(self) -> int:
        """b: with the fewest rotations."""

        def rotations(b: int) -> int:
            return self.column_blocks * (b - 1) + self.row_blocks * (self.count // b - 1)

        return min((1 << i for i in range(self.count.bit_length())), key=rotations)

    @property
    def rotations(self) -> tuple[int, ...]:
        """The steps that keys are needed for."""
        inner = {1} if self.baby > 1 else set()
        outer = {self.baby} if self.count > self.baby else set()
        folds = {self.e << i for i in range((self.slots // self.e).bit_length() - 1)}
        return tuple(sorted(inner | outer | folds))

    @cached_property
    def column(self) -> Column:
        """Which column x̂ has in each slot; −1 in groups without offsets."""
        t = np.arange(self.slots)
        group = t // max(self.d, self.e)
        used = group * self.count < min(self.d, self.e)
        return np.where(used, (t + group * self.count) % self.d, -1)

    def pack(self, x: Tensor) -> NDArray[np.float64]:
        """float64 (n, columns) → (n·column_blocks, slots)."""
        padded = np.zeros((len(x), self.column_blocks * self.d))
        padded[:, : self.columns] = x.numpy()
        return padded.reshape(-1, self.d)[:, self.column] * (self.column >= 0)

    def unpack(self, slots: NDArray[np.float64], n: int) -> Tensor:
        """(n·row_blocks, slots) → float64 (n, rows)."""
        y = slots[:, : self.e].reshape(n, -1)[:, : self.rows]
        return torch.from_numpy(np.ascontiguousarray(y))

    def diagonal(self, block: NDArray[np.float64], k: int, turned: int = 0) -> NDArray[np.float64]:
        """w_k of a padded block (e, d), rotated right by `turned`."""
        column = np.roll(self.column, -k)
        values = block[np.arange(self.slots) % self.e, column] * (column >= 0)
        return np.roll(values, turned)

    def block(self, weight: NDArray[np.float64], i: int, j: int) -> NDArray[np.float64]:
        """The padded block (e, d) of the i-th rows and j-th columns."""
        part = weight[i * self.e : (i + 1) * self.e, j * self.d : (j + 1) * self.d]
        return np.pad(part, ((0, self.e - part.shape[0]), (0, self.d - part.shape[1])))

    @property
    def encoded_count(self) -> int:
        """Encoded diagonals of all blocks."""
        return self.row_blocks * self.column_blocks * self.count

    @property
    def flood_bits(self) -> int:
        """F of the module, but for log₂N."""
        terms = self.column_blocks * self.count * self.slots // self.e
        spread = (math.log2(terms) + math.log2(self.baby)) / 2
        return math.ceil(WEIGHT_BITS + math.log2(ROW_NORM) + NOISE_BITS + spread) + STATISTICAL


def needed(diagonals: Diagonals) -> Needed:
    """P0's keys."""
    return Needed(diagonals.rotations, rerandomises=True)


def matrix_parameters(places: Diagonals, degree: int, scale_bits: int | None) -> Parameters:
    """For a matrix; scale_bits null: what leaves an error of 2^−SPARE_BITS. Raises Unsupported."""
    flood = places.flood_bits + degree.bit_length() - 1
    # In a slot the flood is √N / √3 times as large as in a coefficient.
    spread = math.log2(degree / 3) / 2
    least = math.ceil(flood + spread + SPARE_BITS - WEIGHT_BITS)
    scale = least if scale_bits is None else scale_bits
    error = 2.0 ** (flood + spread - WEIGHT_BITS - scale)
    if error > PRECISION:
        enough = least - SPARE_BITS + math.ceil(-math.log2(PRECISION))
        raise Unsupported(
            f"system.scale_bits={scale}: the noise that hides the weights leaves an error of about "
            f"{error:.1g}, above the bound of {PRECISION:g}; from {enough} on"
        )
    base = -(-(scale + WEIGHT_BITS + ANSWER_BITS + 2) // PRIMES)
    total = (PRIMES + 1) * base
    if base > PRIME_BITS or total > LIMITS[degree]:
        raise Unsupported(
            f"system.scale_bits={scale} takes {total} bits of modulus, system.degree={degree} allows "
            f"{LIMITS[degree]} for 128-bit security: a smaller scale"
        )
    return Parameters(degree, (base,) * PRIMES, scale, 0, base)


def require_rows(weight: Tensor) -> None:
    """Raise OutOfRange for a row longer than ROW_NORM."""
    longest = float(weight.double().norm(dim=1).max())
    if longest > ROW_NORM:
        raise OutOfRange(f"ckks: a row of weights has norm {longest:.4g}, above {ROW_NORM:g}")


class EncodedMatrix:
    """P0: a matrix in encoded diagonals, and what multiplies by it."""

    def __init__(
        self, scheme: Scheme, diagonals: Diagonals, weight: Tensor, bias: Tensor | None
    ) -> None:
        """weight: (rows, columns), as `require_rows` wants it."""
        self._scheme, self._places = scheme, diagonals
        whole = weight.double().numpy()
        self._blocks = [
            [self._encoded(diagonals.block(whole, i, j)) for j in range(diagonals.column_blocks)]
            for i in range(diagonals.row_blocks)
        ]
        padded = np.zeros(diagonals.row_blocks * diagonals.e)
        if bias is not None:
            padded[: len(bias)] = bias.double().numpy()
        scale = scheme.scale * 2.0**WEIGHT_BITS
        self._bias = [
            scheme.encoded(np.tile(part, diagonals.slots // diagonals.e), PRIMES, scale)
            for part in padded.reshape(diagonals.row_blocks, -1)
        ]

    def _encoded(self, block: NDArray[np.float64]) -> list[Any]:
        """w_k for k = 0, …, K − 1, each turned for its giant step."""
        b, scale = self._places.baby, 2.0**WEIGHT_BITS
        found = []
        for k in range(self._places.count):
            values = self._places.diagonal(block, k, turned=k // b * b)
            if not values.any():
                values[:] = NOT_ZERO
            found.append(self._scheme.encoded(values, PRIMES, scale))
        return found

    def product(self, x: Sequence[Any], keys: EvaluationKeys) -> list[Any]:
        """One row's ciphertexts → W·x + bias, in all slots e apart; the noise is still P0's own."""
        turned = [self._turned(part, keys) for part in x]
        return [
            self._summed(blocks, turned, keys, bias)
            for blocks, bias in zip(self._blocks, self._bias, strict=True)
        ]

    def _turned(self, x: Any, keys: EvaluationKeys) -> list[Any]:
        """rot(x, i) for i = 0, …, b − 1."""
        found = [x]
        for _ in range(self._places.baby - 1):
            found.append(self._rotated(found[-1], 1, keys))
        return found

    def _summed(
        self, blocks: list[list[Any]], turned: list[list[Any]], keys: EvaluationKeys, bias: Any
    ) -> Any:
        evaluator, places, b = self._scheme.evaluator, self._places, self._places.baby
        total: Any = None
        for j in reversed(range(places.count // b)):
            if total is not None:
                total = self._rotated(total, b, keys)
            for diagonals, parts in zip(blocks, turned, strict=True):
                for diagonal, part in zip(diagonals[j * b : (j + 1) * b], parts, strict=True):
                    product = seal.Ciphertext()
                    evaluator.multiply_plain(part, diagonal, product)
                    if total is None:
                        total = product
                    else:
                        evaluator.add_inplace(total, product)
        step = places.e
        while step < places.slots:
            evaluator.add_inplace(total, self._rotated(total, step, keys))
            step *= 2
        evaluator.add_plain_inplace(total, bias)
        return total

    def _rotated(self, x: Any, step: int, keys: EvaluationKeys) -> Any:
        out = seal.Ciphertext()
        self._scheme.evaluator.rotate_vector(x, step, keys.galois, out)
        return out


def flooded_zero(scheme: Scheme, keys: EvaluationKeys, flood_bits: int) -> Any:
    """P0: what hides one ciphertext of an answer: an encryption of zero, with the flood. flood_bits: F of
    the module, but for log₂N."""
    degree, scale, zero = (
        scheme.parameters.degree,
        scheme.scale * 2.0**WEIGHT_BITS,
        seal.Ciphertext(),
    )
    keys.encryptor.encrypt_zero(scheme.level(PRIMES), zero)
    zero.scale = scale
    drawn = uniform(flood_bits + degree.bit_length() - 1, degree)
    scheme.evaluator.add_plain_inplace(zero, scheme.polynomial(drawn, PRIMES, scale))
    return zero


def hidden(scheme: Scheme, y: Any, zero: Any) -> Any:
    """P0: a product as P1 may see it, over one prime. zero: used up."""
    scheme.evaluator.add_inplace(y, zero)
    for _ in range(PRIMES - 1):
        scheme.evaluator.rescale_to_next_inplace(y)
    return y


def reply_scale(scheme: Scheme) -> float:
    """Of what P1 decrypts."""
    return scheme.scale * 2.0**WEIGHT_BITS / math.prod(map(float, scheme.moduli[1:PRIMES]))
