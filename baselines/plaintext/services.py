"""What P1 asks and P0 answers for each experiment: one request, one reply a step.

| experiment | request (P1 → P0) | reply (P0 → P1) |
|---|---|---|
| argmax | float32 (n,) | the index, int64 |
| nonlinear | float32 of the shape | float32 of the shape |
| linear | float32 (n, d_in) | float32 (n, d_out) |
| attention | float32 q (q_len, d_head), k and v (kv_len, d_head) | float32 (q_len, d_head) |
| layer | float32 (q_len, d_model); cached rows before, in phase input | float32 (q_len, d_model) |
| generation | the new token ids, int64, and how to pick, float64 (4,) | tokens, int64 () or (n,) |
| generation, BERT | the token ids, int64 | float32 (n, d_model) |

P0 learns everything, P1 its answer. The logits that a token was picked from stay at P0, which hands them
to the check alone.
"""

from abc import ABC, abstractmethod
from typing import assert_never

import torch
from torch import Tensor

from baselines.additive.options import Approx
from baselines.plaintext.functions import FUNCTIONS, plain_function
from protocols.errors import Unsupported
from protocols.expected_answer import attention
from protocols.inputs import (
    argmax_input,
    attention_input,
    fed_tokens,
    layer_input,
    linear_input,
    nonlinear_input,
    prompt_tokens,
)
from protocols.token_sampling import Picker
from protocols.transformer.forward import Functions, LayerForward, ModelForward, linear
from protocols.transformer.rotary import rotary_tables
from protocols.transformer.source import model_weights
from protocols.transformer.weights import (
    LayerWeights,
    synthetic_layer,
    synthetic_linear,
)
from protocols.transformer.weights import Linear as LinearWeights
from protocols.workload import (
    NO_CIPHERTEXT,
    Argmax,
    Attention,
    Bootstrapping,
    Generation,
    Layer,
    Linear,
    Nonlinear,
    Sampling,
    UserInput,
    Workload,
    steps,
)

Message = tuple[Tensor, ...]


class Service(ABC):
    """Both sides of one experiment; a role uses its own methods alone."""

    def load(self) -> None:
        """P0, in prepare: the weights."""

    def given(self) -> Message:
        """P1, in phase input: what the experiment assumes P0 to have; () for nothing."""
        return ()

    def take(self, message: Message) -> None:
        """P0, in phase input, where there is something."""

    @abstractmethod
    def request(self, step: int) -> Message:
        """P1: what it sends."""

    @abstractmethod
    def reply(self, step: int, request: Message) -> Tensor:
        """P0: what it sends back."""

    def receive(self, answer: Tensor) -> None:
        """P1: the answer of this step."""

    def aside(self) -> Message:
        """P0: what only the check of the answer is shown."""
        return ()


class ArgmaxService(Service):
    """The index of the largest value."""

    def __init__(self, work: Argmax, seed: int) -> None:
        self._work, self._seed = work, seed

    def request(self, step: int) -> Message:
        """See the base class."""
        return (argmax_input(self._work.n, self._seed).float(),)

    def reply(self, step: int, request: Message) -> Tensor:
        """See the base class."""
        return request[0].argmax()


class NonlinearService(Service):
    """One function."""

    def __init__(self, work: Nonlinear, seed: int, approx: Approx) -> None:
        self._work, self._seed, self._approx = work, seed, approx

    def request(self, step: int) -> Message:
        """See the base class."""
        return (nonlinear_input(self._work.op, self._work.shape, self._seed).float(),)

    def reply(self, step: int, request: Message) -> Tensor:
        """See the base class."""
        return plain_function(self._work.op, request[0], self._approx).float()


class LinearService(Service):
    """One linear layer."""

    def __init__(self, work: Linear, seed: int) -> None:
        self._work, self._seed = work, seed
        self._weights: LinearWeights | None = None

    def load(self) -> None:
        """See the base class."""
        self._weights = synthetic_linear(self._work.d_out, self._work.d_in, self._seed)

    def request(self, step: int) -> Message:
        """See the base class."""
        return (linear_input(self._work.n, self._work.d_in, self._seed).float(),)

    def reply(self, step: int, request: Message) -> Tensor:
        """See the base class."""
        assert self._weights is not None
        return linear(self._weights, request[0])


class AttentionService(Service):
    """One attention head."""

    def __init__(self, work: Attention, seed: int) -> None:
        self._work, self._seed = work, seed

    def request(self, step: int) -> Message:
        """See the base class."""
        given = attention_input(self._work, self._seed)
        return given.q.float(), given.k.float(), given.v.float()

    def reply(self, step: int, request: Message) -> Tensor:
        """See the base class."""
        return attention(*request)


