"""Additive shares of two parties and a dealer, with Beaver products: what `protocols.shares` needs.

As in the originals whose answer is the logits, P1 sees them and P0 sees nothing; the picked token never
leaves P1 except as the next one-hot. BERT has no head: P1 gets the last hidden states.

| phase | from | to | what | payload | hop |
|---|---|---|---|---|---|
| online | P0 | P1 | its share of the logits, of the hidden states, of an index | 8·n·vocab, 8·n·d, 8 | last |

Where drafted tokens are verified, the rows of the head and of the answer are those of all n tokens.

A layer's steps are those of `protocols.shares.transformer_layer`:

    norm                                        `norm`               19 hops
    W_qkv, rotary positions                     `linear`, `rotary`    1
    scores q·kᵀ/√d_head                         `attention`           1
    weights of the rows                         `softmax`            30 (2quad), 38 (2relu)
    weighted sum                                `attention`           1
    W_out, residual                             `linear`              1
    norm                                        `norm`               19
    W_up                                        `linear`              1
    Quad; SwiGLU: Quad of the gate, times up    `quad_gelu`           1; 2
    W_down, residual                            `linear`              1

75 hops with 2quad, and one more for each residual gain. What is folded into which matrix stands in
`protocols.shares.integer_layer`; residual gains are shared like all weights. (MPCFormer's BatchNorm is one
product with a shared vector, too.) The vocabulary tables (`protocols.shares.integer_tables`):

    embedding    one-hot rows of P1, shared as (0, onehot), times the secret table       `linear`, 1 hop
                 + P0's position embeddings, local; BERT: norm and its gain              20 hops
    logits       final norm, W_head                                                      20 hops

All shares are at FRAC between steps. P0 and P1 learn what the steps list: masked openings; of the
embedding the masked one-hots, 8·n·vocab (and the table, where weights are opened each time).
"""

from typing import ClassVar

import torch
from torch import Tensor

from baselines.additive.attention import cache
from baselines.additive.context import FRAC, Context
from baselines.additive.encoding import decode, encode
from baselines.additive.functions import APPROXIMATIONS, function
from baselines.additive.linear import Diagonal, Matrix
from baselines.additive.maximum import argmax, reveal_to_user
from baselines.additive.options import Settings
from baselines.additive.product_truncation import product
from baselines.additive.rotary import rotate
from baselines.additive.softmax import WEIGHT_FRAC
from baselines.additive.truncate import truncate
from protocols.party import P2, Party
from protocols.shares.fixed_weight import FixedWeight
from protocols.shares.integer_layer import Rows
from protocols.shares.integer_primitives import IntegerPrimitives
from protocols.shares.primitives import Tables, Tokens
from protocols.token_sampling import Picker
from protocols.transformer.spec import TransformerSpec
from protocols.workload import NonlinearOp


class AdditivePrimitives(IntegerPrimitives):
    """Int64 tensors at FRAC; without data in the offline pass."""

    deals: ClassVar[bool] = True
    frac, weight_frac = FRAC, WEIGHT_FRAC

    def __init__(self, party: Party, key_seed: int | None, settings: Settings) -> None:
        super().__init__(party)
        self.ctx = Context(party, key_seed, settings)
        self._approximation = APPROXIMATIONS[settings.approx]

    @property
    def without_data(self) -> bool:
        """See the base class."""
        return self.ctx.offline_pass

    def establish(self) -> None:
        """See the base class."""
        self.ctx.establish()

    def begin_offline(self, step: int) -> None:
        """See the base class."""
        self.ctx.begin_offline()

    def begin_online(self) -> None:
        """See the base class."""
        self.ctx.begin_online()

    def end_online(self) -> None:
        """Raises RuntimeError if the two passes have not run the same way."""
        self.ctx.end_online()

    def given(self, own: Tensor | None, shape: tuple[int, ...]) -> Tensor:
        """(0, x): nothing travels."""
        if self.ctx.offline_pass:
            return self.ctx.without_data(*shape)
        return torch.zeros(shape, dtype=torch.int64) if own is None else encode(own)

    def part(self, x: Tensor) -> tuple[Tensor, ...]:
        """This role's share; the dealer has none."""
        return () if self.party.role == P2 else (x,)

    def argmax(self, x: Tensor) -> Tensor | None:
        """See the base class."""
        with self.party.step("argmax"):
            index = argmax(self.ctx, x)
        with self.party.step("answer"):
            return reveal_to_user(self.ctx, index)

    def function(self, op: NonlinearOp, x: Tensor) -> Tensor:
        """At the scale that `function` says."""
        return function(op, self.ctx.settings, tuple(x.shape)).protocol(self.ctx, x)

    def product(self, x: Tensor, y: Tensor) -> Tensor:
        """See the base class."""
        return product(self.ctx, x, y, FRAC)

    def softmax(self, scores: Tensor, visible: Tensor | None) -> Tensor:
        """At WEIGHT_FRAC."""
        return self._approximation.softmax.protocol(self.ctx, scores, visible)

    def activation(self, spec: TransformerSpec, x: Tensor) -> Tensor:
        """See the base class."""
        chosen = self._approximation
        return (chosen.silu if spec.gated else chosen.gelu).protocol(self.ctx, x)

    def matrix(self, name: str, shape: tuple[int, int], own: FixedWeight | None) -> Matrix:
        """See the base class."""
        return Matrix(self.ctx, name, shape, own)

    def diagonal(self, name: str, width: int, own: FixedWeight | None) -> Matrix:
        """See the base class."""
        return Diagonal(self.ctx, name, width, own)

    def truncated(self, x: Tensor, bits: int) -> Tensor:
        """See the base class."""
        return truncate(self.ctx, x, bits)

    def normed(self, spec: TransformerSpec, x: Tensor) -> Tensor:
        """See the base class."""
        return self._approximation.norm.protocol(self.ctx, x, spec.norm_eps, spec.rms_norm)

    def rotated(self, spec: TransformerSpec, x: Tensor, tables: Tables) -> Tensor:
        """See the base class."""
        return rotate(self.ctx, spec, x, tables)

    def onehots(self, spec: TransformerSpec, tokens: Tokens, count: int) -> Tensor:
        """P1 has them, P0 zeros: nothing travels."""
        if self.ctx.offline_pass:
            return self.ctx.without_data(count, spec.vocab)
        onehots = torch.zeros(count, spec.vocab, dtype=torch.int64)
        if tokens is not None:
            onehots[torch.arange(count), torch.tensor(tokens)] = 1
        return onehots

    def rows(self, spec: TransformerSpec) -> Rows:
        """To fill them takes one hop where rows are opened once."""
        return cache(self.ctx, spec.kv_heads, spec.d_head)

    def chosen(self, logits: Tensor, pick: Picker) -> tuple[Tokens, tuple[Tensor, ...]]:
        """See the base class."""
        with self.party.step("answer"):
            return super().chosen(logits, pick)

    def reveal(self, x: Tensor) -> Tensor | None:
        """See the base class."""
        seen = reveal_to_user(self.ctx, x)
        return None if seen is None else decode(seen)
