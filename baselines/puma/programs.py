"""What Puma runs for each experiment."""

from abc import ABC, abstractmethod
from typing import TypeVar, assert_never

import torch
from torch import Tensor

from baselines.puma.approx import FRAC
from baselines.puma.attention import Cache
from baselines.puma.context import Context
from baselines.puma.embedding import USER
from baselines.puma.functions import FUNCTIONS
from baselines.puma.generation import Model, ModelShares, share_model
from baselines.puma.layer import Layer, LayerShares, Tokens, share_layer
from baselines.puma.linear import SharedLinear, share_linear
from baselines.puma.maximum import argmax
from baselines.puma.round_scheduler import Running, drive
from baselines.puma.share import Share, decode, encode
from baselines.puma.share_and_reveal import give
from baselines.puma.truncate import truncate
from protocols.inputs import (
    LayerInput,
    argmax_input,
    layer_input,
    linear_input,
    nonlinear_input,
    prompt_tokens,
)
from protocols.party import P0, P1, Party
from protocols.transformer.rotary import rotary_tables
from protocols.transformer.source import model_weights
from protocols.transformer.weights import synthetic_layer, synthetic_linear
from protocols.workload import (
    Argmax,
    Generation,
    Linear,
    Nonlinear,
    UserInput,
    Workload,
    steps,
)
from protocols.workload import (
    Layer as LayerWork,
)

T = TypeVar("T")


class Program(ABC):
    """One role's part in one experiment; the methods are those of `protocols.system.System`."""

    def __init__(self, party: Party, ctx: Context, seed: int) -> None:
        self.party = party
        self.ctx = ctx
        self.seed = seed  # of the synthetic weights and inputs, not of any secret

    def run(self, protocol: Running[T]) -> T:
        """Run a protocol in the current phase."""
        return drive(self.party, protocol)

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

    def begin(self) -> None:
        """A fresh evaluation."""

    def share_input(self, step: int) -> None:
        """Nothing, where sharing the input belongs to the experiment."""

    @abstractmethod
    def online(self, step: int) -> None:
        """The measured work of one step."""

    @abstractmethod
    def output(self) -> tuple[Tensor, ...]:
        """This role's part of the answer."""

    async def give(self, x: Tensor | None, shape: tuple[int, ...]) -> Share:
        """P1's values, float64, in shared form at FRAC."""
        own = None if x is None else encode(x, FRAC)
        return await give(self.ctx, USER, own, shape, FRAC)


class ArgmaxProgram(Program):
    """Share, tournament, index at P1."""

    def __init__(self, party: Party, ctx: Context, workload: Argmax, seed: int) -> None:
        super().__init__(party, ctx, seed)
        self._n = workload.n
        self._values = argmax_input(workload.n, seed) if self.owns_input else None
        self._index: int | None = None

    def online(self, step: int) -> None:
        """See the class."""
        self._index = self.run(self._compute())

    async def _compute(self) -> int | None:
        return await argmax(self.ctx, await self.give(self._values, (self._n,)))

    def output(self) -> tuple[Tensor, ...]:
        """The index at P1."""
        return () if self._index is None else (torch.tensor(self._index),)


class SharedOutput(Program):
    """An experiment from a shared tensor to a shared tensor."""

    def __init__(self, party: Party, ctx: Context, seed: int) -> None:
        super().__init__(party, ctx, seed)
        self._x: Share | None = None
        self._y: Share | None = None

    @abstractmethod
    async def compute(self, x: Share) -> Share:
        """The experiment."""

    def online(self, step: int) -> None:
        """Walk from the shared input."""
        if self._x is None:
            raise RuntimeError("share_input comes before online")
        self._y = self.run(self.compute(self._x))

    def output(self) -> tuple[Tensor, ...]:
        """This role's first part of the answer."""
        return () if self._y is None else (self._y.first,)


class NonlinearProgram(SharedOutput):
    """One function of `functions`."""

    def __init__(self, party: Party, ctx: Context, workload: Nonlinear, seed: int) -> None:
        super().__init__(party, ctx, seed)
        self._work = workload

    def share_input(self, step: int) -> None:
        """x in shared form."""
        op, shape = self._work.op, self._work.shape
        own = nonlinear_input(op, shape, self.seed) if self.owns_input else None
        self._x = self.run(self.give(own, shape))

    async def compute(self, x: Share) -> Share:
        """See the class."""
        return await FUNCTIONS[self._work.op].run(self.ctx, x)


