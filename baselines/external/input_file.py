"""What an experiment computes on, as a file for programs of others: the same numbers as permbench's own."""

from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from protocols.errors import Unsupported
from protocols.inputs import (
    argmax_input,
    attention_input,
    layer_input,
    linear_input,
    nonlinear_input,
)
from protocols.transformer.rotary import rotary_tables
from protocols.transformer.weights import LayerWeights, synthetic_layer, synthetic_linear
from protocols.workload import (
    NO_CIPHERTEXT,
    Argmax,
    Attention,
    Bootstrapping,
    Generation,
    Layer,
    Linear,
    Nonlinear,
    Workload,
)

NAME = "inputs.npz"
Arrays = dict[str, "np.ndarray[Any, Any]"]


def write(folder: Path, workload: Workload, seed: int) -> Path:
    """Write the arrays of `arrays` into `folder`, in numpy's format without pickles, for this user alone.
    Raises Unsupported."""
    path = folder / NAME
    path.touch(mode=0o600)
    np.savez(path, allow_pickle=False, **arrays(workload, seed))
    return path


def arrays(workload: Workload, seed: int) -> Arrays:
    """By name. Argmax and non-linear functions: x, float64. Linear: also weight (d_out, d_in) and bias,
    float32. Attention: q (q_len, d_head), k and v (kv_len, d_head). Layer: x (q_len, d_model), past_k and
    past_v (heads, kv_len − q_len, d_head), and the weights of `LayerWeights`, as qkv.weight or
    attn_norm.gain; where there are rotary positions, their public cos and sin (q_len, d_head), float64.
    Raises Unsupported for a whole model."""
    match workload:
        case Argmax(n):
            return {"x": argmax_input(n, seed).numpy()}
        case Nonlinear(op, shape):
            return {"x": nonlinear_input(op, shape, seed).numpy()}
        case Linear(n, d_in, d_out):
            weights = dict(_tensors(synthetic_linear(d_out, d_in, seed)))
            return {"x": linear_input(n, d_in, seed).numpy()} | weights
        case Attention():
            return dict(_tensors(attention_input(workload, seed)))
        case Layer():
            given = layer_input(workload.spec, workload.q_len, workload.kv_len, seed)
            weights = dict(_of_layer(synthetic_layer(workload.spec, seed)))
            return dict(_tensors(given)) | weights | _rotary(workload)
        case Generation():
            raise Unsupported("whole models have no file of inputs: their weights are too many")
        case Bootstrapping():
            raise Unsupported(NO_CIPHERTEXT)


def _rotary(layer: Layer) -> Arrays:
    """By which queries and keys of the new tokens are turned, as `protocols.transformer.rotary` says."""
    if not layer.spec.rotary:
        return {}
    positions = torch.arange(layer.kv_len - layer.q_len, layer.kv_len)
    cos, sin = rotary_tables(layer.spec, positions)
    return {"cos": cos.numpy(), "sin": sin.numpy()}


def _of_layer(weights: LayerWeights) -> Iterator[tuple[str, "np.ndarray[Any, Any]"]]:
    for part in fields(weights):
        for name, array in _tensors(getattr(weights, part.name)):
            yield f"{part.name}.{name}", array


def _tensors(holder: Any) -> Iterator[tuple[str, "np.ndarray[Any, Any]"]]:
    """The tensors among a dataclass's fields."""
    for part in fields(holder):
        if isinstance(value := getattr(holder, part.name), Tensor):
            yield part.name, value.numpy()
