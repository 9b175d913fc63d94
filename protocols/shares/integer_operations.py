"""What layers and tables of integer weights need of a system whose products are to be truncated."""

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from typing import ClassVar, Protocol

from torch import Tensor

from protocols.shares.fixed_weight import FixedWeight
from protocols.shares.primitives import Tables, Tokens
from protocols.transformer.spec import TransformerSpec


class SecretMatrix(Protocol):
    """P0's W in shared form."""

    def prepare(self) -> None:
        """Phase prepare."""

    def __call__(self, x: Tensor, added: Tensor | None = None) -> Tensor:
        """x·Wᵀ + b, not truncated. added: integers that P0 adds."""


class IntegerOperations(ABC):
    """Shares are int64 tensors, with `frac` fractional bits between steps."""

    frac: ClassVar[int]

    @abstractmethod
    def matrix(self, name: str, shape: tuple[int, int], own: FixedWeight | None) -> SecretMatrix:
        """W of `shape` (m, k)."""

    @abstractmethod
    def diagonal(self, name: str, width: int, own: FixedWeight | None) -> SecretMatrix:
        """The same of `width` gains."""

    @abstractmethod
    def truncated(self, x: Tensor, bits: int) -> Tensor:
        """x without its last bits."""

    @abstractmethod
    def normed(self, spec: TransformerSpec, x: Tensor) -> Tensor:
        """The rows of x, normed, without gain and bias."""

    @abstractmethod
    def rotated(self, spec: TransformerSpec, x: Tensor, tables: Tables) -> Tensor:
        """x (heads, n, d_head) turned by its positions."""

    @abstractmethod
    def onehots(self, spec: TransformerSpec, tokens: Tokens, count: int) -> Tensor:
        """The one-hot rows (count, vocab), integers, of tokens that P1 passes."""

    @abstractmethod
    def step(self, name: str) -> AbstractContextManager[None]:
        """What is done inside is called so."""
