"""A whole model in the clear, in float64: the tokens that every private system must reproduce."""

from collections.abc import Callable, Sequence
from dataclasses import fields

import torch
from torch import Tensor

from protocols.transformer.model import ModelWeights, positions, visible_prefix
from protocols.transformer.plain_sequence import PlainSequence
from protocols.transformer.reference import Cache, apply_linear, apply_norm, layer_forward
from protocols.transformer.spec import TransformerSpec
from protocols.transformer.weights import LayerWeights, Linear

LayerProgress = Callable[[int, int], None]

_KEEP_BYTES = 1 << 30  # layers of models up to this size are made once instead of at every pass


class PlainModel(PlainSequence):
    """In float64. `progress(done, n_layers)` is called after each layer.

    Holds the vocabulary tables in float32, and the layers if they are small; others are made or read
    again at each pass, one at a time.
    """

    def __init__(
        self, spec: TransformerSpec, weights: ModelWeights, progress: LayerProgress | None = None
    ) -> None:
        self._spec = spec
        self._weights = weights
        self._progress = progress
        self._embedding = weights.token_embedding
        self._head = weights.head
        self._layers = _kept(weights.layers)
        self.reset()

    def reset(self) -> None:
        """Forget the sequence."""
        self._caches: list[Cache | None] = [None] * self._spec.n_layers
        self._length = 0
        self._prompt_len = 0

    @property
    def _has_head(self) -> bool:
        return self._head is not None

    def _scored(self, x: Tensor) -> Tensor:
        assert self._head is not None
        if self._weights.final_norm is not None:
            x = apply_norm(self._weights.final_norm, x)
        return apply_linear(self._head, x)

    def greedy(self, prompt: Sequence[int], new_tokens: int) -> tuple[list[int], Tensor]:
        """The `new_tokens` likeliest tokens, and the logits of each, float64 (new_tokens, vocab)."""
        self.reset()
        logits = [self.step(prompt)]
        while len(logits) < new_tokens:
            logits.append(self.step([int(logits[-1].argmax())]))
        stacked = torch.stack(logits)
        return stacked.argmax(-1).tolist(), stacked

    def _run(self, tokens: Sequence[int]) -> Tensor:
        """All layers over `tokens` (n), whose keys and values join the caches: (n, d_model)."""
        if not self._length:
            self._prompt_len = len(tokens)
        at, blocks = positions(self._spec, self._prompt_len, self._indices(tokens))
        prefix = visible_prefix(self._spec, self._prompt_len)
        x = self._embed(tokens, at)
        for i, layer in enumerate(self._layers):
            x, *cache = layer_forward(
                self._spec, layer, x, self._caches[i], at, block_positions=blocks, prefix=prefix
            )
            self._caches[i] = (cache[0], cache[1])
            if self._progress is not None:
                self._progress(i + 1, self._spec.n_layers)
        self._length += len(tokens)
        return x

    def _indices(self, tokens: Sequence[int]) -> range:
        end, spec = self._length + len(tokens), self._spec
        if end > spec.max_positions:
            raise ValueError(f"{end} tokens, {spec.name} has {spec.max_positions} positions")
        if not tokens or not 0 <= min(tokens) <= max(tokens) < spec.vocab:
            raise ValueError(f"need token ids from 0 to {spec.vocab - 1}, got {list(tokens)}")
        return range(self._length, end)

    def _embed(self, tokens: Sequence[int], at: Tensor) -> Tensor:
        x = self._embedding[torch.tensor(tokens)].double()
        if self._weights.position_embedding is not None:
            x = x + self._weights.position_embedding[at].double()
        norm = self._weights.embedding_norm
        return x if norm is None else apply_norm(norm, x)


def layers_held(layer_bytes: int, n_layers: int) -> int:
    """How many layers of so many bytes each a `PlainModel` holds at once."""
    return n_layers if layer_bytes * n_layers <= _KEEP_BYTES else 1


def _kept(layers: Sequence[LayerWeights]) -> Sequence[LayerWeights]:
    return list(layers) if layers_held(_bytes(layers[0]), len(layers)) > 1 else layers


def _bytes(layer: LayerWeights) -> int:
    parts = [getattr(layer, f.name) for f in fields(layer)]
    tensors = [
        tensor
        for part in parts
        for tensor in (part.weight if isinstance(part, Linear) else part.gain, part.bias)
    ]
    return sum(t.nbytes for t in tensors if t is not None)