class LinearProgram(SharedOutput):
    """One linear layer."""

    def __init__(self, party: Party, ctx: Context, workload: Linear, seed: int) -> None:
        super().__init__(party, ctx, seed)
        self._work = workload
        self._linear: SharedLinear | None = None

    def prepare(self) -> None:
        """Share the weights."""
        shape = (self._work.d_out, self._work.d_in)
        own = synthetic_linear(*shape, self.seed) if self.owns_weights else None
        self._linear = self.run(share_linear(self.ctx, shape, own))

    def share_input(self, step: int) -> None:
        """x in shared form."""
        n, d_in = self._work.n, self._work.d_in
        own = linear_input(n, d_in, self.seed) if self.owns_input else None
        self._x = self.run(self.give(own, (n, d_in)))

    async def compute(self, x: Share) -> Share:
        """See the class."""
        if self._linear is None:
            raise RuntimeError("prepare comes before online")
        return await truncate(self.ctx, self._linear(x), FRAC)


class LayerProgram(SharedOutput):
    """One transformer layer."""

    def __init__(self, party: Party, ctx: Context, workload: LayerWork, seed: int) -> None:
        super().__init__(party, ctx, seed)
        spec = workload.spec
        self._work = workload
        self._shares: LayerShares | None = None
        self._cache = Cache.empty(spec)
        positions = torch.arange(workload.kv_len - workload.q_len, workload.kv_len)
        self._tokens = Tokens(rotary_tables(spec, positions) if spec.rotary else None)
        self._given: LayerInput | None = None
        if self.owns_input:
            self._given = layer_input(spec, workload.q_len, workload.kv_len, seed)

    def prepare(self) -> None:
        """Share the weights."""
        spec = self._work.spec
        weights = synthetic_layer(spec, self.seed) if self.owns_weights else None
        self._shares = self.run(share_layer(self.ctx, spec, weights))

    def share_input(self, step: int) -> None:
        """The new tokens' input and the cached rows."""
        self._x = self.run(self._share_input())

    async def _share_input(self) -> Share:
        spec, past = self._work.spec, self._work.kv_len - self._work.q_len
        given = self._given
        own = (None,) * 3 if given is None else (given.x, given.past_k, given.past_v)
        x = await self.give(own[0], (self._work.q_len, spec.d_model))
        self._cache = Cache.empty(spec)
        if past:
            rows = (spec.kv_heads, past, spec.d_head)
            self._cache = Cache(await self.give(own[1], rows), await self.give(own[2], rows))
        return x

    async def compute(self, x: Share) -> Share:
        """See the class."""
        if self._shares is None:
            raise RuntimeError("prepare comes before online")
        layer = Layer(self.ctx, self._work.spec, self._shares)
        layer.cache = self._cache
        return await layer(x, self._tokens)


class GenerationProgram(Program):
    """A whole model, token by token."""

    def __init__(
        self,
        party: Party,
        ctx: Context,
        workload: Generation,
        seed: int,
        user: UserInput | None,
    ) -> None:
        super().__init__(party, ctx, seed)
        self._work, self._plan = workload, steps(workload)
        self._shares: ModelShares | None = None
        self._model: Model | None = None
        self._next: list[int] | None = None
        self._answer: tuple[Tensor, ...] = ()
        self._prompt: list[int] | None = None
        if self.owns_input:
            given = user.prompt if user is not None else None
            drawn = prompt_tokens(workload.spec, workload.prompt_len, seed)
            self._prompt = list(given or drawn)

    def prepare(self) -> None:
        """Share the weights."""
        weights = model_weights(self._work, self.seed) if self.owns_weights else None
        self._shares = self.run(share_model(self.ctx, self._work, weights, self.party.report))

    def begin(self) -> None:
        """A fresh sequence."""
        if self._shares is None:
            raise RuntimeError("prepare comes before offline")
        self._model = Model(self.ctx, self._work, self._shares)
        self._next = self._prompt

    def online(self, step: int) -> None:
        """One step; P1 ends up with the token, or with BERT's hidden states."""
        if self._model is None:
            raise RuntimeError("offline comes before online")
        count = self._plan[step].tokens
        ids = None if self._next is None else torch.tensor(self._next)
        if self._work.spec.family == "bert":
            states = self.run(self._model.encode(ids, count))
            self._answer = () if states is None else (decode(states, FRAC),)
            return
        token, logits = self.run(self._model.step(ids, count))
        self._next = None if token is None else [token]
        self._answer = (logits.first,) if token is None else (logits.first, torch.tensor([token]))

    def output(self) -> tuple[Tensor, ...]:
        """Every role's first part of the logits, and P1's token; BERT: hidden states at P1."""
        return self._answer


def program(
    party: Party, ctx: Context, workload: Workload, seed: int, user: UserInput | None
) -> Program:
    """The program of one role for `workload`."""
    match workload:
        case Argmax():
            return ArgmaxProgram(party, ctx, workload, seed)
        case Nonlinear():
            return NonlinearProgram(party, ctx, workload, seed)
        case Linear():
            return LinearProgram(party, ctx, workload, seed)
        case LayerWork():
            return LayerProgram(party, ctx, workload, seed)
        case Generation():
            return GenerationProgram(party, ctx, workload, seed, user)
        case _:
            assert_never(workload)
