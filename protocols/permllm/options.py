"""What a run may choose of PermLLM."""

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class PermLLMOptions:
    """domain: ring64, or the authors' float32 with masks of `mask_scale` times a tensor's scale.
    weight_bits: of P0's integer weights. Raises ValueError."""

    domain: Literal["ring64", "float32"] = "ring64"
    mask_scale: float = 10.0
    weight_bits: Literal[16, 32] = 16

    def __post_init__(self) -> None:
        if not 0 < self.mask_scale < math.inf:
            raise ValueError(f"mask_scale must be a number > 0, got {self.mask_scale}")
