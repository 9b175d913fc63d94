"""What a run may choose of PermLLM."""

import math
from dataclasses import dataclass, field
from typing import Literal

from protocols.options import doc

Lookups = Literal["bfv", "ot"]


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
    selection: Lookups = field(
        default="bfv",
        metadata=doc(
            "how P1 gets its token: bfv, homomorphic encryption; ot, oblivious transfer with a table"
            " that the dealer locks"
        ),
    )
    weight_bits: Literal[8, 16, 32] = field(
        default=16,
        metadata=doc(
            "bits of P0's integer weights; 8: with one scale a row, checked against the model with"
            " these weights"
        ),
    )
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
    material_store: Literal["memory", "disk"] = field(
        default="memory",
        metadata=doc(
            "where each role keeps what the offline phase leaves for the online phase: of a long prompt"
            " it is many gigabytes"
        ),
    )
    store_dir: str | None = field(
        default=None,
        metadata=doc(
            "folder for weights_store=disk and material_store=disk",
            "null, or a folder",
            no_effect=True,
        ),
    )
    mask_holder: Literal["user", "dealer"] = field(
        default="user",
        metadata=doc("who keeps the masked weights W - U: P1, or P2, with a seed for P1 instead"),
    )
    variant: Literal["paper", "fused"] = field(
        default="paper",
        metadata=doc(
            "the paper's protocol, or the same in fewer hops: steps of a decoded token share messages"
        ),
    )
    refresh: Literal["full", "bounded", "scores"] = field(
        default="full",
        metadata=doc(
            "fused alone: a token deals all slots of the scores anew; or refresh_slots of them; or all,"
            " but the sum of the values goes the paper's way (two hops more, less dealt)"
        ),
    )
    refresh_slots: int = field(
        default=16,
        metadata=doc("refresh=bounded alone: slots dealt anew for a token", "a whole number ≥ 2"),
    )
    refresh_limit_mb: float = field(
        default=256.0,
        metadata=doc(
            "fused alone: most megabytes that the dealer may send offline for the attention of a"
            " decoded token, in the mean of an answer",
            "a number > 0",
            no_effect=True,
        ),
    )

    def __post_init__(self) -> None:
        if self.variant == "fused" and self.domain != "ring64":
            raise ValueError("variant=fused needs domain=ring64: its masks are uniform words")
        if self.weight_bits == 8 and self.domain != "ring64":
            raise ValueError("weight_bits=8 needs domain=ring64: float32 weights are not rounded")
        if self.refresh_slots < 2:
            raise ValueError(f"refresh_slots must be a whole number ≥ 2, got {self.refresh_slots}")
        if not 0 < self.refresh_limit_mb < math.inf:
            raise ValueError(f"refresh_limit_mb must be a number > 0, got {self.refresh_limit_mb}")
        if not 0 < self.mask_scale < math.inf:
            raise ValueError(f"mask_scale must be a number > 0, got {self.mask_scale}")
        if self.offline_batch is not None and self.offline_batch < 1:
            raise ValueError(
                f"offline_batch must be null or a whole number ≥ 1, got {self.offline_batch}"
            )
        if ("disk" in (self.weights_store, self.material_store)) != (self.store_dir is not None):
            raise ValueError(
                "store_dir must name a folder with weights_store=disk or material_store=disk, "
                "else be null"
            )
        if self.mask_holder == "dealer" and self.domain != "ring64":
            raise ValueError(
                "mask_holder=dealer needs domain=ring64: float32 masks hide too little"
            )


def slots_dealt(options: PermLLMOptions) -> int | None:
    """How many slots a token deals anew, of those that stood before; None: all."""
    return options.refresh_slots if options.refresh == "bounded" else None
