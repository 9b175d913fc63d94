"""What a run may choose of Puma."""

from dataclasses import dataclass, field
from typing import Literal

from protocols.options import doc

Approx = Literal["puma", "quad+2quad", "quad+2relu", "friendly"]


@dataclass(frozen=True)
class PumaOptions:
    """The system's options."""

    approx: Approx = field(
        default="puma",
        metadata=doc(
            "stand-ins for GeLU, softmax and norm: Puma's own, MPCFormer's two, or the friendly ones",
            newer=True,
        ),
    )
