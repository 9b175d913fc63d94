"""A whole model under PermLLM: 12 hops a layer and 6 more for each token; 4 with variant=fused.

    hop 1            embedding: P1 sends onehot − v, P0 multiplies its table
    hops 2 … 12n+1   n layers (`layer`)
    2 hops           final norm under permutation, W_head (`linear`)
    3 hops           token selection (`select`)

Drafted tokens go in at once, after the last token; norm, head and selection take a row for each, in the
same hops. This is there to be measured (`experiment=verify`): a protocol would have to tell P0 how many
of them were right.

The embedding works on windows (4 bytes an element of the one-hot): the residual stream that it starts
is only ever looked at through the norms' windows, so it need not be right beyond them. With
variant=fused a family with RMSNorm fuses it with the head (2 hops less: `square_sum`), as its layers do;
then the residual stream must be right modulo 2^64, and the one-hot has 8 bytes an element. BERT norms the
embedding (2 hops, and a diagonal layer), has no head, and P0 sends its half of the last hidden states
to P1 (1 hop).

| phase | from | to | what | name | payload | hop |
|---|---|---|---|---|---|---|
| prepare | P0 | P1, P2 | exponents of the two tables | | 16 | 2 |
| prepare | P1 (P2) | P0 | nothing: ready for the next layer | | 0 | 2 a layer but the last |
| online | P1 | P0 | onehot − v | embedding/onehot | 4·n·vocab | 1 |
| online (BERT) | P0 | P1 | Δ of the hidden states | answer | 8·n·d | last |

With variant=fused tokens overlap (`chosen_token`). P1 sends the next one-hot beside its query for the
token. In the next step P0 sends its first message, and then answers the query while P1 computes; P1
takes the token in once it has replied. So a step begins without P1 and ends without the token, which
the last step alone waits for.

P0 learns nothing of prompt or answer. P1 learns what `layer` and `select` list. Each step is a fresh
evaluation with fresh masks; only the cached rows of attention outlive it.
"""

from dataclasses import replace

import torch
from torch import Tensor

from protocols.inputs import fed_tokens, prompt_tokens
from protocols.party import P0, P1, P2
from protocols.permllm.chosen_token import ChosenToken, Overlap
from protocols.permllm.context import Context, agree_exponents
from protocols.permllm.domain import LINEAR_FRAC, VALUE_FRAC, FixedWeight
from protocols.permllm.fused_layer import FusedNorm, fuses_norms, transformer_layer
from protocols.permllm.input_sharing import Input, NarrowInput
from protocols.permllm.layer import (
    NORM_WINDOW_FRAC,
    LayerLinears,
    Tokens,
    TransformerLayer,
    fixed_gains,
    normalize,
)
from protocols.permllm.linear import Diagonal, Linear, NarrowTable, Table
from protocols.permllm.masked_value import Masked
from protocols.permllm.options import PermLLMOptions
from protocols.permllm.permuted_functions import Permuted
from protocols.permllm.program import Program
from protocols.permllm.token_selection import Selection, look_up_all
from protocols.token_sampling import Picker
from protocols.transformer.model import ModelWeights, positions, visible_prefix
from protocols.transformer.rotary import rotary_tables
from protocols.transformer.source import model_weights
from protocols.transformer.spec import TransformerSpec
from protocols.transformer.weights import fold
from protocols.workload import Generation, UserInput, steps


class Embedding:
    """Token ids at P1 → the residual stream (n, d_model) at LINEAR_FRAC."""

    def __init__(
        self,
        ctx: Context,
        spec: TransformerSpec,
        weights: ModelWeights | None,
        options: PermLLMOptions,
    ):
        self._ctx, self._spec = ctx, spec
        self._wide = fuses_norms(spec, options)
        kind, self._input = (Table, Input) if self._wide else (NarrowTable, NarrowInput)
        table = None
        if weights is not None:
            dtype = ctx.domain.dtype if self._wide else ctx.domain.window_dtype
            table = _transposed(ctx, weights.token_embedding, options.weight_bits, dtype)
        self.table: Linear = kind(ctx, "embedding/table", (spec.d_model, spec.vocab), table)
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

    def __call__(self, onehots: Masked, first: int, truncated: int) -> Masked:
        """One-hots of tokens at positions `first`, … truncated: what the first layer `truncates`."""
        rows = self.table(onehots)
        half = None
        if rows.half is not None:
            half = self._ctx.domain.widen(rows.half, LINEAR_FRAC - rows.frac)
        x = Masked(rows.shape, LINEAR_FRAC, half)
        if self._positions is not None and not self._ctx.offline_pass:
            places = self._positions[first : first + x.shape[0]]
            x = x.shift_by(self._ctx.domain.encode(places, LINEAR_FRAC))
        if not self._normed:
            return x
        return self._gain(self._norm([x], self._gain.in_frac, rows=x.shape[0]), truncated)

    def onehots(self, tokens: list[int] | None, count: int) -> Masked:
        """Those of `count` tokens a step, whose ids P1 passes in the online pass."""
        step = self._input(self._ctx, "embedding/onehot", (count, self._spec.vocab), 0)
        if self._ctx.offline_pass:
            return step.offline()
        with self._ctx.party.step("embedding"):
            return step.online_ones(tokens)


