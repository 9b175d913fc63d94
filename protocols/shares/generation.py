"""A whole model over a system's primitives, step by step.

    embedding     P1's token ids → (n, d_model)
    n layers      `transformer_layer`
    logits        final norm and head, of the last token, or of every drafted one
    answer        P1 gets the tokens (BERT: the last hidden states)

P1 puts the tokens it got, and drafted ones, into the next step. Tied layers are one layer's weights.
"""

from functools import partial

from torch import Tensor

from protocols.inputs import fed_tokens, prompt_tokens
from protocols.shares.experiments import Program
from protocols.shares.primitives import Primitives, S, SharedLayer, Tokens
from protocols.shares.transformer_layer import NewTokens, TransformerLayer
from protocols.token_sampling import Picker
from protocols.transformer.model import ModelWeights, positions, visible_prefix
from protocols.transformer.rotary import rotary_tables
from protocols.transformer.source import model_weights
from protocols.workload import Generation, UserInput, steps


class GenerationProgram(Program[S]):
    """One role's part in a generation."""

    def __init__(
        self, ops: Primitives[S], workload: Generation, seed: int, user: UserInput | None
    ) -> None:
        super().__init__(ops, seed)
        self._work, self._plan = workload, steps(workload)
        spec, own = workload.spec, model_weights(workload, seed) if ops.owns_weights else None
        self._embedding = ops.embedding(spec, own)
        self._weights = _layer_weights(ops, workload, own)
        self._layers = [TransformerLayer(ops, spec, weights) for weights in self._weights]
        self._head = None if spec.family == "bert" else ops.head(spec, own, self._embedding)
        self._answer: tuple[Tensor, ...] = ()
        self._next: Tokens = None
        self._set_user(user or UserInput())

    def _set_user(self, user: UserInput) -> None:
        """What P1 alone knows: its prompt and how it picks."""
        self._prompt: Tokens = None
        self._pick = Picker(user.sampling)
        if self.ops.owns_input:
            work = self._work
            self._prompt = list(user.prompt or prompt_tokens(work.spec, work.prompt_len, self.seed))

    def prepare(self) -> None:
        """Weights in shared form; tied layers' once altogether."""
        self._embedding.prepare()
        distinct = list(dict.fromkeys(self._weights))
        for number, weights in enumerate(distinct, start=1):
            weights.prepare()
            if self.ops.owns_weights:
                self.ops.party.report(f"prepare, layer {number}/{len(distinct)}")
        if self._head is not None:
            self._head.prepare()

    def offline(self, step: int) -> None:
        """Begin a sequence with step 0; walk the step on shapes."""
        if step == 0:
            self._next = self._prompt
            for layer in self._layers:
                layer.cache.clear()
        if self.ops.deals:
            self._walk(step, None)

    def online(self, step: int) -> None:
        """Walk one step on shares; P1 ends up with the answer."""
        tokens, self._answer = self._walk(step, self._next)
        self._next = None
        if tokens is not None:
            self._next = fed_tokens(self._work, step + 1, tokens, self.seed)

    def output(self) -> tuple[Tensor, ...]:
        """As `Primitives.chosen` says; BERT: hidden states at P1."""
        return self._answer

    def _walk(self, step: int, given: Tokens) -> tuple[Tokens, tuple[Tensor, ...]]:
        plan, ops = self._plan[step], self.ops
        first = sum(earlier.tokens for earlier in self._plan[:step])
        with ops.step("embedding"):
            x = self._embedding(given, plan.tokens, first)
        public = self._new_tokens(range(first, first + plan.tokens))
        for index, layer in enumerate(self._layers):
            with ops.step(f"layer {index}"):
                x = layer(x, public)
        if self._head is None:
            with ops.step("answer"):
                hidden = ops.reveal(x)
            return None, () if hidden is None else (hidden,)
        with ops.step("head"):
            logits = self._head(ops.each(x, lambda part: part[-plan.picks :]))
        return ops.chosen(logits, self._pick)

    def _new_tokens(self, span: range) -> NewTokens:
        spec, prompt_len = self._work.spec, self._work.prompt_len
        tables = rotary_tables(spec, *positions(spec, prompt_len, span)) if spec.rotary else None
        return NewTokens(tables, visible_prefix(spec, prompt_len))


def _layer_weights(
    ops: Primitives[S], work: Generation, own: ModelWeights | None
) -> list[SharedLayer[S]]:
    """Those of all layers; tied layers have the same object."""
    made: list[SharedLayer[S]] = []
    for index in range(work.spec.n_layers):
        if work.tie_layers and made:
            made.append(made[0])
            continue
        load = None if own is None else partial(own.layers.__getitem__, index)
        made.append(ops.layer(f"layer{index}", work.spec, load))
    return made
