"""A whole model's weights, made or read when they are asked for, and its tokens' positions.

    x = E[token] + P[position]      BERT: normed; LLaMA and GLM: no P
    x = layer_{n-1}(… layer_0(x))
    logits = H·norm(x)              GPT-2: H = E; BERT: no norm, no head

A 6B model fits no small machine as float32, so layers and the two vocabulary tables are made or read
on each access, and kept by whoever asked.
"""

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import overload

import torch
from torch import Tensor

from protocols.transformer.spec import TransformerSpec
from protocols.transformer.weights import (
    LayerWeights,
    Linear,
    Norm,
    synthetic_layer,
    synthetic_norm,
    synthetic_tensor,
)

# Standard deviations of synthetic embeddings. Where the head has weights of its own, that of the
# single layer's input. GPT-2's head is the embedding: with large rows a token's own row would win
# at every step, so its tables are small, as in an untrained GPT-2, and the layers decide.
EMBEDDING_STD = {"gpt2": 0.02, "bert": 0.02, "llama": 1.0, "glm": 1.0}
POSITION_STD = 0.05


@dataclass(frozen=True)
class LazyLayers(Sequence[LayerWeights]):
    """Layers made by `make(index)` on each access; a slice is lazy as well."""

    make: Callable[[int], LayerWeights]
    indices: range

    def __len__(self) -> int:
        return len(self.indices)

    @overload
    def __getitem__(self, index: int) -> LayerWeights: ...
    @overload
    def __getitem__(self, index: slice) -> "LazyLayers": ...
    def __getitem__(self, index: int | slice) -> "LayerWeights | LazyLayers":
        if isinstance(index, slice):
            return LazyLayers(self.make, self.indices[index])
        return self.make(self.indices[index])


@dataclass(frozen=True)
class ModelWeights:
    """The weights of a model, all float32.

    `position_embedding` (max_positions, d_model) is None for rotary families; BERT's holds its
    token-type-0 row too. `embedding_norm` is BERT's alone, `final_norm` everybody else's.
    """

    layers: Sequence[LayerWeights]
    position_embedding: Tensor | None
    embedding_norm: Norm | None
    final_norm: Norm | None
    load_embedding: Callable[[], Tensor]
    load_head: Callable[[], Linear | None]

    @property
    def token_embedding(self) -> Tensor:
        """(vocab, d_model), made anew unless somebody still holds it."""
        return self.load_embedding()

    @property
    def head(self) -> Linear | None:
        """(vocab, d_model) without bias, or None (BERT). A tied head's weight is the embedding."""
        return self.load_head()


def synthetic_model(spec: TransformerSpec, seed: int, tie_layers: bool = False) -> ModelWeights:
    """A made-up model of `spec`'s shape, the same wherever `spec` and `seed` are.

    Layer i is `synthetic_layer(spec, seed, i)`. With `tie_layers` all are layer 0, one object, kept
    as long as the model is. GPT-2's head is its embedding.
    """
    first = lru_cache(1)(lambda: synthetic_layer(spec, seed))
    table = (spec.vocab, spec.d_model)

    def layer(index: int) -> LayerWeights:
        return first() if tie_layers else synthetic_layer(spec, seed, index)

    def embedding() -> Tensor:
        return synthetic_tensor("embedding", table, seed, std=EMBEDDING_STD[spec.family])

    def head() -> Linear:
        return Linear(synthetic_tensor("head", table, seed), None)

    def place() -> Tensor:
        shape = (spec.max_positions, spec.d_model)
        return synthetic_tensor("positions", shape, seed, std=POSITION_STD)

    bert = spec.family == "bert"
    shared = held(embedding)
    heads = {"gpt2": lambda: Linear(shared(), None), "bert": lambda: None}
    return ModelWeights(
        layers=LazyLayers(layer, range(spec.n_layers)),
        position_embedding=None if spec.rotary else place(),
        embedding_norm=synthetic_norm("embedding_norm", spec, seed) if bert else None,
        final_norm=None if bert else synthetic_norm("final_norm", spec, seed),
        load_embedding=shared,
        load_head=heads.get(spec.family, head),
    )


def held(make: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """`make`, called again only when nobody holds the tensor that it made last."""
    last: list[weakref.ref[Tensor]] = []

    def get() -> Tensor:
        tensor = last[0]() if last else None
        if tensor is None:
            tensor = make()
            last[:] = [weakref.ref(tensor)]
        return tensor

    return get


def positions(spec: TransformerSpec, prompt_len: int, indices: range) -> tuple[Tensor, Tensor]:
    """Positions and block positions, int64 (n,) each, of the tokens at `indices` of a sequence.

    Positions count from 0 and block positions are 0, except in GLM, whose prompt ends with the
    tokens gMASK and start-of-piece. From the latter on, position is gMASK's and the block positions
    count 1, 2, … (ChatGLM-6B's `get_position_ids`). A GLM prompt of one token is the start alone.
    """
    at = torch.tensor(indices, dtype=torch.int64)
    if spec.family != "glm":
        return at, torch.zeros_like(at)
    start = prompt_len - 1
    return torch.where(at < start, at, max(start - 1, 0)), (at - start + 1).clamp(min=0)


def visible_prefix(spec: TransformerSpec, prompt_len: int) -> int:
    """How many leading tokens every token sees: GLM's prompt up to gMASK, all of BERT's, else 0."""
    return {"bert": prompt_len, "glm": prompt_len - 1}.get(spec.family, 0)
