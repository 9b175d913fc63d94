"""A whole model under MPCFormer, token by token.

    embedding    one-hot rows of P1, shared as (0, onehot), times the secret table       `matrix`, 1 hop
                 + P0's position embeddings, local; BERT: norm and its gain              20 hops
    n layers                                                                             `layer`
    logits       final norm (its gain and bias folded into the head), W_head             20 hops
    answer       opened to P1 alone, who picks the token                                 1 hop

The one-hot is an integer, so its product needs no truncation. As in the original, whose answer is the
logits, P1 sees them and P0 sees nothing; the picked token never leaves P1 except as the next one-hot.
BERT has no head: P1 gets the last hidden states.

| phase | from | to | what | payload | hop |
|---|---|---|---|---|---|
| online | P0, P1 | each other | the masked one-hots, and (faithful) the table | 8·n·vocab (+ 8·vocab·d) | 1 |
| online | P0 | P1 | its share of the logits, or of the hidden states | 8·vocab, 8·n·d | last |
"""

import torch
from torch import Tensor

from baselines.mpcformer.context import FRAC, Context
from baselines.mpcformer.encoding import decode, encode
from baselines.mpcformer.fixed_weight import fixed, fixed_gains
from baselines.mpcformer.layer import LayerMatrices, Tokens, TransformerLayer
from baselines.mpcformer.linear import Diagonal, Matrix
from baselines.mpcformer.maximum import reveal_to_user
from baselines.mpcformer.norm import normalize
from baselines.mpcformer.program import Program
from baselines.mpcformer.truncate import truncate
from protocols.inputs import prompt_tokens
from protocols.party import P0, P1
from protocols.sampling import Picker
from protocols.transformer.model import ModelWeights, positions, visible_prefix
from protocols.transformer.rotary import rotary_tables
from protocols.transformer.source import model_weights
from protocols.transformer.spec import TransformerSpec
from protocols.transformer.weights import Linear, fold
from protocols.workload import Generation, StepPlan, UserInput, steps


class Embedding:
    """Token ids at P1 → shares (n, d_model) at FRAC."""

    def __init__(self, ctx: Context, spec: TransformerSpec, weights: ModelWeights | None) -> None:
        self._ctx, self._spec = ctx, spec
        table = None
        if weights is not None:
            table = fixed(Linear(weights.token_embedding, None), transposed=True)
        self._table = Matrix(ctx, "embedding", (spec.d_model, spec.vocab), table)
        self._positions = None if weights is None else weights.position_embedding
        norm = None if weights is None else weights.embedding_norm
        gains = None if norm is None else fixed_gains(norm)
        self._gain = Diagonal(ctx, "embedding/gain", spec.d_model, gains)

    @property
    def _normed(self) -> bool:
        return self._spec.family == "bert"

    def prepare(self) -> None:
        """Open what is opened once."""
        self._table.prepare()
        if self._normed:
            self._gain.prepare()

    def __call__(self, tokens: list[int] | None, count: int, first: int) -> Tensor:
        """P1 passes the token ids in the online pass; they stand at positions `first`, …"""
        x = self._table(self._onehots(tokens, count))
        if self._positions is not None:
            x = self._ctx.public(x, encode(self._positions[first : first + count]))
        if not self._normed:
            return x
        normed = normalize(self._ctx, x, self._spec.norm_eps, self._spec.rms_norm)
        return truncate(self._ctx, self._gain(normed), FRAC)

    def _onehots(self, tokens: list[int] | None, count: int) -> Tensor:
        device = "meta" if self._ctx.offline_pass else "cpu"
        onehots = torch.zeros(count, self._spec.vocab, dtype=torch.int64, device=device)
        if tokens is not None and not self._ctx.offline_pass:
            onehots[torch.arange(count), torch.tensor(tokens)] = 1
        return onehots


