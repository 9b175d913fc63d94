"""A matrix of P0's and a vector of P1's, whatever the scheme: what is prepared, made ahead, and asked.

| phase | from | to | what | payload | hop |
|---|---|---|---|---|---|
| prepare | P0 | P1 | the scale of W | 8 | 1 |

The scale tells P1 the longest row of W. Online messages: `linear` (BFV), `ckks_linear` (CKKS).
"""

from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from baselines.he_linear.context import Context
from baselines.he_linear.parameters import Shape
from protocols.errors import OutOfRange, PeerError
from protocols.party import P0, P1
from protocols.shares.primitives import SharedLinear
from protocols.transformer.weights import Linear


class SecretMatrix(SharedLinear[Tensor]):
    """One matrix of P0's, whatever the scheme. own: makes it, at P0 alone. kept: P0 keeps its numbers, for
    `in_order`, in the place of what it multiplies by."""

    def __init__(
        self,
        ctx: Context,
        name: str,
        shape: Shape,
        own: Callable[[], Linear] | None = None,
        kept: bool = False,
    ) -> None:
        self._ctx, self._name, self._shape, self._own, self._kept = ctx, name, shape, own, kept
        self._scale = 1.0
        self._numbers = torch.empty(0)  # P0 (rows, columns), where they are kept
        self._weights: Any = None  # P0, encoded, where they are not
        self._blanks: deque[Any] = deque()  # P1, one a step
        self._zeros: deque[list[tuple[Any, Any]]] = deque()  # P0, with the weights of each row

    def prepare(self) -> None:
        """See `take`."""
        self.take(None if self._own is None else self._own())

    def take(self, own: Linear | None) -> None:
        """Phase prepare: P0 rounds and encodes its weights."""
        ctx = self._ctx
        if ctx.party.role == P1:
            (scale,) = ctx.receive(self._name, P0, (torch.float64, ()))
            self._scale = float(scale)
            if self._scale <= 0:
                raise PeerError(f"{self._name}: {P0} sent a scale that is not positive")
        if own is not None:
            numbers, self._scale = self._scaled(_with_bias(own, self._shape))
            if self._kept:
                self._numbers = numbers
            else:
                self._weights = self._encoded(numbers)
            ctx.party.send(P1, torch.tensor(self._scale, dtype=torch.float64))

    def in_order(self, rows: Tensor | None, columns: Tensor | None) -> Any:
        """P0: W encoded with its rows, or its columns but the bias, in another order."""
        numbers = self._numbers
        if rows is not None:
            numbers = numbers[rows]
        if columns is not None:
            numbers = torch.cat([numbers[:, columns], numbers[:, -1:]], dim=1)
        return self._encoded(numbers)

    def make_ready(self, count: int, weights: Sequence[Any] = ()) -> None:
        """Offline: what `count` rows need. weights: encoded, for each of them, where they are not W's."""
        if self._ctx.party.role == P1:
            self._blanks.append(self._blank(count))
        if self._ctx.party.role == P0:
            zeros = [self._zero() for _ in range(count)]
            self._zeros.append(list(zip(zeros, weights or [self._weights] * count, strict=True)))

    def __call__(self, x: Tensor, added: Tensor | None = None) -> Tensor:
        """added: P0's numbers (n, rows), on top of one-hots' answers."""
        n, role = x.shape[0], self._ctx.party.role
        if self._ctx.offline_pass:
            if not self._kept:
                self.make_ready(n)
        elif role == P1:
            return self._asked(x)
        elif role == P0:
            self._answer(n, None if added is None else added * self._scale)
        return torch.empty(n, self._shape.rows, device="meta")

    @abstractmethod
    def _scaled(self, weight: Tensor) -> tuple[Tensor, float]:
        """P0: W with its bias, float32 (rows, columns) → as it is encoded, and its scale."""

    @abstractmethod
    def _encoded(self, numbers: Tensor) -> Any:
        """P0: what it multiplies by."""

    @abstractmethod
    def _blank(self, count: int) -> Any:
        """P1, offline: of `count` rows."""

    @abstractmethod
    def _zero(self) -> Any:
        """P0, offline: what hides one row of an answer."""

    @abstractmethod
    def _asked(self, x: Tensor) -> Tensor:
        """P1: both messages."""

    @abstractmethod
    def _answer(self, n: int, added: Tensor | None) -> None:
        """P0: both messages. added: at W's scale."""

    def _checked(self, x: Tensor) -> Tensor:
        """P1: x (n, k), with the 1 that the bias is multiplied by. Raises OutOfRange."""
        if not bool(x.isfinite().all()):
            raise OutOfRange(f"{self._name}: an input is not a finite number")
        if self._shape.exact:
            return x
        return torch.cat([x, torch.ones(len(x), 1, dtype=torch.float64)], dim=1)

    def _limited(self, added: Tensor, most: float) -> Tensor:
        """P0: what it adds, all below `most`. Raises OutOfRange."""
        largest = float(added.abs().max())
        if largest >= most:
            raise OutOfRange(
                f"{self._name}: a position of {largest / self._scale:.2g}, "
                f"the table's scale takes less than {most / self._scale:.2g}"
            )
        return added


def _with_bias(own: Linear, shape: Shape) -> Tensor:
    """W with the bias as its last column, but for one-hots."""
    if shape.exact:
        return own.weight
    bias = torch.zeros(shape.rows) if own.bias is None else own.bias
    return torch.cat([own.weight, bias[:, None]], dim=1)