class GenerationProgram(Program):
    """One role's part in a generation, token by token."""

    def __init__(
        self,
        ctx: Context,
        workload: Generation,
        seed: int,
        options: PermLLMOptions,
        user: UserInput | None,
    ) -> None:
        super().__init__(ctx, seed)
        self._work, self._plan = workload, steps(workload)
        spec = workload.spec
        weights = model_weights(workload, seed) if self.owns_weights else None
        self._embedding = Embedding(ctx, spec, weights, options)
        self._layers = _layers(ctx, workload, weights, options)
        self._norm = Permuted(ctx, "head/norm", lambda x: normalize(spec, x), NORM_WINDOW_FRAC)
        self._fused_norm = (
            FusedNorm(ctx, "head/norm", spec.norm_eps) if fuses_norms(spec, options) else None
        )
        head = None if weights is None else _folded_head(ctx, weights, options.weight_bits)
        self._head = Linear(ctx, "head/matrix", (spec.vocab, spec.d_model), head)
        self._selection = Selection(ctx, "select", spec.vocab, options.selection)
        self._overlap = None
        if options.variant == "fused" and self._has_head:
            wide = fuses_norms(spec, options)
            self._overlap = Overlap(ctx, ChosenToken(ctx, "choice", spec.vocab, wide))
        self._drafted: list[Selection] = []
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
        """Masked weights of all layers and both tables; keys of the lookup."""
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
            rows = range(self._plan[-1].picks if self._work.drafted else 0)
            self._drafted = [self._selection.beside(f"select {i}") for i in rows]

    def offline(self, step: int) -> None:
        """Walk the steps of a batch that begins with `step` on masks."""
        if step == 0:
            self._next = self._prompt
            for layer in self._layers:
                layer.cache.clear()
        last = self._through_layers(step, self._embedded(step, self._offline_onehots(step)))
        if self._has_head:
            self._offline_selection(self._logits(last), self._plan[step].kind)
        else:
            self._answer = () if last.half is None else (last.half,)

    def _offline_onehots(self, step: int) -> Masked:
        if self._overlap is None:
            return self._embedding.onehots(None, self._plan[step].tokens)
        prompt = self._embedding.onehots(None, self._plan[0].tokens) if step == 0 else None
        return self._overlap.masks(prompt)

    def _offline_selection(self, logits: Masked, kind: str) -> None:
        if kind == "verify":
            for i, selection in enumerate(self._drafted):
                selection.offline(logits.narrow(0, i, 1))
            return
        index = self._selection.offline(logits)
        if self._overlap is not None:
            self._overlap.offline(index)

    def online(self, step: int) -> None:
        """Walk one step on values; P1 ends up with the token."""
        if self._overlap is not None:
            self._online_overlapped(self._overlap, step)
            return
        last = self._through_layers(step, self._embedded(step, self._own_onehots(step)))
        if not self._has_head:
            with self.ctx.party.step("answer"):
                self._reveal_hidden(last)
            return
        logits = self._logits(last)
        if self._plan[step].kind == "verify":
            picked = look_up_all(self._drafted, logits, self._pick)
            each = [s.shown(token) for s, token in zip(self._drafted, picked, strict=True)]
            self._answer = tuple(torch.stack(column) for column in zip(*each, strict=True))
            return
        token = self._selection.online(logits, self._pick, self._scaled)
        self._answer = self._selection.shown(token)
        self._next = None
        if token is not None:
            self._next = fed_tokens(self._work, step + 1, [token], self.seed)

    def _online_overlapped(self, overlap: Overlap, step: int) -> None:
        x = self._embedded(step, overlap.begin() if step else self._own_onehots(step))
        last = self._through_layers(step, x)
        self._selection.reveal(self._logits(last), self._pick, self._scaled)
        earlier = overlap.paid if step else ()
        token = overlap.end(self._selection, step + 1 == len(self._plan))
        self._answer = (*self._selection.shown(token), *earlier)

    def _own_onehots(self, step: int) -> Masked:
        return self._embedding.onehots(self._next, self._plan[step].tokens)

    def output(self) -> tuple[Tensor, ...]:
        """P1: token, permuted logits and slot; P0: the permutation; where tokens overlap also what checks
        the token before: P1's token and slot, P0's permutation; of drafted tokens a row each. BERT: hidden
        states at P1."""
        return () if self.ctx.role == P2 else self._answer

    def _first(self, step: int) -> int:
        """The position of the first token that goes in."""
        return sum(plan.tokens for plan in self._plan[:step])

    def _embedded(self, step: int, onehots: Masked) -> Masked:
        """A step of its own: the one-hots of a long prompt are large, and nobody keeps them longer."""
        with self.ctx.party.step("embedding"):
            return self._embedding(onehots, self._first(step), self._layers[0].truncates)

    def _through_layers(self, step: int, x: Masked) -> Masked:
        spec, work = self._work.spec, self._work
        first, count = self._first(step), self._plan[step].tokens
        cuts = [*(layer.truncates for layer in self._layers[1:]), 0]
        span = range(first, first + count * len(self.ctx.steps))
        tables = (
            rotary_tables(spec, *positions(spec, work.prompt_len, span)) if spec.rotary else None
        )
        public = Tokens(tables, visible_prefix(spec, work.prompt_len))
        for index, (layer, cut) in enumerate(zip(self._layers, cuts, strict=True)):
            with self.ctx.party.step(f"layer {index}"):
                x = layer(x, public, cut)
        return x

    def _logits(self, x: Masked) -> Masked:
        """Of each step's last token, or its drafted ones, (steps·picks, vocab); where the norm is fused,
        not yet `_scaled`."""
        steps, d = self.ctx.steps, self._work.spec.d_model
        n, picks = x.shape[0] // len(steps), self._plan[steps.start].picks
        rows = len(steps) * picks
        last = x.reshape(len(steps), n, d).narrow(1, n - picks, picks).reshape(rows, d)
        with self.ctx.party.step("head"):
            if self._fused_norm is not None:
                self._fused_norm(last)
                return self._head.raw(last)
            return self._head(self._norm([last], self._head.in_frac, rows=rows))

    def _scaled(self, seen: Tensor) -> Tensor:
        """What P1 sees of `_logits` as logits."""
        return seen if self._fused_norm is None else seen * self._fused_norm.scale

    def _reveal_hidden(self, x: Masked) -> None:
        if self.ctx.role == P0:
            self.ctx.party.send(P1, x.held)
            self._answer = ()
            return
        (delta,) = self.ctx.receive("hidden states", P0, x.shape)
        self._answer = (self.ctx.domain.decode(delta + self._answer[0], LINEAR_FRAC),)


