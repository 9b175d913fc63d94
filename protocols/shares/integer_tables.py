"""Matrices and vocabulary tables of integer weights, for systems whose products are to be truncated.

    embedding    one-hot rows of P1 times the secret table
                 + P0's position embeddings; BERT: norm and its gain
    logits       final norm (its gain and bias folded into the head), W_head

The one-hot is an integer, so its product needs no truncation.
"""

from torch import Tensor

from protocols.shares.fixed_weight import encode, fixed, fixed_gains
from protocols.shares.integer_operations import IntegerOperations, SecretMatrix
from protocols.shares.primitives import SharedEmbedding, SharedLinear, Tokens
from protocols.transformer.model import ModelWeights
from protocols.transformer.spec import TransformerSpec
from protocols.transformer.weights import Linear, fold


class IntegerLinear(SharedLinear[Tensor]):
    """A secret matrix, its product truncated."""

    def __init__(self, operations: IntegerOperations, matrix: SecretMatrix) -> None:
        self._operations, self._matrix = operations, matrix

    def prepare(self) -> None:
        """See `SecretMatrix`."""
        self._matrix.prepare()

    def __call__(self, x: Tensor) -> Tensor:
        """See the base class."""
        return self._operations.truncated(self._matrix(x), self._operations.frac)


class IntegerHead(IntegerLinear):
    """Final norm and head."""

    def __init__(
        self, operations: IntegerOperations, spec: TransformerSpec, weights: ModelWeights | None
    ) -> None:
        own = None
        if weights is not None and weights.head is not None:
            own = fixed(fold(weights.final_norm, weights.head), operations.frac)
        super().__init__(operations, operations.matrix("head", (spec.vocab, spec.d_model), own))
        self._spec = spec

    def __call__(self, x: Tensor) -> Tensor:
        """See the base class."""
        return super().__call__(self._operations.normed(self._spec, x))


class IntegerEmbedding(SharedEmbedding[Tensor]):
    """Token ids at P1 → shares (n, d_model) at `frac`."""

    def __init__(
        self, operations: IntegerOperations, spec: TransformerSpec, weights: ModelWeights | None
    ) -> None:
        self._operations, self._spec = operations, spec
        frac, table, norm, self._positions = operations.frac, None, None, None
        if weights is not None:
            table = fixed(Linear(weights.token_embedding, None), frac, transposed=True)
            norm, self._positions = weights.embedding_norm, weights.position_embedding
        self._table = operations.matrix("embedding", (spec.d_model, spec.vocab), table)
        gains = None if norm is None else fixed_gains(norm, frac)
        self._gain = operations.diagonal("embedding/gain", spec.d_model, gains)

    @property
    def _normed(self) -> bool:
        return self._spec.family == "bert"

    def prepare(self) -> None:
        """See `SecretMatrix`."""
        self._table.prepare()
        if self._normed:
            self._gain.prepare()

    def __call__(self, tokens: Tokens, count: int, first: int) -> Tensor:
        """See the base class."""
        operations, places = self._operations, None
        if self._positions is not None:
            places = encode(self._positions[first : first + count], operations.frac)
        x = self._table(operations.onehots(self._spec, tokens, count), places)
        if not self._normed:
            return x
        normed = operations.normed(self._spec, x)
        return operations.truncated(self._gain(normed), operations.frac)
