"""What a run may choose of CKKS."""

from dataclasses import dataclass, field
from typing import Literal

from protocols.options import doc

Degree = Literal["auto", "8192", "16384", "32768"]


@dataclass(frozen=True)
class CkksOptions:
    """The system's options."""

    degree: Degree = field(
        default="auto",
        metadata=doc("degree of the ring; auto: 8192 for a matrix, 16384 for anything else"),
    )
    scale_bits: int | None = field(
        default=None,
        metadata=doc(
            "bits of the scale at which P1 encrypts; null: chosen for the workload",
            "a whole number ≥ 1, or null",
        ),
    )
    reencrypt: bool = field(
        default=True,
        metadata=doc(
            "where levels run out P1 encrypts anew what P0 sends it masked; "
            "false: what is deeper is refused"
        ),
    )

    def __post_init__(self) -> None:
        if self.scale_bits is not None and self.scale_bits < 1:
            raise ValueError(f"scale_bits is {self.scale_bits}, not a whole number ≥ 1, or null")
