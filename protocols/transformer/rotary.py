"""Rotary position embeddings (Su et al., RoFormer, arXiv:2104.09864) as a public linear map.

    rotated = x ⊙ cos + rotate_half(x) ⊙ sin

`rotate_half` only permutes and negates coordinates, so whoever holds an additive share of x can
apply it, and the public cos and sin, to the share alone.

- LLaMA: coordinate i of a head turns with coordinate i + d_head/2, by position·theta^(-2i/d_head).
- GLM (ChatGLM-6B, `position_encoding_2d`): the first half of a head turns by the position, the
  second by the block position, each as a LLaMA head of width d_head/2. `model.positions` says which
  they are.
"""

import torch
from torch import Tensor

from protocols.transformer.spec import TransformerSpec


def rotary_tables(
    spec: TransformerSpec, positions: Tensor, block_positions: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """cos and sin, float64 (q, d_head), for int64 `positions` (q,) and, for GLM, block positions.

    `block_positions` (q,) defaults to zeros; LLaMA does not use them. Raises ValueError for a
    family without rotary positions.
    """
    axes = [positions]
    if _groups(spec) == 2:
        axes.append(torch.zeros_like(positions) if block_positions is None else block_positions)
    width = spec.d_head // len(axes)
    angles = torch.cat([_angles(axis, width, spec.rope_theta) for axis in axes], dim=-1)
    return angles.cos(), angles.sin()


def rotate_half(x: Tensor, spec: TransformerSpec) -> Tensor:
    """The signed permutation (a, b) → (-b, a) of the halves of each rotated part of a head.

    x: any signed dtype (..., d_head); the result has its shape and dtype. Negation wraps, so ring
    elements may be passed. Raises ValueError for a family without rotary positions.
    """
    a, b = x.reshape(*x.shape[:-1], _groups(spec), 2, -1).unbind(-2)
    return torch.stack((-b, a), dim=-2).flatten(-3)


def _groups(spec: TransformerSpec) -> int:
    """How many parts of a head rotate on their own."""
    if not spec.rotary:
        raise ValueError(f"{spec.family} has no rotary positions")
    return 2 if spec.family == "glm" else 1


def _angles(positions: Tensor, width: int, base: float) -> Tensor:
    """Angles in radians, float64 (q, width); columns i and i + width/2 are equal."""
    exponents = torch.arange(0, width, 2, dtype=torch.float64, device=positions.device) / width
    angles = positions.double()[:, None] * base**-exponents
    return torch.cat((angles, angles), dim=-1)