class GenerationProgram(Program):
    """One role's part in a generation."""

    def __init__(
        self, ctx: Context, workload: Generation, seed: int, user: UserInput | None
    ) -> None:
        super().__init__(ctx, seed)
        spec = workload.spec
        self._work, self._spec, self._plan = workload, spec, steps(workload)
        weights = model_weights(workload, seed) if ctx.role == P0 else None
        self._embedding = Embedding(ctx, spec, weights)
        self._matrices = _matrices(ctx, workload, weights)
        self._layers = [TransformerLayer(ctx, spec, m) for m in self._matrices]
        self._head = _head(ctx, spec, weights)
        self._length = 0
        self._answer: tuple[Tensor, ...] = ()
        self._next: list[int] | None = None
        self._set_user(user or UserInput())

    def _set_user(self, user: UserInput) -> None:
        """What P1 alone knows: its prompt and how it picks."""
        self._prompt: list[int] | None = None
        self._pick = Picker(user.sampling)
        if self.ctx.role == P1:
            work = self._work
            self._prompt = list(user.prompt or prompt_tokens(work.spec, work.prompt_len, self.seed))

    def prepare(self) -> None:
        """Open what is opened once; tied layers only once altogether."""
        self._embedding.prepare()
        for matrices in dict.fromkeys(self._matrices):
            matrices.prepare()
        if self._head is not None:
            self._head.prepare()

    def offline(self, step: int) -> None:
        """Walk one step on shapes."""
        if step == 0:
            self._length, self._next = 0, self._prompt
            for layer in self._layers:
                layer.cache.clear()
        self._compute(self._plan[step], None)

    def online(self, step: int) -> None:
        """Walk one step on shares; P1 ends up with the answer."""
        plan = self._plan[step]
        answer = self._compute(plan, self._next)
        self._length += plan.tokens
        self._answer, self._next = (), None
        if answer is None:
            return
        values = decode(answer)
        self._answer = (values,)
        if self._head is not None:
            token = self._pick(values)
            self._next = [token]
            self._answer = (torch.tensor([float(token)], dtype=torch.float64), values)

    def output(self) -> tuple[Tensor, ...]:
        """P1: the token and the logits, or the hidden states."""
        return self._answer

    def _compute(self, plan: StepPlan, tokens: list[int] | None) -> Tensor | None:
        """P1's answer: logits (vocab,) or hidden states (n, d_model) at FRAC; None elsewhere."""
        x = self._embedding(tokens, plan.tokens, self._length)
        public = self._tokens(range(self._length, self._length + plan.tokens))
        for layer in self._layers:
            x = layer(x, public)
        if self._head is not None:
            last = normalize(self.ctx, x[-1:], self._spec.norm_eps, self._spec.rms_norm)
            x = truncate(self.ctx, self._head(last), FRAC)[0]
        return reveal_to_user(self.ctx, x)

    def _tokens(self, span: range) -> Tokens:
        spec, prompt_len = self._spec, self._work.prompt_len
        tables = rotary_tables(spec, *positions(spec, prompt_len, span)) if spec.rotary else None
        return Tokens(tables, visible_prefix(spec, prompt_len))


def _matrices(ctx: Context, work: Generation, weights: ModelWeights | None) -> list[LayerMatrices]:
    """Those of all layers, P0's made one by one; tied layers have the same object."""
    made: list[LayerMatrices] = []
    for index in range(work.spec.n_layers):
        if work.tie_layers and made:
            made.append(made[0])
            continue
        own = None if weights is None else weights.layers[index]
        made.append(LayerMatrices(ctx, f"layer{index}", work.spec, own))
    return made


def _head(ctx: Context, spec: TransformerSpec, weights: ModelWeights | None) -> Matrix | None:
    if spec.family == "bert":
        return None
    head = None if weights is None else weights.head
    own = None if weights is None or head is None else fixed(fold(weights.final_norm, head))
    return Matrix(ctx, "head", (spec.vocab, spec.d_model), own)
