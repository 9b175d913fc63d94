"""What every experiment's program offers."""

from abc import ABC, abstractmethod

from torch import Tensor

from protocols.party import P0, P1
from protocols.permllm.context import Context


class Program(ABC):
    """One role's part in one experiment; the methods are those of `protocols.system.System`."""

    def __init__(self, ctx: Context, seed: int) -> None:
        self.ctx = ctx
        self.seed = seed  # of the synthetic weights and inputs, not of any secret

    @property
    def owns_weights(self) -> bool:
        """Whether this role holds the model in the clear."""
        return self.ctx.role == P0

    @property
    def owns_input(self) -> bool:
        """Whether this role holds the input in the clear."""
        return self.ctx.role == P1

    def prepare(self) -> None:
        """Nothing, for an experiment without a model."""

    @abstractmethod
    def offline(self, step: int) -> None:
        """Walk the steps on masks."""

    def share_input(self, step: int) -> None:
        """Nothing, where sharing the input belongs to the experiment."""

    @abstractmethod
    def online(self, step: int) -> None:
        """Walk the steps on values."""

    @abstractmethod
    def output(self) -> tuple[Tensor, ...]:
        """This role's part of the answer."""
