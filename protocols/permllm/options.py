"""What a run may choose of PermLLM."""

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class PermLLMOptions:
    """domain: ring64, or the authors' float32 with masks of `mask_scale` times a tensor's scale.
    weight_bits: of P0's integer weights. offline_batch: decode steps that the offline pass walks at
    once; None: as many as their material has room for, 32 at most. offline_ahead: the next batch's
    offline pass runs while the online pass waits for the network. weights_store: where the masked
    weights lie at the role that holds them, `mask_holder`; disk: in the folder `store_dir`.
    Raises ValueError."""

    domain: Literal["ring64", "float32"] = "ring64"
    mask_scale: float = 10.0
    weight_bits: Literal[16, 32] = 16
    offline_batch: int | None = None
    offline_ahead: bool = False
    weights_store: Literal["memory", "disk"] = "memory"
    store_dir: str | None = None
    mask_holder: Literal["user", "dealer"] = "user"

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
