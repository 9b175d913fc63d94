"""The cost of an experiment, from what a system's primitives declare.

C is a system's own kind of cost: a + b is a then b, a · n is n times a.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from math import prod
from typing import Any, Generic, Protocol, TypeVar, assert_never

from protocols.errors import Unsupported
from protocols.transformer.spec import TransformerSpec
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
    StepPlan,
    Workload,
    steps,
)


class Addable(Protocol):
    """What costs have in common."""

    def __add__(self, other: Any, /) -> Any: ...
    def __mul__(self, times: int, /) -> Any: ...


C = TypeVar("C", bound=Addable)


@dataclass(frozen=True)
class PhaseCosts(Generic[C]):
    """prepared: of weights. given: of the input. online: of each step."""

    prepared: C
    given: C
    online: list[C]


class DeclaredCosts(ABC, Generic[C]):
    """What a system declares, n new tokens of `length` where a layer is concerned."""

    nothing: C

    @abstractmethod
    def given(self, elements: int) -> C:
        """`Primitives.given` of an input."""

    def cached(self, spec: TransformerSpec, rows: int) -> C:
        """`Primitives.given` and `SharedCache.fill` of keys and values."""
        both: C = self.given(rows * spec.d_kv) * 2
        return both

    @abstractmethod
    def argmax(self, n: int) -> C:
        """`Primitives.argmax`."""

    @abstractmethod
    def function(self, op: NonlinearOp, shape: tuple[int, ...]) -> C:
        """`Primitives.function`."""

    @abstractmethod
    def linear(self, n: int, d_out: int, d_in: int) -> C:
        """`SharedLinear`."""

    @abstractmethod
    def layer(self, spec: TransformerSpec, n: int, length: int) -> C:
        """`TransformerLayer`."""

    @abstractmethod
    def embedding(self, spec: TransformerSpec, n: int) -> C:
        """`SharedEmbedding`."""

    @abstractmethod
    def answer(self, spec: TransformerSpec, plan: StepPlan) -> C:
        """Head and `Primitives.chosen`, or BERT's `Primitives.reveal`."""

    @abstractmethod
    def shared_linear(self, d_out: int, d_in: int) -> C:
        """`SharedLinear.prepare`."""

    @abstractmethod
    def shared_layer(self, spec: TransformerSpec) -> C:
        """`SharedLayer.prepare`."""

    @abstractmethod
    def shared_tables(self, spec: TransformerSpec) -> C:
        """`SharedEmbedding.prepare`, and that of the head."""

    def of(self, workload: Workload) -> PhaseCosts[C]:
        """One evaluation of `workload`."""
        none = self.nothing
        match workload:
            case Argmax(n):
                return PhaseCosts(none, none, [self.given(n) + self.argmax(n)])
            case Nonlinear(op, shape):
                given = self.given(prod(shape))
                return PhaseCosts(none, given, [self.function(op, shape)])
            case Linear(n, d_in, d_out):
                online = self.linear(n, d_out, d_in)
                return PhaseCosts(self.shared_linear(d_out, d_in), self.given(n * d_in), [online])
            case Attention():
                raise Unsupported(NO_HEAD)
            case Layer(spec, n, length):
                given = self.given(n * spec.d_model)
                given = given + self.cached(spec, length - n) if length > n else given
                return PhaseCosts(self.shared_layer(spec), given, [self.layer(spec, n, length)])
            case Generation():
                return PhaseCosts(self.shared_model(workload), none, self._steps(workload))
            case Bootstrapping():
                raise Unsupported(NO_CIPHERTEXT)
            case _:
                assert_never(workload)

    def shared_model(self, work: Generation) -> C:
        """The weights of a model; tied layers once."""
        layers = self.shared_layer(work.spec) * (1 if work.tie_layers else work.spec.n_layers)
        total: C = self.shared_tables(work.spec) + layers
        return total

    def _steps(self, work: Generation) -> list[C]:
        spec, length, costs = work.spec, 0, []
        for plan in steps(work):
            length += plan.tokens
            body = self.layer(spec, plan.tokens, length) * spec.n_layers
            costs.append(self.embedding(spec, plan.tokens) + body + self.answer(spec, plan))
        return costs
