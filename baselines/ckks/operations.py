"""What a circuit is made of, over three kinds of values: ciphertexts, levels alone, plain numbers.

A circuit (`functions`, `attention`) is written once, over `Operations`. P0 runs it on ciphertexts
(`encrypted`). `Levels` walks it without data: that says how deep it is, where it is re-encrypted and
which keys it needs, which is how parameters are chosen, costs declared, and P1 knows what comes.
`Plain` computes it on numbers, for tests of what it approximates.

Values are batches: ciphertexts that all go the same way, whose re-encryptions share a message.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from protocols.errors import Unsupported

NEGLIGIBLE = 2.0**-36  # smaller coefficients may be 0 once encoded, and SEAL multiplies by none
Slots = NDArray[np.float64]
V = TypeVar("V")


class Operations(ABC, Generic[V]):
    """Arithmetic on the slots of a batch. A product, and a product with a constant, takes one level;
    operands at different levels meet at the lower one."""

    @abstractmethod
    def add(self, x: V, y: V) -> V:
        """x + y."""

    @abstractmethod
    def multiply(self, x: V, y: V) -> V:
        """x∘y."""

    @abstractmethod
    def plus(self, x: V, constant: float | Slots) -> V:
        """x + constant, the same in all slots or one for each."""

    @abstractmethod
    def times(self, x: V, constant: float | Slots) -> V:
        """x∘constant."""

    @abstractmethod
    def negative(self, x: V) -> V:
        """−x."""

    @abstractmethod
    def rotate(self, x: V, step: int) -> V:
        """Slot t gets what slot t + step had, cyclically."""

    @abstractmethod
    def ready(self, x: V, levels: int) -> V:
        """x with at least so many levels left: re-encrypted, if it has fewer. |x| ≤ 2^VALUE_BITS."""

    def rotated_sum(self, x: V, step: int, count: int) -> V:
        """Σ of x rotated by 0, step, …, (count − 1)·step; count is a power of two."""
        done = 1
        while done < count:
            x = self.add(x, self.rotate(x, done * step))
            done *= 2
        return x

    def double(self, x: V) -> V:
        """2x, without a level."""
        return self.add(x, x)


@dataclass(frozen=True)
class Level:
    """A batch of `count` ciphertexts with so many levels left."""

    left: int
    count: int


@dataclass
class Levels(Operations[Level]):
    """A circuit's walk over levels: of a fresh ciphertext `top`.

    may_reencrypt: whether `ready` re-encrypts, or raises Unsupported. reencryptions: of each, how many
    ciphertexts. rotations: the steps. what: the circuit's name, for errors.
    """

    top: int
    what: str
    degree: int
    may_reencrypt: bool = True
    reencryptions: list[int] = field(default_factory=list)
    rotations: set[int] = field(default_factory=set)

    def fresh(self, count: int) -> Level:
        """A batch that has just been encrypted."""
        return Level(self.top, count)

    def add(self, x: Level, y: Level) -> Level:
        """See the base class."""
        return Level(min(x.left, y.left), x.count)

    def multiply(self, x: Level, y: Level) -> Level:
        """See the base class."""
        return self._spent(min(x.left, y.left), x.count)

    def plus(self, x: Level, constant: float | Slots) -> Level:
        """See the base class."""
        return x

    def times(self, x: Level, constant: float | Slots) -> Level:
        """See the base class."""
        return self._spent(x.left, x.count)

    def negative(self, x: Level) -> Level:
        """See the base class."""
        return x

    def rotate(self, x: Level, step: int) -> Level:
        """See the base class."""
        self.rotations.add(step)
        return x

    def ready(self, x: Level, levels: int) -> Level:
        """See the base class. Raises Unsupported."""
        if x.left >= levels:
            return x
        if levels > self.top:
            raise Unsupported(
                f"{self.what} needs {levels} levels at once, system.degree={self.degree} has "
                f"{self.top}: a larger system.degree, or a smaller system.scale_bits"
            )
        if not self.may_reencrypt:
            raise Unsupported(
                f"{self.what} is deeper than the {self.top} levels of system.degree={self.degree}: "
                "system.reencrypt=true, or a larger system.degree"
            )
        self.reencryptions.append(x.count)
        return self.fresh(x.count)

    def _spent(self, left: int, count: int) -> Level:
        if left < 1:
            raise Unsupported(
                f"{self.what} is deeper than the {self.top} levels of system.degree={self.degree}: "
                "a larger system.degree, or a smaller system.scale_bits"
            )
        return Level(left - 1, count)


class Plain(Operations[Slots]):
    """On float64 (count, slots)."""

    def add(self, x: Slots, y: Slots) -> Slots:
        """See the base class."""
        return x + y

    def multiply(self, x: Slots, y: Slots) -> Slots:
        """See the base class."""
        return x * y

    def plus(self, x: Slots, constant: float | Slots) -> Slots:
        """See the base class."""
        return x + constant

    def times(self, x: Slots, constant: float | Slots) -> Slots:
        """See the base class."""
        return x * constant

    def negative(self, x: Slots) -> Slots:
        """See the base class."""
        return -x

    def rotate(self, x: Slots, step: int) -> Slots:
        """See the base class."""
        return np.roll(x, -step, axis=-1)

    def ready(self, x: Slots, levels: int) -> Slots:
        """See the base class."""
        return x


def polynomial(
    ops: Operations[V], x: V, coefficients: Sequence[float], where: Slots | None = None
) -> V:
    """Σ c_i·T_i(x) for |x| ≤ 1, T the Chebyshev polynomials; 2^k coefficients, k ≥ 2. where: 1 in slots
    that are to have it, 0 in others, which get 0.

    Paterson and Stockmeyer (SIAM J. Comput. 1973) over T: sums of four terms, then by halves
    p = q·T_h + r. k + 1 levels, k + 2^(k−2) products.
    """
    size, powers = len(coefficients), {1: x}
    powers[2] = chebyshev_doubled(ops, x)
    powers[3] = ops.add(ops.double(ops.multiply(powers[2], x)), ops.negative(x))  # 2·T₂T₁ − T₁
    for half in (1 << i for i in range(2, size.bit_length() - 1)):
        powers[half] = chebyshev_doubled(ops, powers[half // 2])
    return _halves(ops, powers, np.asarray(coefficients, np.float64), where)


def polynomial_levels(size: int) -> int:
    """Levels that `polynomial` takes."""
    return size.bit_length()


def chebyshev_doubled(ops: Operations[V], x: V) -> V:
    """2x² − 1, which is T_2i of x = T_i."""
    return ops.plus(ops.double(ops.multiply(x, x)), -1.0)


def _halves(ops: Operations[V], powers: dict[int, V], c: Slots, where: Slots | None) -> V:
    if len(c) == 4:
        first = c[1] if abs(c[1]) >= NEGLIGIBLE else NEGLIGIBLE
        total = ops.times(powers[1], _placed(first, where))
        for i in (2, 3):
            if abs(c[i]) >= NEGLIGIBLE:
                total = ops.add(total, ops.times(powers[i], _placed(c[i], where)))
        return ops.plus(total, _placed(c[0], where))
    half = len(c) // 2
    # c_(h+i)·T_(h+i) = c_(h+i)·(2·T_h·T_i − T_(h−i))
    quotient = 2 * c[half:]
    quotient[0] /= 2
    rest = c[:half].copy()
    rest[1:] -= c[:half:-1]
    high = ops.multiply(_halves(ops, powers, quotient, where), powers[half])
    return ops.add(high, _halves(ops, powers, rest, where))


def _placed(constant: float, where: Slots | None) -> float | Slots:
    return float(constant) if where is None else constant * where
