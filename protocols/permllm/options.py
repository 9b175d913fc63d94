"""What a run may choose of PermLLM."""

import math
from dataclasses import dataclass, field
from typing import Literal

from protocols.options import doc


@dataclass(frozen=True)
class PermLLMOptions:
    """The system's options. Raises ValueError."""

    domain: Literal["ring64", "float32"] = field(
        default="ring64",
        metadata=doc("shares in Z_2^64, or the authors' float32, whose masks hide less"),
    )
    mask_scale: float = field(
        default=10.0,
        metadata=doc("float32 alone: size of a mask, in multiples of its tensor's", "a number > 0"),
    )
    weight_bits: Literal[16, 32] = field(default=16, metadata=doc("bits of P0's integer weights"))

    def __post_init__(self) -> None:
        if not 0 < self.mask_scale < math.inf:
            raise ValueError(f"mask_scale must be a number > 0, got {self.mask_scale}")
