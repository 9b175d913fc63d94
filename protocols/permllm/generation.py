"""A whole model under PermLLM: 12 hops a layer and 6 more for each token.

    hop 1            embedding: P1 sends onehot − v, P0 multiplies its table
    hops 2 … 12n+1   n layers (`layer`)
    2 hops           final norm under permutation, W_head (`linear`)
    3 hops           token selection (`select`)

The embedding works on windows (4 bytes an element of the one-hot): the residual stream that it starts
is only ever looked at through the norms' windows, so it need not be right beyond them. BERT norms the
embedding (2 hops, and a diagonal layer), has no head, and P0 sends its half of the last hidden states
to P1 (1 hop).

| phase | from | to | what | payload | hop |
|---|---|---|---|---|---|
| prepare | P0 | P1, P2 | exponents of the two tables | 16 | 2 |
| prepare | P1 (P2) | P0 | nothing: ready for the next layer | 0 | 2 a layer but the last |
| online | P1 | P0 | onehot − v | 4·n·vocab | 1 |
| online (BERT) | P0 | P1 | Δ of the hidden states | 8·n·d | last |

P0 learns nothing of prompt or answer. P1 learns what `layer` and `select` list. Each step is a fresh
evaluation with fresh masks; only the cached rows of attention outlive it.
"""

import torch
from torch import Tensor

from protocols.inputs import prompt_tokens
from protocols.party import P0, P1, P2
from protocols.permllm.context import Context, agree_exponents
from protocols.permllm.domain import LINEAR_FRAC, VALUE_FRAC, FixedWeight
from protocols.permllm.input_sharing import NarrowInput
from protocols.permllm.layer import (
    NORM_WINDOW_FRAC,
    LayerLinears,
    Tokens,
    TransformerLayer,
    fixed_gains,
    normalize,
)
from protocols.permllm.linear import Diagonal, Linear, NarrowLinear
from protocols.permllm.masked_value import Masked
from protocols.permllm.permuted_functions import Permuted
from protocols.permllm.program import Program
from protocols.permllm.token_selection import Selection
from protocols.sampling import Picker
from protocols.transformer.model import ModelWeights, positions, visible_prefix
from protocols.transformer.rotary import rotary_tables
from protocols.transformer.source import model_weights
from protocols.transformer.spec import TransformerSpec
from protocols.transformer.weights import fold
from protocols.workload import Generation, UserInput, steps


class Embedding:
    """Token ids at P1 → the residual stream (n, d_model) at LINEAR_FRAC."""

    def __init__(
        self, ctx: Context, spec: TransformerSpec, weights: ModelWeights | None, bits: int
    ):
        self._ctx, self._spec = ctx, spec
        table = None if weights is None else _transposed(ctx, weights.token_embedding, bits)
        self.table = NarrowLinear(ctx, "embedding", (spec.d_model, spec.vocab), table)
        self._positions = None if weights is None else weights.position_embedding
        norm = None if weights is None else weights.embedding_norm
        self._normed = spec.family == "bert"
        self._norm = Permuted(ctx, "embedding/norm", lambda x: normalize(spec, x), NORM_WINDOW_FRAC)
        gains = None if norm is None else fixed_gains(ctx.domain, norm, 1.0, VALUE_FRAC)
        self._gain = Diagonal(ctx, "embedding/gain", spec.d_model, gains)
        self._gain.frac = VALUE_FRAC

    def prepare(self) -> None:
        """Masked tables to P1."""
        self.table.prepare()
        if self._normed:
            self._gain.prepare()

    def __call__(self, tokens: list[int] | None, count: int, first: int, truncated: int) -> Masked:
        """P1 passes the token ids in the online pass; they stand at positions `first`, … count: of one
        step. truncated: what the first layer `truncates`."""
        rows = self.table(self._onehots(tokens, count))
        half = None
        if rows.half is not None:
            half = self._ctx.domain.widen(rows.half, LINEAR_FRAC - rows.frac)
        x = Masked(rows.shape, LINEAR_FRAC, half)
        if self._positions is not None and not self._ctx.offline_pass:
            places = self._positions[first : first + count]
            x = x.shift_by(self._ctx.domain.encode(places, LINEAR_FRAC))
        if not self._normed:
            return x
        return self._gain(self._norm([x], self._gain.in_frac, rows=x.shape[0]), truncated)

    def _onehots(self, tokens: list[int] | None, count: int) -> Masked:
        step = NarrowInput(self._ctx, "embedding/onehot", (count, self._spec.vocab), 0)
        if self._ctx.offline_pass:
            return step.offline()
        if tokens is None:
            return step.online(None)
        onehots = torch.zeros(count, self._spec.vocab)
        onehots[torch.arange(count), torch.tensor(tokens)] = 1.0
        return step.online(onehots)


