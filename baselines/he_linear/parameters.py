"""Which scales, which plaintext modulus and which packing a matrix takes.

W (m, k) counts P0's bias as a last column, and x (k,) a 1 as its last value. P1 scales a row x so that
its integers have a norm below 2^a, P0 the matrix so that every row's norm is below 2^b. Then
|W·x| < 2^(a + b) whatever the values are (Cauchy-Schwarz), and t = 2^(a + b + 1) is enough.

**Precision.** Rounding is off by 1/√12 a value. Beside a product of random directions, ‖W_i‖·‖x‖/√k, that
is a relative rms error of √(k/12·(2^-2a + 2^-2b)), which shall be 2^-precision:

    2^-2a + 2^-2b = C = 12·2^(-2·precision)/k        log2 t ≥ 2 − log2 C        (a = b)

All matrices of a workload have the t of the one that needs most. What is left of it goes to a: a smaller b
is less noise. A one-hot x is exact (a = 0), and the embedding's error that of its own rounding.

**Packing** (Iron's, for one row of x). Blocks of `width` columns, `rows` rows to a polynomial:

    x̂ = Σ_j x[j]·X^j        ŵ = Σ_(u, j) W[u, j]·X^(u·width + width − 1 − j)        rows·width ≤ N

Coefficient u·width + width − 1 of x̂·ŵ is W[u]·x, and sums over blocks of columns are sums of ciphertexts:
a row takes ⌈k/width⌉ ciphertexts there and ⌈m/rows⌉ back. The width is the one with the fewest bytes, as
long as the noise of `rows` rows can be hidden (`cipher`): log2 (√(10.5·rows)·2^b) ≤ 55 − log2 t.

Source of the packing: Hao et al., Iron (NeurIPS 2022).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

from baselines.he_linear.options import MAX_PLAIN_BITS, HeLinearOptions
from protocols.arith.ntt import MAX_TERMS
from protocols.arith.word_bytes import WORD_BYTES
from protocols.errors import Unsupported
from protocols.party import P0, P1, Role
from protocols.transformer.spec import TransformerSpec
from protocols.transformer.weights import layer_shapes
from protocols.workload import Generation, Layer, Linear, Workload

N = 4096
PRIMES = (2**48 - 73727, 2**48 - 16383)  # those of 48 bits that SEAL chooses for N
MODULUS_BITS = 96
NOISE_VARIANCE = 10.5
HIDDEN_BITS = 40  # a reply's noise is within 2^-40 of one that knows nothing of W
SEED_BYTES = 16
POLYNOMIAL_BYTES = N * WORD_BYTES  # modulo one prime
VALUES = 2 * N * 8  # bytes in memory of one polynomial modulo both primes
COPIES = 4  # of a query that is being made


@dataclass(frozen=True)
class Shape:
    """W (rows, columns), bias included; exact: of one-hots, without a bias."""

    rows: int
    columns: int
    exact: bool = False


@dataclass(frozen=True)
class Packing:
    """How one matrix travels. weight_bits, input_bits: b and a. width, rows: of a polynomial."""

    shape: Shape
    weight_bits: float
    input_bits: float
    width: int
    rows: int

    @property
    def blocks(self) -> int:
        """Ciphertexts of one row of x."""
        return -(-self.shape.columns // self.width)

    @property
    def groups(self) -> int:
        """Ciphertexts of one row of the answer."""
        return -(-self.shape.rows // self.rows)

    @property
    def query_bytes(self) -> int:
        """Of one row, without the seed: c0 over both primes."""
        return self.blocks * 2 * POLYNOMIAL_BYTES

    @property
    def reply_bytes(self) -> int:
        """Of one row: c1 over one prime, and of c0 what belongs to the answer."""
        return self.groups * POLYNOMIAL_BYTES + self.shape.rows * WORD_BYTES


@dataclass(frozen=True)
class BfvSizes:
    """What matrices take under BFV: on the wire of n rows, and at each role. plain_bits: log2 t."""

    plain_bits: int
    precision: int

    key_bytes = 2 * POLYNOMIAL_BYTES + SEED_BYTES  # P1 → P0
    kept_keys: ClassVar[dict[Role, int]] = {P0: 2 * VALUES, P1: VALUES}  # public, secret
    keys_in_passing = 0

    def packed(self, shape: Shape) -> Packing:
        """How a matrix travels."""
        return packing(shape, self.plain_bits, self.precision)

    def query_bytes(self, n: int, shape: Shape) -> int:
        """P1 → P0."""
        return n * self.packed(shape).query_bytes + SEED_BYTES

    def reply_bytes(self, n: int, shape: Shape) -> int:
        """P0 → P1."""
        return n * self.packed(shape).reply_bytes

    def encoded_bytes(self, shape: Shape) -> int:
        """P0: the encoded matrix."""
        return self.packed(shape).groups * self.packed(shape).blocks * VALUES

    def blank_bytes(self, shape: Shape) -> int:
        """P1: a row's encryptions of zero."""
        return self.packed(shape).blocks * VALUES

    def zero_bytes(self, shape: Shape) -> int:
        """P0: what hides a row of the answer."""
        return self.packed(shape).groups * VALUES

    def worked_bytes(self, n: int, shape: Shape) -> dict[Role, int]:
        """In passing, while n rows are asked and answered."""
        return {P0: 0, P1: COPIES * n * self.blank_bytes(shape)}


