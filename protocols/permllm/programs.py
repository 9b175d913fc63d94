"""What PermLLM runs for each experiment: the protocol steps put together."""

from abc import abstractmethod
from math import prod
from typing import assert_never

import torch
from torch import Tensor

from protocols.errors import Unsupported
from protocols.expected_answer import apply_nonlinear
from protocols.inputs import argmax_input, layer_input, linear_input, nonlinear_input
from protocols.party import P0, P1
from protocols.permllm.context import Context, agree_exponents
from protocols.permllm.domain import LINEAR_FRAC, WINDOW_FRAC
from protocols.permllm.fused_layer import transformer_layer
from protocols.permllm.generation import GenerationProgram
from protocols.permllm.input_sharing import CachedRows, Input, NarrowInput
from protocols.permllm.layer import LayerLinears, Tokens
from protocols.permllm.linear import Linear
from protocols.permllm.masked_value import Masked
from protocols.permllm.options import Lookups, PermLLMOptions
from protocols.permllm.permuted_functions import Permuted
from protocols.permllm.program import Program
from protocols.permllm.token_selection import Selection
from protocols.token_sampling import Picker
from protocols.transformer.rotary import rotary_tables
from protocols.transformer.weights import synthetic_layer, synthetic_linear
from protocols.workload import (
    NO_CIPHERTEXT,
    NO_HEAD,
    ROW_OPS,
    Argmax,
    Attention,
    Bootstrapping,
    Generation,
    Layer,
    Nonlinear,
    NonlinearOp,
    Sampling,
    UserInput,
    Workload,
)
from protocols.workload import Linear as LinearWork

OUTPUT_FRAC: dict[NonlinearOp, int] = {"softmax": 24}  # of small values
DEFAULT_FRAC = 16


class ArgmaxProgram(Program):
    """Share → permute → reveal to P1 → select → look up → index at P1: 4 hops."""

    def __init__(self, ctx: Context, workload: Argmax, seed: int, lookup: Lookups) -> None:
        super().__init__(ctx, seed)
        self._input = NarrowInput(ctx, "input", (workload.n,), WINDOW_FRAC)
        self._selection = Selection(ctx, "select", workload.n, lookup)
        self._values = argmax_input(workload.n, seed) if self.owns_input else None
        self._index: int | None = None

    def prepare(self) -> None:
        """Keys of the lookup."""
        self._selection.prepare()

    def offline(self, step: int) -> None:
        """Deal the mask of the input and the permutation."""
        self._selection.offline(self._input.offline())

    def online(self, step: int) -> None:
        """Four hops: x − λ, π(x), query, index."""
        self._index = self._selection.online(self._input.online(self._values), Picker(Sampling()))

    def output(self) -> tuple[Tensor, ...]:
        """The index at P1."""
        return () if self._index is None else (torch.tensor(self._index),)


class SharedOutput(Program):
    """An experiment whose answer stays shared: λ at P1 after the offline pass, Δ at P0 online."""

    def __init__(self, ctx: Context, seed: int, input_step: Input) -> None:
        super().__init__(ctx, seed)
        self._input = input_step
        self._x: Masked | None = None
        self._half: Tensor | None = None

    @abstractmethod
    def _compute(self, x: Masked) -> Masked:
        """The steps, in either pass."""

    def offline(self, step: int) -> None:
        """Walk the steps on masks, from the mask of the input."""
        self._half = self._compute(self._input.offline()).half

    def online(self, step: int) -> None:
        """Walk the steps on values."""
        if self._x is None:
            raise RuntimeError("share_input comes before online")
        half = self._compute(self._x).half
        if self.ctx.role == P0:
            self._half = half

    def output(self) -> tuple[Tensor, ...]:
        """This role's half of the answer; the dealer has no part in it."""
        return (self._half,) if self._half is not None and self.ctx.role in (P0, P1) else ()


class NonlinearProgram(SharedOutput):
    """One permuted function: 2 hops."""

    def __init__(self, ctx: Context, workload: Nonlinear, seed: int) -> None:
        super().__init__(ctx, seed, Input(ctx, "input", workload.shape, LINEAR_FRAC))
        self._workload = workload
        self._step = Permuted(ctx, workload.op, self._function)

    def _function(self, x: Tensor) -> Tensor:
        return apply_nonlinear(self._workload.op, x)

    def _compute(self, x: Masked) -> Masked:
        op, shape = self._workload.op, self._workload.shape
        rows = prod(shape[:-1]) if op in ROW_OPS else 1
        return self._step([x], OUTPUT_FRAC.get(op, DEFAULT_FRAC), rows)

    def share_input(self, step: int) -> None:
        """x − λ to P0."""
        work, own = self._workload, None
        if self.owns_input:
            own = nonlinear_input(work.op, work.shape, self.seed)
        self._x = self._input.online(own)


