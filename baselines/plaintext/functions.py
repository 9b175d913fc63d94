"""The functions that P0 computes in the clear: PyTorch's own kernels, as anybody would who has no secret, or
what systems on secret shares compute in the place of a model's.

These are those of additive shares, but for `exact`, which is exact here.
"""

from collections.abc import Mapping
from typing import get_args

from torch import Tensor
from torch.nn import functional

from baselines.additive import functions as additive
from baselines.additive.options import Approx, Settings
from protocols.expected_answer import apply_nonlinear
from protocols.transformer.forward import Functions, exact_softmax
from protocols.transformer.spec import TransformerSpec
from protocols.workload import NonlinearOp


def _normalize(x: Tensor, eps: float, rms: bool) -> Tensor:
    shape = x.shape[-1:]
    return (
        functional.rms_norm(x, shape, eps=eps) if rms else functional.layer_norm(x, shape, eps=eps)
    )


def _activate(spec: TransformerSpec, inner: Tensor) -> Tensor:
    if spec.gated:
        gate, up = inner.chunk(2, dim=-1)
        return functional.silu(gate) * up
    return functional.gelu(inner, approximate="none" if spec.family == "bert" else "tanh")


PYTORCH = Functions(_normalize, exact_softmax, _activate)
FUNCTIONS: Mapping[Approx, Functions] = {
    which: PYTORCH if which == "exact" else additive.functions(Settings(which))
    for which in get_args(Approx)
}


def plain_function(op: NonlinearOp, x: Tensor, approx: Approx) -> Tensor:
    """The function called `op`, or what stands in for it, in x's type."""
    if approx != "exact":
        return additive.function(op, Settings(approx)).plain(x)
    match op:
        case "gelu":
            return functional.gelu(x, approximate="tanh")
        case "layernorm":
            return _normalize(x, eps=1e-5, rms=False)
        case _:
            return apply_nonlinear(op, x)