def affine(rows: int, columns: int) -> Shape:
    """The shape of a matrix (rows, columns) with its bias."""
    return Shape(rows, columns + 1)


def embedding_shape(spec: TransformerSpec) -> Shape:
    """The token table, for one-hots."""
    return Shape(spec.d_model, spec.vocab, exact=True)


def matrices(workload: Workload) -> Iterator[Shape]:
    """All matrices of a workload, those of one layer for all layers."""
    if isinstance(workload, Linear):
        yield affine(workload.d_out, workload.d_in)
    if isinstance(workload, Layer | Generation):
        for rows, columns in layer_shapes(workload.spec).values():
            yield affine(rows, columns)
    if isinstance(workload, Generation):
        yield embedding_shape(workload.spec)
        if workload.spec.family != "bert":
            yield affine(workload.spec.vocab, workload.spec.d_model)


def plain_bits(workload: Workload, options: HeLinearOptions) -> int:
    """log2 t: the option, or what the workload needs; 0 without a matrix. Raises Unsupported."""
    needs = [(_least_plain_bits(shape, options.precision), shape) for shape in matrices(workload)]
    if not needs:
        return 0
    least, shape = max(needs, key=lambda need: need[0])
    chosen = least if options.plain_bits is None else options.plain_bits
    if chosen < least:
        raise Unsupported(
            f"system.plain_bits={chosen} is too small: sums of {shape.columns} products with "
            f"system.precision={options.precision} need {least}"
        )
    if chosen > MAX_PLAIN_BITS:
        raise Unsupported(
            f"system.precision={options.precision} is too high: sums of {shape.columns} products "
            f"need a plaintext modulus of 2^{least}, 2^{MAX_PLAIN_BITS} is the largest"
        )
    return chosen


@lru_cache(256)
def packing(shape: Shape, plain_bits: int, precision: int) -> Packing:
    """The packing of the fewest bytes. Raises Unsupported where no packing hides its noise."""
    b = _weight_bits(shape, plain_bits, precision)
    a = 0.0 if shape.exact else plain_bits - 1 - b
    spare = MODULUS_BITS - 1 - HIDDEN_BITS - plain_bits - b - math.log2(NOISE_VARIANCE) / 2
    if spare < 0:
        raise Unsupported(
            f"the noise of {shape.columns} products with system.precision={precision} and a plaintext "
            f"modulus of 2^{plain_bits} cannot be hidden: lower one of them"
        )
    most = min(shape.rows, N, int(4.0**spare))
    widths = range(-(-shape.columns // MAX_TERMS), min(shape.columns, N) + 1)
    made = (Packing(shape, b, a, width, min(most, N // width)) for width in widths)
    return min(made, key=lambda one: one.query_bytes + one.reply_bytes)


def _error(shape: Shape, precision: int) -> float:
    """C."""
    return 12 * 4.0**-precision / shape.columns


def _least_plain_bits(shape: Shape, precision: int) -> int:
    if shape.exact:  # one entry, and a row of the position table
        return math.ceil(-math.log2(_error(shape, precision)) / 2) + 2
    return math.ceil(2 - math.log2(_error(shape, precision)))


def _weight_bits(shape: Shape, plain_bits: int, precision: int) -> float:
    """The least b: z = 2^-2b is the larger root of z + 4^-(a + b)/z = C."""
    c, product = _error(shape, precision), 0.0 if shape.exact else 4.0 ** (1 - plain_bits)
    z = (c + math.sqrt(max(0.0, c * c - 4 * product))) / 2
    return -math.log2(z) / 2