class LinearProgram(SharedOutput):
    """One linear layer: no message online."""

    def __init__(
        self, ctx: Context, workload: LinearWork, seed: int, options: PermLLMOptions
    ) -> None:
        shape = (workload.d_out, workload.d_in)
        super().__init__(ctx, seed, Input(ctx, "input", (workload.n, workload.d_in), LINEAR_FRAC))
        fixed = None
        if self.owns_weights:
            plain = synthetic_linear(*shape, seed)
            fixed = ctx.domain.quantize(plain.weight, plain.bias, options.weight_bits)
        self._linear = Linear(ctx, "linear", shape, fixed)
        self._workload = workload

    def prepare(self) -> None:
        """Masked weights to P1."""
        own = [self._linear.frac] if self.owns_weights else None
        (self._linear.frac,) = agree_exponents(self.ctx, own, 1)
        self._linear.prepare()

    def share_input(self, step: int) -> None:
        """x − λ to P0."""
        work = self._workload
        own = linear_input(work.n, work.d_in, self.seed) if self.owns_input else None
        self._x = self._input.online(own)

    def _compute(self, x: Masked) -> Masked:
        return self._linear(self.ctx.truncate(x, x.frac - self._linear.in_frac))


class LayerProgram(SharedOutput):
    """One transformer layer."""

    def __init__(self, ctx: Context, workload: Layer, seed: int, options: PermLLMOptions) -> None:
        spec, past = workload.spec, workload.kv_len - workload.q_len
        shape = (workload.q_len, spec.d_model)
        super().__init__(ctx, seed, Input(ctx, "input", shape, LINEAR_FRAC))
        weights = synthetic_layer(spec, seed) if self.owns_weights else None
        linears = LayerLinears(ctx, "layer", spec, weights, options.weight_bits)
        self._layer = transformer_layer(ctx, "layer", spec, linears, options)
        self._rows = CachedRows(ctx, "past", self._layer.cache, past)
        positions = torch.arange(past, workload.kv_len)
        self._tokens = Tokens(rotary_tables(spec, positions) if spec.rotary else None)
        self._workload = workload

    def prepare(self) -> None:
        """Masked weights to P1."""
        self._layer.prepare()

    def offline(self, step: int) -> None:
        """Masks of the cached rows, then the layer."""
        self._rows.offline()
        super().offline(step)

    def share_input(self, step: int) -> None:
        """The cached rows and x − λ to P0."""
        work = self._workload
        if not self.owns_input:
            self._x = self._input.online(None)
            self._rows.share(None, None)
            return
        given = layer_input(work.spec, work.q_len, work.kv_len, self.seed)
        self._x = self._input.online(given.x)
        self._rows.share(given.past_k, given.past_v)

    def _compute(self, x: Masked) -> Masked:
        with self.ctx.party.step("layer"):
            return self._layer(x, self._tokens)


def program(
    workload: Workload,
    ctx: Context,
    seed: int,
    options: PermLLMOptions,
    user: UserInput | None,
) -> Program:
    """The program of one role for `workload`."""
    match workload:
        case Argmax():
            return ArgmaxProgram(ctx, workload, seed, options.selection)
        case Nonlinear():
            return NonlinearProgram(ctx, workload, seed)
        case LinearWork():
            return LinearProgram(ctx, workload, seed, options)
        case Attention():
            raise Unsupported(NO_HEAD)
        case Layer():
            return LayerProgram(ctx, workload, seed, options)
        case Generation():
            return GenerationProgram(ctx, workload, seed, options, user)
        case Bootstrapping():
            raise Unsupported(NO_CIPHERTEXT)
        case _:
            assert_never(workload)


def answer_frac(workload: Nonlinear | LinearWork | Attention | Layer) -> int:
    """Scale of the shared answer."""
    if isinstance(workload, Nonlinear):
        return OUTPUT_FRAC.get(workload.op, DEFAULT_FRAC)
    return LINEAR_FRAC
