"""A system on secret shares as a `System`: what all of them do alike.

Such a system names its primitives, their float64 twins and what they declare to cost.
"""

from abc import abstractmethod
from typing import Any, Generic

from torch import Tensor

from protocols.errors import Unsupported
from protocols.expected_answer import apply_nonlinear
from protocols.shares import plaintext
from protocols.shares.experiments import (
    ArgmaxProgram,
    LayerProgram,
    LinearProgram,
    NonlinearProgram,
    Program,
)
from protocols.shares.generation import GenerationProgram
from protocols.shares.primitives import Primitives, S
from protocols.system import System
from protocols.transformer.forward import EXACT, Functions, ModelForward
from protocols.workload import (
    NO_CIPHERTEXT,
    NO_HEAD,
    Argmax,
    Attention,
    Bootstrapping,
    Generation,
    Layer,
    Linear,
    Nonlinear,
    NonlinearOp,
    UserInput,
    Workload,
)


class SharesSystem(System, Generic[S]):
    """One role's primitives, and the program of its experiment over them."""

    @abstractmethod
    def primitives(self) -> Primitives[S]:
        """This role's primitives; kernels are compiled or loaded here."""

    @classmethod
    def functions(cls, options: Any) -> Functions:
        """Norm, softmax and activation in float64 as the primitives approximate them, if they do."""
        return EXACT

    @classmethod
    def plain_function(cls, op: NonlinearOp, x: Tensor, options: Any) -> Tensor:
        """`Primitives.function` in float64."""
        return apply_nonlinear(op, x)

    @classmethod
    def approximates(cls, options: Any) -> bool:
        """Unless `functions` are the exact ones."""
        return cls.functions(options) is not EXACT

    def build(self) -> None:
        """P0's weights may be folded and rounded here."""
        self._ops = self.primitives()
        self._program = program(self._ops, self.workload, self.seed, self.user)

    def prepare(self) -> None:
        """Keys, then the weights in shared form."""
        self._ops.establish()
        self._program.prepare()

    def offline(self, step: int) -> None:
        """Walk the step on shapes, where correlations are dealt ahead."""
        self._ops.begin_offline(step)
        self._program.offline(step)

    def share_input(self, step: int) -> None:
        """P1's input in shared form."""
        self._ops.begin_online()
        if self.party.role in self.online_roles(self.options):
            self._program.share_input(step)

    def online(self, step: int) -> None:
        """Walk the step on shares."""
        if self.party.role in self.online_roles(self.options):
            self._program.online(step)
            self._ops.end_online()

    def output(self) -> tuple[Tensor, ...]:
        """P1's index, tokens or hidden states; this role's part of a shared answer."""
        return self._program.output()

    @classmethod
    def plaintext(cls, workload: Workload, seed: int, options: Any) -> Tensor:
        """The answer with this system's own approximations in float64."""

        def plain(op: NonlinearOp, x: Tensor) -> Tensor:
            return cls.plain_function(op, x, options)

        return plaintext.answer(workload, seed, cls.functions(options), plain)

    @classmethod
    def plain_model(cls, workload: Generation, seed: int, options: Any) -> ModelForward:
        """The model with this system's own approximations in float64."""
        return plaintext.model(workload, seed, cls.functions(options))


def program(
    ops: Primitives[S], workload: Workload, seed: int, user: UserInput | None
) -> Program[S]:
    """The program of one role for `workload`."""
    match workload:
        case Argmax():
            return ArgmaxProgram(ops, workload, seed)
        case Nonlinear():
            return NonlinearProgram(ops, workload, seed)
        case Linear():
            return LinearProgram(ops, workload, seed)
        case Attention():
            raise Unsupported(NO_HEAD)
        case Layer():
            return LayerProgram(ops, workload, seed)
        case Generation():
            return GenerationProgram(ops, workload, seed, user)
        case Bootstrapping():
            raise Unsupported(NO_CIPHERTEXT)
