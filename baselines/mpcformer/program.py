"""What every experiment's program offers."""

from abc import ABC, abstractmethod

from torch import Tensor

from baselines.mpcformer.context import Context


class Program(ABC):
    """One role's part in one experiment; the methods are those of `protocols.system.System`.

    The dealer runs `prepare` and `offline` alone.
    """

    def __init__(self, ctx: Context, seed: int) -> None:
        self.ctx = ctx
        self.seed = seed  # of the synthetic weights and inputs, not of any secret

    def prepare(self) -> None:
        """Nothing, for an experiment without a model."""

    @abstractmethod
    def offline(self, step: int) -> None:
        """Walk one step on shapes."""

    def share_input(self, step: int) -> None:
        """Nothing, where the input is shared as part of the experiment."""

    @abstractmethod
    def online(self, step: int) -> None:
        """Walk one step on shares."""

    @abstractmethod
    def output(self) -> tuple[Tensor, ...]:
        """This role's part of the answer."""
