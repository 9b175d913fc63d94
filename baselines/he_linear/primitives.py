"""P1 holds every activation in the clear and computes all but products with P0's matrices.

    embedding    one-hots of P1's tokens times P0's table     `linear`, 2 hops
                 + the rows of P0's position table, which P0 adds under encryption
                 BERT: norm, whose gain and bias P0 gives to P1 in the phase prepare
    layer        `layer`, 8 hops
    logits       final norm, folded into the head             `linear`, 2 hops

P1's token ids stay hidden from P0: it multiplies the whole table by an encrypted one-hot. To give P1 the
table would cost no message, but it is a part of the model, and of GPT-2 it is the head as well. So P1 gets
the rows of its own tokens alone.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from baselines.he_linear.context import Context
from baselines.he_linear.layer import Gains, HeLayer, PlainCache
from baselines.he_linear.linear import matrix
from baselines.he_linear.options import HeLinearOptions
from baselines.he_linear.parameters import affine, embedding_shape
from baselines.he_linear.secret_matrix import SecretMatrix
from baselines.he_linear.sizes import Sizes
from protocols.expected_answer import apply_nonlinear
from protocols.party import P1, Party
from protocols.shares.primitives import Primitives, SharedEmbedding, SharedLinear, Tokens
from protocols.token_sampling import Picker
from protocols.transformer.forward import EXACT
from protocols.transformer.model import ModelWeights
from protocols.transformer.reference import gelu
from protocols.transformer.spec import TransformerSpec
from protocols.transformer.weights import LayerWeights, Linear, fold
from protocols.workload import NonlinearOp


class HePrimitives(Primitives[Tensor]):
    """One role's. sizes: of what is encrypted, if anything."""

    deals = True  # encryptions of zero

    def __init__(
        self, party: Party, key_seed: int | None, sizes: Sizes | None, options: HeLinearOptions
    ) -> None:
        super().__init__(party)
        self.ctx = Context(party, key_seed, sizes)
        self._shuffle = options.shuffle

    @property
    def without_data(self) -> bool:
        """In the offline pass."""
        return self.ctx.offline_pass

    def establish(self) -> None:
        """See `Context`."""
        self.ctx.establish()

    def begin_offline(self, step: int) -> None:
        """See the base class."""
        self.ctx.offline_pass = True

    def begin_online(self) -> None:
        """See the base class."""
        self.ctx.offline_pass = False

    def given(self, own: Tensor | None, shape: tuple[int, ...]) -> Tensor:
        """Nothing travels."""
        return torch.empty(shape, device="meta") if own is None else own

    def part(self, x: Tensor) -> tuple[Tensor, ...]:
        """P1 has it all."""
        return (x,) if self.party.role == P1 else ()

    def each(self, x: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
        """See the base class."""
        return change(x)

    def argmax(self, x: Tensor) -> Tensor | None:
        """P1's own."""
        return None if x.is_meta else x.argmax()

    def function(self, op: NonlinearOp, x: Tensor) -> Tensor:
        """P1's own."""
        return x if x.is_meta else apply_nonlinear(op, x)

    def product(self, x: Tensor, y: Tensor) -> Tensor:
        """P1's own."""
        return x * y

    def softmax(self, scores: Tensor, visible: Tensor | None) -> Tensor:
        """P1's own."""
        return scores if scores.is_meta else EXACT.softmax(scores, visible)

    def activation(self, spec: TransformerSpec, x: Tensor) -> Tensor:
        """P1's own."""
        if spec.gated:
            return x * torch.sigmoid(x)
        return gelu(x, "erf" if spec.family == "bert" else "tanh")

    def linear(
        self, name: str, shape: tuple[int, int], own: Callable[[], Linear] | None
    ) -> SecretMatrix:
        """See the base class."""
        return matrix(self.ctx, name, affine(*shape), own)

    def layer(
        self, name: str, spec: TransformerSpec, own: Callable[[], LayerWeights] | None
    ) -> HeLayer:
        """See the base class."""
        return HeLayer(self.ctx, name, spec, own, self._shuffle)

    def cache(self, spec: TransformerSpec) -> PlainCache:
        """See the base class."""
        return PlainCache(spec)

    def embedding(self, spec: TransformerSpec, own: ModelWeights | None) -> "Embedding":
        """See the base class."""
        return Embedding(self.ctx, spec, own)

    def head(
        self, spec: TransformerSpec, own: ModelWeights | None, embedding: SharedEmbedding[Tensor]
    ) -> "Head":
        """See the base class."""
        return Head(self.ctx, spec, own)

    def chosen(self, logits: Tensor, pick: Picker) -> tuple[Tokens, tuple[Tensor, ...]]:
        """P1: tokens (picks, 1), float64, and their logits (picks, vocab)."""
        if logits.is_meta:
            return None, ()
        tokens = [pick(row) for row in logits]
        return tokens, (torch.tensor(tokens, dtype=torch.float64)[:, None], logits)

    def reveal(self, x: Tensor) -> Tensor | None:
        """P1 has it."""
        return None if x.is_meta else x


class Embedding(SharedEmbedding[Tensor]):
    """Token ids at P1 → (n, d_model)."""

    def __init__(self, ctx: Context, spec: TransformerSpec, weights: ModelWeights | None) -> None:
        self._ctx, self._spec = ctx, spec
        load = None if weights is None else lambda: Linear(weights.token_embedding.T, None)
        self._table = matrix(ctx, "embedding", embedding_shape(spec), load)
        self._positions = None if weights is None else weights.position_embedding
        self._norms = [weights.embedding_norm] if weights and weights.embedding_norm else []
        self._gains = Gains(ctx, "embedding/norm", 1, spec.d_model)

    def prepare(self) -> None:
        """P0 encodes its table."""
        self._table.prepare()
        if self._spec.family == "bert":
            self._gains.prepare(self._norms)

    def __call__(self, tokens: Tokens, count: int, first: int) -> Tensor:
        """See the base class."""
        spec, ctx = self._spec, self._ctx
        onehots = torch.empty(count, spec.vocab, device="meta")
        if tokens is not None and not ctx.offline_pass:
            onehots = torch.nn.functional.one_hot(torch.tensor(tokens), spec.vocab)
        x = self._table(onehots, self._rows(range(first, first + count)))
        if spec.family != "bert":
            return x
        return self._gains(0, EXACT.normalize(x, spec.norm_eps, spec.rms_norm))

    def _rows(self, at: range) -> Tensor | None:
        """P0's rows of the position table at these positions, float64."""
        if self._positions is None or self._ctx.offline_pass:
            return None
        return self._positions[at.start : at.stop].double()


class Head(SharedLinear[Tensor]):
    """Final norm at P1, without its gain and bias, which are in P0's head."""

    def __init__(self, ctx: Context, spec: TransformerSpec, weights: ModelWeights | None) -> None:
        def folded() -> Linear:
            assert weights is not None
            head = weights.head
            assert head is not None
            return fold(weights.final_norm, head)

        own = None if weights is None else folded
        self._spec, self._matrix = spec, matrix(ctx, "head", affine(spec.vocab, spec.d_model), own)

    def prepare(self) -> None:
        """P0 encodes it."""
        self._matrix.prepare()

    def __call__(self, x: Tensor) -> Tensor:
        """x (n, d_model) → (n, vocab)."""
        return self._matrix(EXACT.normalize(x, self._spec.norm_eps, self._spec.rms_norm))
