"""What MPCFormer runs for each experiment."""

from typing import assert_never

import torch
from torch import Tensor

from baselines.mpcformer.context import FRAC, Context
from baselines.mpcformer.encoding import encode
from baselines.mpcformer.fixed_weight import fixed
from baselines.mpcformer.functions import function
from baselines.mpcformer.generation import GenerationProgram
from baselines.mpcformer.layer import LayerMatrices, Tokens, TransformerLayer
from baselines.mpcformer.linear import Matrix
from baselines.mpcformer.maximum import argmax, reveal_to_user
from baselines.mpcformer.options import Settings
from baselines.mpcformer.program import Program
from baselines.mpcformer.truncate import truncate
from protocols.inputs import argmax_input, layer_input, linear_input, nonlinear_input
from protocols.party import P0, P1
from protocols.transformer.rotary import rotary_tables
from protocols.transformer.weights import synthetic_layer, synthetic_linear
from protocols.workload import Argmax, Generation, Layer, Linear, Nonlinear, UserInput, Workload


def shared(ctx: Context, own: Tensor | None, shape: tuple[int, ...]) -> Tensor:
    """The share of a tensor that P1 holds in the clear, float64 of `shape`: (0, x)."""
    if ctx.offline_pass:
        return torch.empty(shape, dtype=torch.int64, device="meta")
    return torch.zeros(shape, dtype=torch.int64) if own is None else encode(own)


class ArgmaxProgram(Program):
    """A tournament on P1's values, then the index to P1."""

    def __init__(self, ctx: Context, workload: Argmax, seed: int) -> None:
        super().__init__(ctx, seed)
        self._n = workload.n
        self._values = argmax_input(workload.n, seed) if ctx.role == P1 else None
        self._answer: tuple[Tensor, ...] = ()

    def offline(self, step: int) -> None:
        """See the base class."""
        self._compute()

    def online(self, step: int) -> None:
        """See the base class."""
        index = self._compute()
        self._answer = () if index is None else (index,)

    def _compute(self) -> Tensor | None:
        return reveal_to_user(
            self.ctx, argmax(self.ctx, shared(self.ctx, self._values, (self._n,)))
        )

    def output(self) -> tuple[Tensor, ...]:
        """The index at P1."""
        return self._answer


class NonlinearProgram(Program):
    """One function of a shared tensor; the answer stays shared."""

    def __init__(self, ctx: Context, workload: Nonlinear, seed: int) -> None:
        super().__init__(ctx, seed)
        self._work = workload
        self._protocol = function(workload.op, ctx.settings.approx).protocol
        self._share = self._answer = torch.empty(0, dtype=torch.int64)

    def offline(self, step: int) -> None:
        """See the base class."""
        self._protocol(self.ctx, shared(self.ctx, None, self._work.shape))

    def share_input(self, step: int) -> None:
        """(0, x): nothing travels."""
        own = nonlinear_input(self._work.op, self._work.shape, self.seed)
        self._share = shared(self.ctx, own if self.ctx.role == P1 else None, self._work.shape)

    def online(self, step: int) -> None:
        """See the base class."""
        self._answer = self._protocol(self.ctx, self._share)

    def output(self) -> tuple[Tensor, ...]:
        """This role's share."""
        return (self._answer,) if self.ctx.role in (P0, P1) else ()


class LinearProgram(Program):
    """One secret matrix; the answer stays shared."""

    def __init__(self, ctx: Context, workload: Linear, seed: int) -> None:
        super().__init__(ctx, seed)
        shape = (workload.d_out, workload.d_in)
        own = fixed(synthetic_linear(*shape, seed)) if ctx.role == P0 else None
        self._work, self._matrix = workload, Matrix(ctx, "linear", shape, own)
        self._share = self._answer = torch.empty(0, dtype=torch.int64)

    def prepare(self) -> None:
        """Open what is opened once."""
        self._matrix.prepare()

    def offline(self, step: int) -> None:
        """See the base class."""
        self._take_input(None)
        self._compute()

    def share_input(self, step: int) -> None:
        """(0, x): nothing travels."""
        own = linear_input(self._work.n, self._work.d_in, self.seed)
        self._take_input(own if self.ctx.role == P1 else None)

    def online(self, step: int) -> None:
        """See the base class."""
        self._answer = self._compute()

    def output(self) -> tuple[Tensor, ...]:
        """This role's share."""
        return (self._answer,) if self.ctx.role in (P0, P1) else ()

    def _take_input(self, own: Tensor | None) -> None:
        self._share = shared(self.ctx, own, (self._work.n, self._work.d_in))

    def _compute(self) -> Tensor:
        return truncate(self.ctx, self._matrix(self._share), FRAC)


class LayerProgram(Program):
    """One transformer layer on P1's input and cached rows; the answer stays shared."""

    def __init__(self, ctx: Context, workload: Layer, seed: int) -> None:
        super().__init__(ctx, seed)
        spec = workload.spec
        weights = synthetic_layer(spec, seed) if ctx.role == P0 else None
        self._work = workload
        self._matrices = LayerMatrices(ctx, "layer", spec, weights)
        self._layer = TransformerLayer(ctx, spec, self._matrices)
        self._past = workload.kv_len - workload.q_len
        positions = torch.arange(self._past, workload.kv_len)
        self._tokens = Tokens(rotary_tables(spec, positions) if spec.rotary else None)
        self._share = self._answer = torch.empty(0, dtype=torch.int64)

    def prepare(self) -> None:
        """Open what is opened once."""
        self._matrices.prepare()

    def offline(self, step: int) -> None:
        """See the base class."""
        self._layer.cache.clear()
        self._take_input()
        self._layer(self._share, self._tokens)

    def share_input(self, step: int) -> None:
        """(0, x): nothing travels, but for the opening of cached rows that are opened once."""
        self._take_input()

    def online(self, step: int) -> None:
        """See the base class."""
        self._answer = self._layer(self._share, self._tokens)

    def output(self) -> tuple[Tensor, ...]:
        """This role's share."""
        return (self._answer,) if self.ctx.role in (P0, P1) else ()

    def _take_input(self) -> None:
        """The shares of the input and of the cached rows, without data in the offline pass."""
        spec, q_len = self._work.spec, self._work.q_len
        x = k = v = None
        if self.ctx.role == P1 and not self.ctx.offline_pass:
            given = layer_input(spec, q_len, self._work.kv_len, self.seed)
            x, k, v = given.x, given.past_k, given.past_v
        self._share = shared(self.ctx, x, (q_len, spec.d_model))
        if self._past:
            rows = (spec.kv_heads, self._past, spec.d_head)
            self._layer.cache.fill(shared(self.ctx, k, rows), shared(self.ctx, v, rows))


def program(workload: Workload, ctx: Context, seed: int, user: UserInput | None) -> Program:
    """The program of one role for `workload`."""
    match workload:
        case Argmax():
            return ArgmaxProgram(ctx, workload, seed)
        case Nonlinear():
            return NonlinearProgram(ctx, workload, seed)
        case Linear():
            return LinearProgram(ctx, workload, seed)
        case Layer():
            return LayerProgram(ctx, workload, seed)
        case Generation():
            return GenerationProgram(ctx, workload, seed, user)
        case _:
            assert_never(workload)


def answer_frac(workload: Workload, settings: Settings) -> int:
    """Scale of an answer that stays shared."""
    if isinstance(workload, Nonlinear):
        return function(workload.op, settings.approx).out_frac
    return FRAC
