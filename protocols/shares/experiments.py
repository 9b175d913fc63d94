"""What a system on secret shares runs for each experiment but whole models (`generation`)."""

from abc import ABC, abstractmethod
from functools import partial
from typing import Generic

import torch
from torch import Tensor

from protocols.inputs import argmax_input, layer_input, linear_input, nonlinear_input
from protocols.shares.primitives import Primitives, S
from protocols.shares.transformer_layer import NewTokens, TransformerLayer
from protocols.transformer.rotary import rotary_tables
from protocols.transformer.weights import synthetic_layer, synthetic_linear
from protocols.workload import Argmax, Layer, Linear, Nonlinear


class Program(ABC, Generic[S]):
    """One role's part in one experiment; the methods are those of `protocols.system.System`."""

    def __init__(self, ops: Primitives[S], seed: int) -> None:
        self.ops = ops
        self.seed = seed  # of the synthetic weights and inputs, not of any secret

    def prepare(self) -> None:
        """Nothing, for an experiment without a model."""

    @abstractmethod
    def offline(self, step: int) -> None:
        """Walk one step on shapes, where the system deals ahead."""

    def share_input(self, step: int) -> None:
        """Nothing, where the input is shared as part of the experiment."""

    @abstractmethod
    def online(self, step: int) -> None:
        """Walk one step on shares."""

    @abstractmethod
    def output(self) -> tuple[Tensor, ...]:
        """This role's part of the answer."""

    @property
    def makes_input(self) -> bool:
        """Whether this role passes the input: P1, but in the offline pass."""
        return self.ops.owns_input and not self.ops.without_data


class ArgmaxProgram(Program[S]):
    """Share, tournament, index at P1."""

    def __init__(self, ops: Primitives[S], workload: Argmax, seed: int) -> None:
        super().__init__(ops, seed)
        self._n = workload.n
        self._index: Tensor | None = None
        self._values = argmax_input(self._n, seed) if ops.owns_input else None

    def offline(self, step: int) -> None:
        """See the base class."""
        if self.ops.deals:
            self._walk()

    def online(self, step: int) -> None:
        """See the base class."""
        self._index = self._walk()

    def output(self) -> tuple[Tensor, ...]:
        """The index at P1."""
        return () if self._index is None else (self._index,)

    def _walk(self) -> Tensor | None:
        with self.ops.step("input"):
            x = self.ops.given(self._values if self.makes_input else None, (self._n,))
        return self.ops.argmax(x)


class SharedAnswer(Program[S]):
    """An experiment from a shared tensor to a shared tensor."""

    def __init__(self, ops: Primitives[S], seed: int) -> None:
        super().__init__(ops, seed)
        self._x: S | None = None
        self._y: S | None = None

    @abstractmethod
    def share(self) -> S:
        """The input in shared form."""

    @abstractmethod
    def compute(self, x: S) -> S:
        """The experiment."""

    def offline(self, step: int) -> None:
        """See the base class."""
        if self.ops.deals:
            self._y = self.compute(self.share())

    def share_input(self, step: int) -> None:
        """See `share`."""
        self._x = self.share()

    def online(self, step: int) -> None:
        """See the base class."""
        if self._x is None:
            raise RuntimeError("share_input comes before online")
        self._y = self.compute(self._x)

    def output(self) -> tuple[Tensor, ...]:
        """This role's part of the answer."""
        return () if self._y is None else self.ops.part(self._y)


class NonlinearProgram(SharedAnswer[S]):
    """One function."""

    def __init__(self, ops: Primitives[S], workload: Nonlinear, seed: int) -> None:
        super().__init__(ops, seed)
        self._work = workload

    def share(self) -> S:
        """See the base class."""
        op, shape = self._work.op, self._work.shape
        own = nonlinear_input(op, shape, self.seed) if self.makes_input else None
        return self.ops.given(own, shape)

    def compute(self, x: S) -> S:
        """See the base class."""
        with self.ops.step(self._work.op):
            return self.ops.function(self._work.op, x)


class LinearProgram(SharedAnswer[S]):
    """One secret matrix."""

    def __init__(self, ops: Primitives[S], workload: Linear, seed: int) -> None:
        super().__init__(ops, seed)
        shape = (workload.d_out, workload.d_in)
        load = partial(synthetic_linear, *shape, seed) if ops.owns_weights else None
        self._work, self._linear = workload, ops.linear("linear", shape, load)

    def prepare(self) -> None:
        """Weights in shared form."""
        self._linear.prepare()

    def share(self) -> S:
        """See the base class."""
        n, d_in = self._work.n, self._work.d_in
        own = linear_input(n, d_in, self.seed) if self.makes_input else None
        return self.ops.given(own, (n, d_in))

    def compute(self, x: S) -> S:
        """See the base class."""
        with self.ops.step("linear"):
            return self._linear(x)


class LayerProgram(SharedAnswer[S]):
    """One transformer layer on P1's input and cached rows."""

    def __init__(self, ops: Primitives[S], workload: Layer, seed: int) -> None:
        super().__init__(ops, seed)
        spec, past = workload.spec, workload.kv_len - workload.q_len
        load = partial(synthetic_layer, spec, seed) if ops.owns_weights else None
        self._work, self._weights = workload, ops.layer("layer", spec, load)
        self._layer = TransformerLayer(ops, spec, self._weights)
        places = torch.arange(past, workload.kv_len)
        self._tokens = NewTokens(rotary_tables(spec, places) if spec.rotary else None)

    def prepare(self) -> None:
        """Weights in shared form."""
        self._weights.prepare()

    def offline(self, step: int) -> None:
        """A fresh cache."""
        self._layer.cache.clear()
        super().offline(step)

    def share(self) -> S:
        """The new tokens' input, and the cached rows."""
        work, spec = self._work, self._work.spec
        x = k = v = None
        if self.makes_input:
            given = layer_input(spec, work.q_len, work.kv_len, self.seed)
            x, k, v = given.x, given.past_k, given.past_v
        shared = self.ops.given(x, (work.q_len, spec.d_model))
        if past := work.kv_len - work.q_len:
            rows = (spec.kv_heads, past, spec.d_head)
            self._layer.cache.fill(self.ops.given(k, rows), self.ops.given(v, rows))
        return shared

    def compute(self, x: S) -> S:
        """See the base class."""
        with self.ops.step("layer"):
            return self._layer(x, self._tokens)