class GenerationProgram(Program):
    """One role's part in a generation, token by token."""

    def __init__(
        self,
        ctx: Context,
        workload: Generation,
        seed: int,
        weight_bits: int,
        user: UserInput | None,
    ) -> None:
        super().__init__(ctx, seed)
        self._work, self._plan = workload, steps(workload)
        spec = workload.spec
        weights = model_weights(workload, seed) if self.owns_weights else None
        self._embedding = Embedding(ctx, spec, weights, weight_bits)
        self._layers = _layers(ctx, workload, weights, weight_bits)
        self._norm = Permuted(ctx, "final/norm", lambda x: normalize(spec, x), NORM_WINDOW_FRAC)
        head = None if weights is None else _folded_head(ctx, weights, weight_bits)
        self._head = Linear(ctx, "head", (spec.vocab, spec.d_model), head)
        self._selection = Selection(ctx, "select")
        self._set_user(user or UserInput())
        self._answer: tuple[Tensor, ...] = ()

    def _set_user(self, user: UserInput) -> None:
        """What P1 alone knows: its prompt and how it picks."""
        self._prompt: list[int] | None = None
        self._pick = Picker(user.sampling)
        if self.owns_input:
            work = self._work
            self._prompt = list(user.prompt or prompt_tokens(work.spec, work.prompt_len, self.seed))
        self._next = self._prompt

    @property
    def _has_head(self) -> bool:
        return self._work.spec.family != "bert"

    def prepare(self) -> None:
        """Masked weights of all layers and both tables; BFV keys."""
        tables: list[Linear] = [self._embedding.table, self._head]
        own = [table.frac for table in tables] if self.owns_weights else None
        for table, frac in zip(tables, agree_exponents(self.ctx, own, len(tables)), strict=True):
            table.frac = frac
        self._embedding.prepare()
        for index, layer in enumerate(self._layers):
            if index:
                self.ctx.keep_pace()
            layer.prepare()
            if self.owns_weights:
                self.ctx.party.report(f"prepare, layer {index + 1}/{len(self._layers)}")
        if self._has_head:
            self._head.prepare()
            self._selection.prepare()

    def offline(self, step: int) -> None:
        """Walk the steps of a batch that begins with `step` on masks."""
        if step == 0:
            self._next = self._prompt
            for layer in self._layers:
                layer.cache.clear()
        last = self._through_layers(step, None)
        if self._has_head:
            self._selection.offline(self._logits(last))
        else:
            self._answer = () if last.half is None else (last.half,)

    def online(self, step: int) -> None:
        """Walk one step on values; P1 ends up with the token."""
        last = self._through_layers(step, self._next)
        if not self._has_head:
            self._reveal_hidden(last)
            return
        token = self._selection.online(self._logits(last), self._pick)
        self._answer = self._selection.shown(token)
        self._next = None if token is None else [token]

    def output(self) -> tuple[Tensor, ...]:
        """P1: token and permuted logits; P0: the permutation. BERT: hidden states at P1."""
        return () if self.ctx.role == P2 else self._answer

    def _through_layers(self, step: int, tokens: list[int] | None) -> Masked:
        spec, work = self._work.spec, self._work
        first, count = sum(plan.tokens for plan in self._plan[:step]), self._plan[step].tokens
        cuts = [*(layer.truncates for layer in self._layers), 0]
        x = self._embedding(tokens, count, first, cuts[0])
        span = range(first, first + count * len(self.ctx.steps))
        tables = (
            rotary_tables(spec, *positions(spec, work.prompt_len, span)) if spec.rotary else None
        )
        public = Tokens(tables, visible_prefix(spec, work.prompt_len))
        for layer, cut in zip(self._layers, cuts[1:], strict=True):
            x = layer(x, public, cut)
        return x

    def _logits(self, x: Masked) -> Masked:
        """Of each step's last token, (steps, vocab) at LINEAR_FRAC."""
        steps, spec = len(self.ctx.steps), self._work.spec
        n = x.shape[0] // steps
        last = x.reshape(steps, n, spec.d_model).narrow(1, n - 1, 1).reshape(steps, spec.d_model)
        return self._head(self._norm([last], self._head.in_frac, rows=steps))

    def _reveal_hidden(self, x: Masked) -> None:
        if self.ctx.role == P0:
            self.ctx.party.send(P1, x.held)
            self._answer = ()
            return
        (delta,) = self.ctx.receive("hidden states", P0, x.shape)
        self._answer = (self.ctx.domain.decode(delta + self._answer[0], LINEAR_FRAC),)


def _layers(
    ctx: Context, work: Generation, weights: ModelWeights | None, bits: int
) -> list[TransformerLayer]:
    """All layers; P0's are quantized one by one. Tied layers share the first one's weights."""
    layers: list[TransformerLayer] = []
    first: LayerLinears | None = None
    for index in range(work.spec.n_layers):
        name = f"layer{index}"
        tied = first if work.tie_layers else None
        own = weights.layers[index] if weights is not None and tied is None else None
        linears = LayerLinears(ctx, name, work.spec, own, bits, tied)
        first = first or linears
        layers.append(TransformerLayer(ctx, name, work.spec, linears))
        if own is not None:
            ctx.party.report(f"quantizing layer {index + 1}/{work.spec.n_layers}")
    return layers


def _transposed(ctx: Context, table: Tensor, bits: int) -> FixedWeight:
    """An embedding (vocab, d) as the matrix (d, vocab) that multiplies a one-hot; its bias is 0."""
    fixed = ctx.domain.quantize(table, None, bits)
    zeros = torch.zeros(table.shape[1], dtype=ctx.domain.window_dtype)
    return FixedWeight(fixed.values.T.contiguous(), fixed.frac, zeros)


def _folded_head(ctx: Context, weights: ModelWeights, bits: int) -> FixedWeight | None:
    head = weights.head
    if head is None:
        return None
    folded = fold(weights.final_norm, head)
    return ctx.domain.quantize(folded.weight, folded.bias, bits)
