"""The communication of each primitive in closed form: the tables of their docstrings.

Bits a party and element follow from `words`: 64 each.
"""

from dataclasses import dataclass

from baselines.additive.a2b import ADDER_TRIPLES, LEVELS
from baselines.additive.euler_softmax import STEPS as EULER_STEPS
from baselines.additive.exponential import SQUARINGS
from baselines.additive.norm import mean_is_truncated
from baselines.additive.options import Approx, Settings
from baselines.additive.reciprocal import ITERATIONS as RECIPROCAL_STEPS
from baselines.additive.sigmoid import SHARED_STEPS
from protocols.shares.approximations import EXP_SQUARINGS


@dataclass(frozen=True)
class Cost:
    """words: of 8 bytes that each computing party sends the other. dealt: words from P2 to P1.
    revealed: words that P0 alone sends P1."""

    words: int = 0
    hops: int = 0
    dealt: int = 0
    revealed: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(
            self.words + other.words,
            self.hops + other.hops,
            self.dealt + other.dealt,
            self.revealed + other.revealed,
        )

    def __mul__(self, times: int) -> "Cost":
        return Cost(
            self.words * times, self.hops * times, self.dealt * times, self.revealed * times
        )


def reveal(n: int) -> Cost:
    """`maximum.reveal_to_user`."""
    return Cost(0, 1, 0, n)


def product(x: int, y: int, z: int) -> Cost:
    """`beaver.multiply`, and matrices of such sizes."""
    return Cost(x + y, 1, z)


def wide_product(x: int, y: int, z: int) -> Cost:
    """`product_truncation.product`."""
    return Cost(x + y, 1, 2 * (x + y + z))


def wide_square(n: int) -> Cost:
    """`product_truncation.quadratic` and `product_truncation.square_sum`."""
    return Cost(n, 1, 4 * n)


def truncation(settings: Settings, n: int) -> Cost:
    """`truncate`."""
    return Cost(n, 1, 2 * n) if settings.exact_truncation else Cost()


def add_bits(n: int) -> Cost:
    """`a2b.add_bits`: A2B."""
    return Cost(2 * ADDER_TRIPLES * n, 1 + len(LEVELS), ADDER_TRIPLES * n)


def to_arithmetic(n: int) -> Cost:
    """`a2b.to_arithmetic`: B2A."""
    return Cost(n, 1, n)


def is_zero(n: int) -> Cost:
    """`compare.is_zero`."""
    return Cost(2 * len(LEVELS) * n, len(LEVELS), len(LEVELS) * n) + to_arithmetic(n)


def less_than_zero(n: int) -> Cost:
    """`compare.less_than_zero`."""
    return add_bits(n) + to_arithmetic(n)


def relu(n: int) -> Cost:
    """`compare.relu`."""
    return less_than_zero(n) + product(n, n, n)


def maximum(rows: int, n: int) -> Cost:
    """`maximum.maximum`."""
    total = Cost()
    while n > 1:
        total += relu(rows * (n // 2))
        n -= n // 2
    return total


def argmax(n: int) -> Cost:
    """`maximum.argmax`: every level after the first moves an index as well."""
    total, first = maximum(1, n), n // 2
    while (n := n - n // 2) > 1:
        total += Cost(n // 2, 0, n // 2)
    return total if first else Cost()


def exponential(n: int) -> Cost:
    """`exponential`."""
    return wide_square(n) * SQUARINGS


def newton(n: int, steps: int) -> Cost:
    """`reciprocal.newton`."""
    return (wide_square(n) + wide_product(n, n, n)) * steps


def positive_reciprocal(n: int) -> Cost:
    """`reciprocal.positive_reciprocal`."""
    return exponential(n) + newton(n, RECIPROCAL_STEPS)


def reciprocal(settings: Settings, n: int) -> Cost:
    """`reciprocal.reciprocal`."""
    signs = less_than_zero(n) + product(n, n, n) * 2
    return signs + positive_reciprocal(n) + truncation(settings, n)


def rsqrt(n: int, steps: int = 3) -> Cost:
    """`rsqrt`."""
    return exponential(n) + (wide_square(n) + wide_product(n, n, n) * 2) * steps


def wide_sigmoid(n: int) -> Cost:
    """`sigmoid.wide_sigmoid`."""
    magnitude = less_than_zero(n) + product(n, n, n)
    selected = product(2 * n, 2 * n, 2 * n)
    return magnitude + exponential(n) + newton(n, SHARED_STEPS) + selected


def gelu(n: int) -> Cost:
    """`sigmoid.gelu`."""
    return wide_square(n) + wide_product(n, n, n) * 2 + wide_sigmoid(n)


def silu(n: int) -> Cost:
    """`sigmoid.silu`."""
    return wide_sigmoid(n) + wide_product(n, n, n)


def softmax(approx: Approx, rows: int, n: int) -> Cost:
    """`softmax`."""
    size = rows * n
    numerators = {
        "quad+2quad": wide_square(size),
        "quad+2relu": relu(size),
        "friendly": relu(size),
        "exact": maximum(rows, n) + exponential(size),
    }
    return numerators[approx] + positive_reciprocal(rows) + wide_product(size, rows, size)


def normalize(settings: Settings, rows: int, n: int, rms: bool) -> Cost:
    """`norm.normalize`."""
    mean = truncation(settings, rows) if mean_is_truncated(n) and not rms else Cost()
    size = rows * n
    inverse = rsqrt(rows, settings.rsqrt_steps)
    return mean + wide_square(size) + inverse + wide_product(size, rows, size)


def centre(settings: Settings, rows: int, n: int, rms: bool) -> Cost:
    """`norm.centre`."""
    return Cost() if rms or n == 1 else truncation(settings, rows)


def fourier(n: int, terms: int) -> Cost:
    """`fourier_gelu.fourier`."""
    sines = Cost(n, 1, 2 * terms * n)
    return relu(n) + less_than_zero(n) + sines + wide_product(n, n, n)


def euler_softmax(rows: int, n: int) -> Cost:
    """`euler_softmax`."""
    size = rows * n
    return relu(2 * size) + wide_product(size, size, size) * (2 * EULER_STEPS)


def piecewise(settings: Settings, n: int, bounds: int) -> Cost:
    """`piecewise.piecewise`."""
    powers = wide_square(n) + wide_product(2 * n, 2 * n, 2 * n) + wide_product(n, n, n)
    selected = product(bounds * n, bounds * n, bounds * n)
    return powers + less_than_zero(bounds * n) + selected + truncation(settings, n)


def clipped_softmax(rows: int, n: int) -> Cost:
    """`piecewise.clipped_softmax`."""
    size = rows * n
    clip = less_than_zero(size) + wide_square(size) * EXP_SQUARINGS + product(size, size, size)
    largest = maximum(rows, n)
    return largest + clip + positive_reciprocal(rows) + wide_product(size, rows, size)
