"""Primitives of systems of integer weights whose products are to be truncated."""

from abc import abstractmethod
from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor

from protocols.shares.fixed_weight import fixed
from protocols.shares.integer_layer import IntegerCache, IntegerLayer, Rows
from protocols.shares.integer_operations import IntegerOperations
from protocols.shares.integer_tables import IntegerEmbedding, IntegerHead, IntegerLinear
from protocols.shares.primitives import Primitives, SharedEmbedding, Tokens
from protocols.token_sampling import Picker
from protocols.transformer.model import ModelWeights
from protocols.transformer.spec import TransformerSpec
from protocols.transformer.weights import LayerWeights, Linear


class IntegerPrimitives(Primitives[Tensor], IntegerOperations):
    """Int64 tensors at `frac`. P1 gets the logits and picks; BERT has no head. weight_frac: fractional bits
    of the softmax's weights."""

    weight_frac: ClassVar[int]

    def each(self, x: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
        """See the base class."""
        return change(x)

    def linear(
        self, name: str, shape: tuple[int, int], own: Callable[[], Linear] | None
    ) -> IntegerLinear:
        """See the base class."""
        weight = None if own is None else fixed(own(), self.frac)
        return IntegerLinear(self, self.matrix(name, shape, weight))

    def layer(
        self, name: str, spec: TransformerSpec, own: Callable[[], LayerWeights] | None
    ) -> IntegerLayer:
        """See the base class."""
        return IntegerLayer(self, name, spec, own)

    @abstractmethod
    def rows(self, spec: TransformerSpec) -> Rows:
        """Cached keys and values of one layer."""

    def cache(self, spec: TransformerSpec) -> IntegerCache:
        """See the base class."""
        return IntegerCache(self.rows(spec), spec, self.truncated, self.frac, self.weight_frac)

    def embedding(self, spec: TransformerSpec, own: ModelWeights | None) -> IntegerEmbedding:
        """See the base class."""
        return IntegerEmbedding(self, spec, own)

    def head(
        self, spec: TransformerSpec, own: ModelWeights | None, embedding: SharedEmbedding[Tensor]
    ) -> IntegerHead:
        """See the base class."""
        return IntegerHead(self, spec, own)

    def chosen(self, logits: Tensor, pick: Picker) -> tuple[Tokens, tuple[Tensor, ...]]:
        """P1: tokens (picks, 1), float64, and their logits (picks, vocab)."""
        values = self.reveal(logits.squeeze(0))
        if values is None:
            return None, ()
        values = values.reshape(-1, logits.shape[-1])
        tokens = [pick(row) for row in values]
        return tokens, (torch.tensor(tokens, dtype=torch.float64)[:, None], values)
