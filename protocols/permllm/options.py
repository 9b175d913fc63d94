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
    offline_batch: int | None = field(
        default=None,
        metadata=doc(
            "decode steps that one offline pass makes ready; null: as many as memory allows",
            "null, or a whole number ≥ 1",
        ),
    )
    offline_ahead: bool = field(
        default=False,
        metadata=doc(
            "the next batch's offline pass runs while the online phase waits for messages"
        ),
    )
    weights_store: Literal["memory", "disk"] = field(
        default="memory",
        metadata=doc("where the masked weights are kept, by the role that has them"),
    )
    store_dir: str | None = field(
        default=None,
        metadata=doc("folder for weights_store=disk", "null, or a folder", no_effect=True),
    )
    mask_holder: Literal["user", "dealer"] = field(
        default="user",
        metadata=doc("who keeps the masked weights W - U: P1, or P2, with a seed for P1 instead"),
    )

    def __post_init__(self) -> None:
        if not 0 < self.mask_scale < math.inf:
            raise ValueError(f"mask_scale must be a number > 0, got {self.mask_scale}")
        if self.offline_batch is not None and self.offline_batch < 1:
            raise ValueError(
                f"offline_batch must be null or a whole number ≥ 1, got {self.offline_batch}"
            )
        if (self.weights_store == "disk") != (self.store_dir is not None):
            raise ValueError("store_dir must name a folder with weights_store=disk, else be null")
        if self.mask_holder == "dealer" and self.domain != "ring64":
            raise ValueError(
                "mask_holder=dealer needs domain=ring64: float32 masks hide too little"
            )
