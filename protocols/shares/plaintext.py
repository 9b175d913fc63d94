"""What a system on secret shares should compute: the workload in float64 with its own functions."""

from collections.abc import Callable

import torch
from torch import Tensor

from protocols import expected_answer as exact
from protocols.inputs import layer_input, nonlinear_input
from protocols.transformer.forward import Functions, LayerForward, ModelForward
from protocols.transformer.rotary import rotary_tables
from protocols.transformer.source import model_weights
from protocols.transformer.weights import synthetic_layer
from protocols.workload import Generation, Layer, Nonlinear, NonlinearOp, Workload

PlainFunction = Callable[[NonlinearOp, Tensor], Tensor]


def answer(workload: Workload, seed: int, functions: Functions, plain: PlainFunction) -> Tensor:
    """The answer on the synthetic input of `seed`: an index, or float64 of the workload's shape."""
    if isinstance(workload, Nonlinear):
        return plain(workload.op, nonlinear_input(workload.op, workload.shape, seed))
    if not isinstance(workload, Layer):
        return exact.answer(workload, seed)
    spec = workload.spec
    given = layer_input(spec, workload.q_len, workload.kv_len, seed)
    cache = (given.past_k, given.past_v)
    layer = LayerForward(spec, synthetic_layer(spec, seed), functions, cache)
    places = torch.arange(workload.kv_len - workload.q_len, workload.kv_len)
    return layer(given.x, rotary_tables(spec, places) if spec.rotary else None)


def model(workload: Generation, seed: int, functions: Functions) -> ModelForward:
    """The whole model."""
    return ModelForward(workload.spec, model_weights(workload, seed), functions)
