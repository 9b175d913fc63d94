"""What a run may choose of FSS."""

from dataclasses import dataclass, field
from typing import Literal

from protocols.options import doc

LOWEST_BITS, HIGHEST_BITS = 40, 64


@dataclass(frozen=True)
class FssOptions:
    """The system's options. Raises ValueError where they contradict each other."""

    ring_bits: int = field(
        default=50,
        metadata=doc("bits of every shared value; SIGMA has 50 for BERT-base, 48 for Llama-2"),
    )
    key_store: Literal["memory", "disk"] = field(
        default="memory",
        metadata=doc("where P0 and P1 keep the keys from the offline phase to the online phase"),
    )
    store_dir: str | None = field(
        default=None,
        metadata=doc("folder for key_store=disk", "null, or a folder", no_effect=True),
    )

    def __post_init__(self) -> None:
        if not LOWEST_BITS <= self.ring_bits <= HIGHEST_BITS:
            raise ValueError(
                f"ring_bits must be from {LOWEST_BITS} to {HIGHEST_BITS}, got {self.ring_bits}"
            )
        if (self.key_store == "disk") != (self.store_dir is not None):
            raise ValueError("store_dir must name a folder with key_store=disk, else be null")
