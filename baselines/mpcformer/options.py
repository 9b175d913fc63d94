"""What a run may choose of MPCFormer."""

from dataclasses import dataclass, field
from typing import Literal

from protocols.options import doc

Approx = Literal["quad+2quad", "quad+2relu", "exact"]
Truncation = Literal["local", "exact"]


VARIANTS = (
    "false is what the paper measured: CrypTen opens every weight at every product, 3,073 MB a layer; "
    "true opens each once and is the fair rival, for anybody would do so today."
)


@dataclass(frozen=True)
class Settings:
    """The system's options.

    approx: `exact` is GeLU by tanh and softmax by a limit exponential.
    reuse_weight_masks: cached rows of attention are then opened when they are new.
    truncation: see `truncate` and `wide`.
    """

    approx: Approx = field(
        default="quad+2quad",
        metadata=doc(
            "stand-ins for GeLU and softmax: two of MPCFormer's, or CrypTen's approximations (exact)"
        ),
    )
    reuse_weight_masks: bool = field(
        default=False,
        metadata=doc(
            "open the masked weights once in prepare, and not at every product as CrypTen",
            side_by_side=VARIANTS,
        ),
    )
    truncation: Truncation = field(
        default="local",
        metadata=doc("local: free of messages, wrong with a small probability; exact: never wrong"),
    )

    @property
    def exact_truncation(self) -> bool:
        """Whether no truncation may fail."""
        return self.truncation == "exact"
