"""What a run may choose of the plaintext model."""

from dataclasses import dataclass, field

from baselines.additive.options import Approx
from protocols.options import doc


@dataclass(frozen=True)
class PlaintextOptions:
    """The system's options."""

    approx: Approx = field(
        default="exact",
        metadata=doc(
            "the model's own functions, or what a system on shares puts in their place: its error alone",
            newer=True,
        ),
    )
