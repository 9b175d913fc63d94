"""What the system should compute: the workload in float64 with the system's own approximations.

With `quad+2quad` and `quad+2relu` the model is another one than the exact plaintext's (MPCFormer trains it
for them); with `exact` the approximations are those of `approx`.
"""

import torch
from torch import Tensor

from baselines.forward import Functions, LayerForward, ModelForward
from baselines.mpcformer import approx
from baselines.mpcformer.functions import function
from baselines.mpcformer.options import Settings
from protocols import expected_answer as exact
from protocols.inputs import layer_input, nonlinear_input
from protocols.transformer.rotary import rotary_tables
from protocols.transformer.source import model_weights
from protocols.transformer.spec import TransformerSpec
from protocols.transformer.weights import synthetic_layer
from protocols.workload import Generation, Layer, Nonlinear, Workload


def functions(settings: Settings) -> Functions:
    """Norm, softmax and activation as the protocols approximate them."""
    return Functions(
        normalize=approx.normalize,
        softmax=lambda x, seen: approx.softmax(x, settings.approx, seen),
        activate=lambda spec, inner: _activate(spec, inner, settings),
    )


def _activate(spec: TransformerSpec, inner: Tensor, settings: Settings) -> Tensor:
    exact = settings.approx == "exact"
    if spec.gated:
        gate, up = inner.chunk(2, dim=-1)
        return (approx.silu(gate) if exact else approx.quad(gate)) * up
    return approx.gelu(inner) if exact else approx.quad(inner)


def answer(workload: Workload, seed: int, settings: Settings) -> Tensor:
    """The answer on the synthetic input of `seed`: an index, or float64 of the workload's shape."""
    if isinstance(workload, Nonlinear):
        plain = function(workload.op, settings.approx).plain
        return plain(nonlinear_input(workload.op, workload.shape, seed))
    if not isinstance(workload, Layer):
        return exact.answer(workload, seed)
    spec = workload.spec
    given = layer_input(spec, workload.q_len, workload.kv_len, seed)
    layer = LayerForward(
        spec, synthetic_layer(spec, seed), functions(settings), (given.past_k, given.past_v)
    )
    positions = torch.arange(workload.kv_len - workload.q_len, workload.kv_len)
    return layer(given.x, rotary_tables(spec, positions) if spec.rotary else None)


def model(workload: Generation, seed: int, settings: Settings) -> ModelForward:
    """The whole model."""
    return ModelForward(workload.spec, model_weights(workload, seed), functions(settings))
