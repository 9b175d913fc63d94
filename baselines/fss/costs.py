"""What each gate takes, in closed form: the tables of their docstrings.

Keys and openings are packed to the bit and filled up to a byte for each field, as `bits` does.
"""

from dataclasses import dataclass, fields

from baselines.fss import dpf
from baselines.fss.activation import CUT
from baselines.fss.bits import packed_bytes
from baselines.fss.context import FRAC
from baselines.fss.exponential import BITS, DIGIT
from baselines.fss.float_lut import EXPONENT, MANTISSA, thresholds
from baselines.fss.maximum import index_bits
from baselines.fss.norm import DEVIATION_FRAC, inverse_of
from baselines.fss.softmax import RECIPROCAL_FRAC, SCORE_BITS, SUM_FRAC, WEIGHT_FRAC, sum_bits


@dataclass(frozen=True)
class Cost:
    """Bytes. keys: to each computing party. known: of masks that P1 alone is told. sent: by each
    computing party to the other. inputs: by P1 to P0 alone. weights: by P0 to P1 alone."""

    keys: int = 0
    hops: int = 0
    sent: int = 0
    known: int = 0
    inputs: int = 0
    weights: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(Cost)))

    def __mul__(self, times: int) -> "Cost":
        return Cost(*(getattr(self, f.name) * times for f in fields(Cost)))


def shared(n: int, *widths: int) -> Cost:
    """`Context.shared`, of each width."""
    return Cost(sum(packed_bytes(n * width) for width in widths))


def point(n: int, width: int) -> Cost:
    """`Context.point`."""
    return Cost(dpf.layout(width).size(n))


def opened(n: int, *widths: int) -> Cost:
    """`Context.open`, in one message."""
    return Cost(0, 1, sum(packed_bytes(n * width) for width in widths))


def known(n: int, width: int) -> Cost:
    """`Context.known` at P1."""
    return Cost(known=packed_bytes(n * width))


def masked_input(n: int, width: int) -> Cost:
    """P1's input, masked by what it knows."""
    size = packed_bytes(n * width)
    return Cost(known=size, inputs=size, hops=1)


def drelu_share(n: int, width: int) -> Cost:
    """`drelu.drelu_share`."""
    return point(n, width - 1) + shared(n, 1)


def drelu(n: int, width: int) -> Cost:
    """`drelu.drelu`."""
    return drelu_share(n, width) + opened(n, 1)


def select(n: int, width: int) -> Cost:
    """`drelu.select`."""
    return shared(n, *[width] * 4)


def scaled(n: int, width: int) -> Cost:
    """`drelu.scaled`."""
    return shared(n, width, width)


def maximum(rows: int, n: int, bits: int) -> Cost:
    """`maximum.maximum`, of numbers of `bits` bits."""
    total = Cost()
    while n > 1:
        pairs = rows * (n // 2)
        total += drelu(pairs, bits) + select(pairs, bits) + opened(pairs, bits)
        n -= n // 2
    return total


def argmax(n: int, bits: int) -> Cost:
    """`maximum.argmax`."""
    width, left, total = index_bits(n), n, known(1, index_bits(n))
    while left > 1:
        pairs = left // 2
        moved = scaled(pairs, width) if left == n else select(pairs, width)
        total += drelu(pairs, bits) + select(pairs, bits) + moved + opened(pairs, bits, width)
        left -= pairs
    return total


def multiply(n: int, ys: int, width: int) -> Cost:
    """`multiply.multiply` of n elements with ys that broadcast."""
    return shared(n, width, width) + shared(ys, width)


def square_sum(rows: int, n: int, width: int) -> Cost:
    """`multiply.square_sum`."""
    return shared(rows * n, width) + shared(rows, width)


def matmul(x: int, z: int, width: int) -> Cost:
    """`multiply.matmul` of x elements and z of the product; the other operand's mask is shared already."""
    return shared(x, width) + shared(z, width) + opened(z, width)


def reduce(n: int, width: int, bits: int) -> Cost:
    """`truncation.reduce`, without the hop that opens its bit."""
    return point(n, bits) + shared(n, width - bits, width - bits)


def truncate(n: int, width: int, bits: int) -> Cost:
    """`truncation.truncate`."""
    return point(n, bits) + shared(n, width, width, bits) + opened(n, 1) + opened(n, width)


def look_up(n: int, bits: int, width: int) -> Cost:
    """`lut.look_up` of one table, without its hop."""
    return point(n, bits) + shared(n, bits, width, width)


def activate(n: int, width: int, bits: int) -> Cost:
    """`activation.activate`."""
    narrow = width - CUT
    first = reduce(n, width, CUT) + drelu_share(n, width) + opened(n, 1, 1) + opened(n, narrow)
    size = select(n, narrow) + opened(n, narrow)
    index = drelu(n, narrow) + select(n, bits) + opened(n, bits)
    last = look_up(n, bits, width) + opened(n, width) + select(n, width) + opened(n, width)
    return first + size + index + last


def decay(n: int, width: int, z_width: int) -> Cost:
    """`exponential.decay`."""
    index = drelu(n, z_width) + select(n, BITS) + opened(n, BITS)
    upper = reduce(n, BITS, DIGIT) + opened(n, 1) + opened(n, BITS - DIGIT)
    tables = look_up(n, DIGIT, width) * 2 + opened(n, width, width) * 2
    product = multiply(n, n, width) + opened(n, width) + truncate(n, width, FRAC)
    return index + upper + tables + product


def float_look_up(n: int, width: int) -> Cost:
    """`float_lut.float_look_up`."""
    count, top = thresholds(width), width - 2
    exponents = point(n, width - 1) + shared(n, 1, width, EXPONENT) + shared(n * count, width)
    exponents += opened(n * count, 1) + opened(n, width, EXPONENT)
    product = multiply(n, n, top) + opened(n, top)
    mantissa = reduce(n, top, top - MANTISSA) + opened(n, 1) + opened(n, MANTISSA)
    entry = look_up(n, EXPONENT + MANTISSA, width) + opened(n, width) * 2
    return exponents + product + mantissa + entry


def negative(n: int, width: int) -> Cost:
    """`functions.negative`."""
    return drelu(n, width) + scaled(n, width) + opened(n, width)


def reciprocal(n: int, width: int) -> Cost:
    """`functions.reciprocal`."""
    signed = select(n, width) + opened(n, width)
    return drelu(n, width) + signed * 2 + float_look_up(n, width)


def softmax(rows: int, n: int, width: int) -> Cost:
    """`softmax.softmax`."""
    size, bits = rows * n, sum_bits(n)
    cut = FRAC - SUM_FRAC
    inverse = reduce(rows, bits + cut, cut) + opened(rows, 1) + opened(rows, bits)
    inverse += look_up(rows, bits, width) + opened(rows, width) * 2
    product = multiply(size, rows, width) + opened(size, width)
    product += truncate(size, width, FRAC + RECIPROCAL_FRAC - WEIGHT_FRAC)
    numerator = maximum(rows, n, SCORE_BITS) + decay(size, width, SCORE_BITS)
    return numerator + inverse + product


def normalize(rows: int, n: int, width: int, rms: bool) -> Cost:
    """`norm.normalize`."""
    size, bits = rows * n, inverse_of(n)[1]
    mean = truncate(rows, width, bits) if bits and not rms else Cost()
    squares = square_sum(rows, n, width) + opened(rows, width)
    product = multiply(size, rows, width) + opened(size, width)
    product += truncate(size, width, DEVIATION_FRAC)
    return mean + squares + float_look_up(rows, width) + product