def _layers(
    ctx: Context, work: Generation, weights: ModelWeights | None, options: PermLLMOptions
) -> list[TransformerLayer]:
    """All layers; P0's are quantized one by one. Tied layers share the first one's weights."""
    layers: list[TransformerLayer] = []
    first: LayerLinears | None = None
    for index in range(work.spec.n_layers):
        name = f"layer{index}"
        tied = first if work.tie_layers else None
        own = weights.layers[index] if weights is not None and tied is None else None
        linears = LayerLinears(ctx, name, work.spec, own, options.weight_bits, tied)
        first = first or linears
        layers.append(transformer_layer(ctx, name, work.spec, linears, options))
        if own is not None:
            ctx.party.report(f"quantizing layer {index + 1}/{work.spec.n_layers}")
    return layers


def _transposed(ctx: Context, table: Tensor, bits: int, dtype: torch.dtype) -> FixedWeight:
    """An embedding (vocab, d) as the matrix (d, vocab) that multiplies a one-hot; its bias is 0."""
    fixed = ctx.domain.quantize(table.T, None, bits)
    return replace(fixed, bias=fixed.bias.to(dtype))


def _folded_head(ctx: Context, weights: ModelWeights, bits: int) -> FixedWeight | None:
    head = weights.head
    if head is None:
        return None
    folded = fold(weights.final_norm, head)
    return ctx.domain.quantize(folded.weight, folded.bias, bits)
