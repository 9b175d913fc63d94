"""What Puma should compute: the workload in float64 with Puma's own approximations (`approx`)."""

import torch
from torch import Tensor

from baselines.forward import Functions, LayerForward, ModelForward
from baselines.puma import approx
from baselines.puma.functions import FUNCTIONS
from protocols import expected_answer as exact
from protocols.inputs import layer_input, nonlinear_input
from protocols.transformer.rotary import rotary_tables
from protocols.transformer.source import model_weights
from protocols.transformer.spec import TransformerSpec
from protocols.transformer.weights import synthetic_layer
from protocols.workload import Generation, Layer, Nonlinear, Workload

HIDDEN = -float(1 << 20)  # what a key that is not seen adds to its score


def _normalize(x: Tensor, eps: float, rms: bool) -> Tensor:
    return approx.rms_norm(x, eps) if rms else approx.layer_norm(x, eps)


def _softmax(x: Tensor, visible: Tensor | None) -> Tensor:
    return approx.softmax(x if visible is None else x.masked_fill(~visible, HIDDEN))


def _activate(spec: TransformerSpec, inner: Tensor) -> Tensor:
    if not spec.gated:
        return approx.gelu(inner)
    gate, up = inner.chunk(2, dim=-1)
    return approx.silu(gate) * up


APPROXIMATE = Functions(_normalize, _softmax, _activate)


def answer(workload: Workload, seed: int) -> Tensor:
    """The answer on the synthetic input of `seed`: an index, or float64 of the workload's shape."""
    if isinstance(workload, Nonlinear):
        given = nonlinear_input(workload.op, workload.shape, seed)
        return FUNCTIONS[workload.op].plain(given)
    if not isinstance(workload, Layer):
        return exact.answer(workload, seed)
    spec = workload.spec
    own = layer_input(spec, workload.q_len, workload.kv_len, seed)
    cache = (own.past_k, own.past_v)
    layer = LayerForward(spec, synthetic_layer(spec, seed), APPROXIMATE, cache)
    positions = torch.arange(workload.kv_len - workload.q_len, workload.kv_len)
    return layer(own.x, rotary_tables(spec, positions) if spec.rotary else None)


def model(workload: Generation, seed: int) -> ModelForward:
    """The whole model."""
    return ModelForward(workload.spec, model_weights(workload, seed), APPROXIMATE)
