"""A small model of each family, rows of it, and how far two results are apart."""

import torch
from torch import Tensor

from protocols.inputs import layer_input
from protocols.transformer.spec import Family, TransformerSpec

FAMILIES: tuple[Family, ...] = ("gpt2", "bert", "llama", "glm")
ROTARY: tuple[Family, ...] = ("llama", "glm")


def small(family: Family) -> TransformerSpec:
    return TransformerSpec(
        name=f"small-{family}",
        family=family,
        n_layers=3,
        d_model=48,
        n_heads=3,
        d_ff=80,
        vocab=100,
        max_positions=64,
        norm_eps=1e-3,  # large enough to show in the result when it is ignored
    )


def tokens(spec: TransformerSpec, count: int, seed: int = 3) -> Tensor:
    return layer_input(spec, count, count, seed).x


def error(actual: Tensor, expected: Tensor) -> float:
    assert actual.shape == expected.shape
    assert actual.dtype == torch.float64
    return float((actual - expected).abs().max())
