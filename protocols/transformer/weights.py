"""The weights of one transformer layer or linear layer, and synthetic ones drawn from a seed.

Synthetic weights are public: they stand in for a trained model when only speed and exactness are
measured. Each value is the scaled sum of four uniform 16-bit integers (Irwin-Hall, within 3.46
standard deviations), because integer sums are the same to the bit on every machine, while the
logarithms and cosines behind `torch.randn` change with the instruction set.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from torch import Tensor, empty, ones

from protocols.transformer.spec import TransformerSpec

MATRIX_STD = 0.02
GAIN_STD = 0.1
_UNIT_STD = (4 * (2**32 - 1) / 12) ** 0.5  # of a sum of four uniform int16
# Values drawn at a time, few enough to stay in the L2 cache. It is part of what the values are.
_CHUNK = 1 << 15


@dataclass(frozen=True)
class Linear:
    """y = x·weightᵀ + bias. `weight` is float32 (out, in), `bias` float32 (out,) or None."""

    weight: Tensor
    bias: Tensor | None


@dataclass(frozen=True)
class Norm:
    """LayerNorm with float32 `gain` and `bias` of shape (d,), or RMSNorm where `bias` is None."""

    gain: Tensor
    bias: Tensor | None
    eps: float


@dataclass(frozen=True)
class LayerWeights:
    """One layer. `qkv` holds all rows of q, then of k, then of v, each head after head.

    `up` of a gated feed-forward block holds the gate's rows, then the up projection's. Widths:
    qkv (d_model + 2·d_kv, d_model), out (d_model, d_model), up (d_ff or 2·d_ff, d_model),
    down (d_model, d_ff).
    """

    attn_norm: Norm
    qkv: Linear
    out: Linear
    ffn_norm: Norm
    up: Linear
    down: Linear


def fold(norm: Norm | None, linear: Linear) -> Linear:
    """W·(g∘n + b) + c as one linear layer of n: (W·diag(g), W·b + c)."""
    if norm is None:
        return linear
    bias = linear.bias
    if norm.bias is not None:
        moved = linear.weight @ norm.bias
        bias = moved if bias is None else bias + moved
    return Linear(linear.weight * norm.gain, bias)


def folded_matrices(spec: TransformerSpec, weights: LayerWeights) -> Iterator[tuple[str, Linear]]:
    """The four matrices by name, each with the gain and bias of the norm that stands before it; folded one
    after the other, as they are asked for."""
    norm1, norm2 = weights.attn_norm, weights.ffn_norm
    yield "qkv", fold(norm1 if spec.norm_first else None, weights.qkv)
    yield "out", weights.out
    yield "up", fold(norm2 if spec.norm_first else norm1, weights.up)
    yield "down", weights.down


def layer_shapes(spec: TransformerSpec) -> dict[str, tuple[int, int]]:
    """Outputs and inputs of the four matrices."""
    d, inner = spec.d_model, spec.d_ff * (2 if spec.gated else 1)
    return {"qkv": (d + 2 * spec.d_kv, d), "out": (d, d), "up": (inner, d), "down": (d, spec.d_ff)}


def scaled_rows(linear: Linear, rows: int, factor: float) -> Linear:
    """The first `rows` outputs times `factor`."""
    if factor == 1.0:
        return linear
    scale = ones(linear.weight.shape[0])
    scale[:rows] = factor
    bias = None if linear.bias is None else linear.bias * scale
    return Linear(linear.weight * scale[:, None], bias)


def public_stream(*words: object) -> np.random.SFC64:
    """A fast generator seeded by a hash of `words` (str, int and tuples). Never for secrets.

    numpy fixes the streams of its bit generators for all versions, machines and thread counts.
    """
    digest = hashlib.blake2b(repr(words).encode(), digest_size=16).digest()
    return np.random.SFC64(int.from_bytes(digest, "little"))


def synthetic_layer(spec: TransformerSpec, seed: int, index: int = 0) -> LayerWeights:
    """The weights of layer `index` of a made-up model of `spec`'s shape.

    They depend on `seed`, `index`, and each tensor's name and shape alone. Matrices and biases have
    mean 0 and standard deviation 0.02, gains mean 1 and 0.1; LLaMA has no biases.
    """

    def linear(name: str, rows: int, columns: int) -> Linear:
        weight = synthetic_tensor(f"{name}.weight", (rows, columns), seed, index)
        if spec.family == "llama":
            return Linear(weight, None)
        return Linear(weight, synthetic_tensor(f"{name}.bias", (rows,), seed, index))

    d, inner = spec.d_model, spec.d_ff
    return LayerWeights(
        attn_norm=synthetic_norm("attn_norm", spec, seed, index),
        qkv=linear("qkv", d + 2 * spec.d_kv, d),
        out=linear("out", d, d),
        ffn_norm=synthetic_norm("ffn_norm", spec, seed, index),
        up=linear("up", 2 * inner if spec.gated else inner, d),
        down=linear("down", d, inner),
    )


def synthetic_linear(d_out: int, d_in: int, seed: int) -> Linear:
    """A layer of its own, with a bias: mean 0 and standard deviation 0.02."""
    weight = synthetic_tensor("linear.weight", (d_out, d_in), seed)
    return Linear(weight, synthetic_tensor("linear.bias", (d_out,), seed))


def synthetic_norm(name: str, spec: TransformerSpec, seed: int, index: int = 0) -> Norm:
    """A norm of width d_model: gains around 1, biases around 0 (none for RMSNorm)."""
    shape = (spec.d_model,)
    gain = synthetic_tensor(f"{name}.gain", shape, seed, index, GAIN_STD).add_(1.0)
    bias = None if spec.rms_norm else synthetic_tensor(f"{name}.bias", shape, seed, index)
    return Norm(gain, bias, spec.norm_eps)


def synthetic_tensor(
    name: str, shape: tuple[int, ...], seed: int, index: int = 0, std: float = MATRIX_STD
) -> Tensor:
    """float32 of `shape`, a bell curve of mean 0, the same wherever the arguments are."""
    return _bell(public_stream("weights", name, shape, seed, index), shape, std)


def _bell(stream: np.random.SFC64, shape: tuple[int, ...], std: float) -> Tensor:
    """float32 values of a bell curve of standard deviation `std` and mean -5e-5·std, in place."""
    tensor = empty(shape)
    flat = tensor.view(-1).numpy()
    for start in range(0, flat.size, _CHUNK):
        out = flat[start : start + _CHUNK]
        parts = stream.random_raw(out.size).view(np.int16).reshape(4, -1)
        np.add(parts[0], parts[1], out=out, dtype=np.float32)
        out += parts[2]
        out += parts[3]
        out *= np.float32(std / _UNIT_STD)
    return tensor
