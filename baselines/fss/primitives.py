"""Masked values of two parties and a dealer: what `protocols.shares` needs.

As in the other systems of two parties whose answer is the logits, P1 sees them and P0 sees nothing; the
picked token never leaves P1 except as the next one-hot. BERT has no head: P1 gets the last hidden states.
Messages: `input_masks`.

A layer's steps are those of `protocols.shares.transformer_layer`:

    norm; RMSNorm                               `norm`               13 hops; 11
    W_qkv; rotary positions                     `linear`              3; 2
    scores q·kᵀ/√d_head                         `attention`           3
    weights of the rows                         `softmax`            16 + 2·⌈log2 L⌉
    weighted sum                                `attention`           3
    W_out, residual                             `linear`              3
    norm; RMSNorm                               `norm`               13; 11
    W_up                                        `linear`              3
    GELU; SwiGLU: SiLU of the gate, times up    `activation`          7; 10
    W_down, residual                            `linear`              3

67 + 2·⌈log2 L⌉ hops with LayerNorm and GELU, without rotary positions; 3 more for each residual gain. Each
product's last two are its truncation. What is folded into which matrix stands in
`protocols.shares.integer_layer`. The vocabulary tables (`protocols.shares.integer_tables`):

    embedding    P1's masked one-hot rows times the secret table            `linear`, 1 hop after the input
                 + P0's position embeddings, in its share; BERT: norm and its gain         16 hops
    logits       final norm, W_head                                                        16 hops

| phase | from | to | what | payload | hop |
|---|---|---|---|---|---|
| offline | P2 | P1 | masks of the one-hots | ⌈n·vocab·w/8⌉ | with the keys |
| online | P1 | P0 | the masked one-hots | ⌈n·vocab·w/8⌉ | 1 |

All values are at FRAC between steps. P0 and P1 learn what the steps list: masked values.
"""

from typing import ClassVar

import torch
from torch import Tensor

from baselines.fss.activation import GELU, SILU, activate
from baselines.fss.attention import Cache
from baselines.fss.context import FRAC, Context
from baselines.fss.encoding import encode
from baselines.fss.functions import FUNCTIONS
from baselines.fss.input_masks import masked_input, revealed
from baselines.fss.linear import Diagonal, Matrix
from baselines.fss.maximum import argmax
from baselines.fss.multiply import multiply
from baselines.fss.norm import normalize
from baselines.fss.options import FssOptions
from baselines.fss.softmax import WEIGHT_FRAC, softmax
from baselines.fss.truncation import truncate
from protocols.on_disk import Messages
from protocols.party import P1, Party
from protocols.shares.fixed_weight import FixedWeight
from protocols.shares.integer_layer import Rows
from protocols.shares.integer_primitives import IntegerPrimitives
from protocols.shares.primitives import Tables, Tokens
from protocols.transformer.rotary import rotate_half
from protocols.transformer.spec import TransformerSpec
from protocols.workload import NonlinearOp


class FssPrimitives(IntegerPrimitives):
    """Int64 tensors as `context` has them."""

    deals: ClassVar[bool] = True
    frac, weight_frac = FRAC, WEIGHT_FRAC

    def __init__(
        self, party: Party, key_seed: int | None, options: FssOptions, file: Messages | None = None
    ) -> None:
        super().__init__(party)
        self.ctx = Context(party, key_seed, options, file)

    @property
    def without_data(self) -> bool:
        """See the base class."""
        return not self.ctx.online

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
        """See the base class."""
        return masked_input(self.ctx, None if own is None else encode(own), shape)

    def part(self, x: Tensor) -> tuple[Tensor, ...]:
        """The masked value at P0, its mask at P2."""
        return () if self.party.role == P1 else (x,)

    def argmax(self, x: Tensor) -> Tensor | None:
        """See the base class."""
        return argmax(self.ctx, x)

    def function(self, op: NonlinearOp, x: Tensor) -> Tensor:
        """At the scale that `functions` says."""
        return FUNCTIONS[op].protocol(self.ctx, x)

    def product(self, x: Tensor, y: Tensor) -> Tensor:
        """See the base class."""
        with self.ctx.step("product"):
            share = multiply(self.ctx, x, y, self.ctx.bits)
            return truncate(self.ctx, self.ctx.open(share, self.ctx.bits), FRAC)

    def softmax(self, scores: Tensor, visible: Tensor | None) -> Tensor:
        """At WEIGHT_FRAC."""
        return softmax(self.ctx, scores, visible)

    def activation(self, spec: TransformerSpec, x: Tensor) -> Tensor:
        """See the base class."""
        return activate(self.ctx, x, SILU if spec.gated else GELU)

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
        return normalize(self.ctx, x, spec.norm_eps, spec.rms_norm)

    def rotated(self, spec: TransformerSpec, x: Tensor, tables: Tables) -> Tensor:
        """(x·cos + J(x)·sin) / 2^FRAC, J a signed permutation: a public linear map."""
        if not x.is_meta:
            cos, sin = (encode(table) for table in tables)
            x = x * cos + rotate_half(x, spec) * sin
        return truncate(self.ctx, x, FRAC)

    def onehots(self, spec: TransformerSpec, tokens: Tokens, count: int) -> Tensor:
        """P1 masks them."""
        onehots = None
        if tokens is not None and self.ctx.online:
            onehots = torch.zeros(count, spec.vocab, dtype=torch.int64)
            onehots[torch.arange(count), torch.tensor(tokens)] = 1
        return masked_input(self.ctx, onehots, (count, spec.vocab))

    def rows(self, spec: TransformerSpec) -> Rows:
        """See the base class."""
        return Cache(self.ctx, spec.kv_heads, spec.d_head)

    def reveal(self, x: Tensor) -> Tensor | None:
        """See the base class."""
        seen = revealed(self.ctx, x, self.ctx.bits)
        return None if seen is None else seen.double() * 2.0**-FRAC
