"""The parts that families share."""

from protocols.transformer.checkpoint.tensors import Read
from protocols.transformer.spec import TransformerSpec
from protocols.transformer.weights import Linear, Norm


def read_linear(read: Read, at: str, rows: int, columns: int) -> Linear:
    """`at`.weight (rows, columns) with its bias."""
    return Linear(read(f"{at}.weight", rows, columns), read(f"{at}.bias", rows))


def read_norm(spec: TransformerSpec, read: Read, at: str) -> Norm:
    """`at`.weight of width d_model, and its bias unless the family has RMSNorm."""
    shape = (spec.d_model,)
    bias = None if spec.rms_norm else read(f"{at}.bias", *shape)
    return Norm(read(f"{at}.weight", *shape), bias, spec.norm_eps)
