"""The model with the weights that P0 computes with: those that it rounds to, in the clear.

P0 folds each norm's gain and bias into the matrix that follows and rounds the product (`layer`). With
weight_bits=8 that is another model than the exact one, and what PermLLM computes is checked against it,
in float64; a record has the error against the exact model beside that. A matrix whose norm's output goes
elsewhere too (GLM, BERT) is unfolded again: divided by the gains, in float32.
"""

import torch
from torch import Tensor

from protocols.expected_answer import answer as exact_answer
from protocols.expected_answer import layer_answer
from protocols.inputs import linear_input
from protocols.permllm.domain import FixedWeight, Ring64
from protocols.transformer.model import LazyLayers, ModelWeights, held
from protocols.transformer.reference import apply_linear
from protocols.transformer.spec import TransformerSpec
from protocols.transformer.weights import (
    LayerWeights,
    Linear,
    Norm,
    fold,
    synthetic_layer,
    synthetic_linear,
)
from protocols.workload import Layer, Workload
from protocols.workload import Linear as LinearWork


def answer(workload: Workload, seed: int, bits: int) -> Tensor:
    """The plaintext answer of all but generations; see `expected_answer.answer`."""
    match workload:
        case LinearWork(n, d_in, d_out):
            weights = linear(None, synthetic_linear(d_out, d_in, seed), bits)
            return apply_linear(weights, linear_input(n, d_in, seed))
        case Layer():
            weights_of_layer = layer(workload.spec, synthetic_layer(workload.spec, seed), bits)
            return layer_answer(workload, seed, weights_of_layer)
        case _:
            return exact_answer(workload, seed)


def model(spec: TransformerSpec, weights: ModelWeights, bits: int) -> ModelWeights:
    """A model whose matrices and tables are those of P0; layers are made on access, as before."""
    last: list[tuple[LayerWeights, LayerWeights]] = []  # tied layers are one object, rounded once

    def rounded_layer(index: int) -> LayerWeights:
        own = weights.layers[index]
        if not last or last[0][0] is not own:
            last[:] = [(own, layer(spec, own, bits))]
        return last[0][1]

    def embedding() -> Tensor:
        return _weight(Ring64().quantize(weights.token_embedding.T, None, bits)).T

    def head() -> Linear | None:
        own, norm = weights.head, weights.final_norm
        return None if own is None else linear(norm, own, bits, plain_norm=norm is not None)

    return ModelWeights(
        layers=LazyLayers(rounded_layer, range(len(weights.layers))),
        position_embedding=weights.position_embedding,
        embedding_norm=weights.embedding_norm,
        final_norm=None if weights.final_norm is None else plain(weights.final_norm),
        load_embedding=held(embedding),
        load_head=head,
    )


def layer(spec: TransformerSpec, weights: LayerWeights, bits: int) -> LayerWeights:
    """A layer whose four matrices are those of P0."""
    norms = (weights.attn_norm, weights.ffn_norm)
    bare = spec.norm_first and spec.family != "glm"  # nothing but a matrix sees a norm's output
    before_qkv, before_up = norms if spec.norm_first else (None, norms[0])
    return LayerWeights(
        attn_norm=plain(norms[0]) if bare else norms[0],
        qkv=linear(before_qkv, weights.qkv, bits, bare),
        out=linear(None, weights.out, bits),
        ffn_norm=plain(norms[1]) if bare else norms[1],
        up=linear(before_up, weights.up, bits, bare),
        down=linear(None, weights.down, bits),
    )


def plain(norm: Norm) -> Norm:
    """The norm without gain and bias, which are folded into what follows."""
    bias = None if norm.bias is None else torch.zeros_like(norm.bias)
    return Norm(torch.ones_like(norm.gain), bias, norm.eps)


def linear(norm: Norm | None, own: Linear, bits: int, plain_norm: bool = False) -> Linear:
    """What P0 makes of `own` after `norm`. plain_norm: for an input that is not scaled by the norm's
    gain and moved by its bias; else for one that is."""
    folded = fold(norm, own)
    weight = _weight(Ring64().quantize(folded.weight, None, bits))
    if norm is None or plain_norm:
        return Linear(weight, folded.bias)
    weight = torch.where(norm.gain == 0, 0.0, weight / norm.gain)
    if norm.bias is None or folded.bias is None:
        return Linear(weight, folded.bias)
    return Linear(weight, folded.bias.double() - weight.double() @ norm.bias.double())


def _weight(fixed: FixedWeight) -> Tensor:
    """The real numbers, float32: exact, for the integers are below 2^24."""
    return fixed.rows(0, len(fixed.values), torch.int64).float() * 2.0**-fixed.frac