class LayerService(Service):
    """One layer; P0 has the cached rows of the conversation so far."""

    def __init__(self, work: Layer, seed: int, functions: Functions) -> None:
        self._work, self._seed, self._functions = work, seed, functions
        self._input = torch.empty(0)
        self._weights: LayerWeights | None = None
        self._cache: tuple[Tensor, Tensor] | None = None

    def load(self) -> None:
        """See the base class."""
        self._weights = synthetic_layer(self._work.spec, self._seed)

    def given(self) -> Message:
        """Cached keys and values, each float32 (kv_heads, past, d_head)."""
        work = self._work
        all_of_it = layer_input(work.spec, work.q_len, work.kv_len, self._seed)
        self._input = all_of_it.x.float()
        if work.kv_len == work.q_len:
            return ()
        return all_of_it.past_k.float(), all_of_it.past_v.float()

    def take(self, message: Message) -> None:
        """See the base class."""
        self._cache = (message[0], message[1])

    def request(self, step: int) -> Message:
        """See the base class."""
        return (self._input,)

    def reply(self, step: int, request: Message) -> Tensor:
        """See the base class."""
        assert self._weights is not None
        work, spec = self._work, self._work.spec
        positions = torch.arange(work.kv_len - work.q_len, work.kv_len)
        layer = LayerForward(spec, self._weights, self._functions, self._cache)
        return layer(request[0], rotary_tables(spec, positions) if spec.rotary else None)


class GenerationService(Service):
    """A conversation: P0 keeps its cache, and picks as P1 asks."""

    def __init__(
        self, work: Generation, seed: int, user: UserInput | None, functions: Functions
    ) -> None:
        self._work, self._seed, self._functions = work, seed, functions
        self._user = user or UserInput()
        self._model: ModelForward | None = None
        self._pick: Picker | None = None
        self._logits = torch.empty(0)
        self._next: list[int] = []
        self._step = 0  # P1's

    def load(self) -> None:
        """See the base class."""
        weights = model_weights(self._work, self._seed)
        self._model = ModelForward(self._work.spec, weights, self._functions, torch.float32)

    def request(self, step: int) -> Message:
        """See the base class."""
        work = self._work
        self._step = step
        if step == 0:
            drawn = self._user.prompt or prompt_tokens(work.spec, work.prompt_len, self._seed)
            self._next = list(drawn)
        tokens = torch.tensor(self._next)
        return (tokens,) if work.spec.family == "bert" else (tokens, _rule(self._user.sampling))

    def reply(self, step: int, request: Message) -> Tensor:
        """See the base class."""
        assert self._model is not None
        tokens = request[0].tolist()
        if self._work.spec.family == "bert":
            return self._model.encode(tokens)
        if step == 0 or self._pick is None:
            self._model.reset()
            self._pick = Picker(_sampling(request[1]))
        verified = steps(self._work)[step].kind == "verify"
        rows = self._model.verify(tokens) if verified else self._model.step(tokens)[None]
        self._logits = rows.double()
        picked = [self._pick(row) for row in self._logits]
        return torch.tensor(picked if verified else picked[0])

    def receive(self, answer: Tensor) -> None:
        """See the base class."""
        if self._work.spec.family != "bert":
            picked = answer.reshape(-1).tolist()
            self._next = fed_tokens(self._work, self._step + 1, picked, self._seed)

    def aside(self) -> Message:
        """The logits."""
        return (self._logits,) if self._work.spec.family != "bert" else ()


def _rule(sampling: Sampling) -> Tensor:
    """Temperature, top_k (0: none), top_p and seed (−1: none), float64 (4,)."""
    seed = -1 if sampling.seed is None else sampling.seed
    values = [sampling.temperature, sampling.top_k or 0, sampling.top_p, seed]
    return torch.tensor(values, dtype=torch.float64)


def _sampling(rule: Tensor) -> Sampling:
    temperature, top_k, top_p, seed = rule.tolist()
    return Sampling(temperature, int(top_k) or None, top_p, None if seed < 0 else int(seed))


def service(workload: Workload, seed: int, user: UserInput | None, approx: Approx) -> Service:
    """The service for `workload`."""
    match workload:
        case Argmax():
            return ArgmaxService(workload, seed)
        case Nonlinear():
            return NonlinearService(workload, seed, approx)
        case Linear():
            return LinearService(workload, seed)
        case Attention():
            return AttentionService(workload, seed)
        case Layer():
            return LayerService(workload, seed, FUNCTIONS[approx])
        case Generation():
            return GenerationService(workload, seed, user, FUNCTIONS[approx])
        case Bootstrapping():
            raise Unsupported(NO_CIPHERTEXT)
        case _:
            assert_never(workload)
