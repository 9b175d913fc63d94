"""What a run may choose of a system on additive shares."""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from protocols.options import doc

Approx = Literal["quad+2quad", "quad+2relu", "exact", "puma", "fourier", "friendly"]
Truncation = Literal["local", "exact"]

APPROX_MEANING = (
    "stand-ins for GeLU, softmax and norm: two of MPCFormer's, CrypTen's approximations (exact), Puma's, "
    "SHAFT's (fourier), or ReLU and a norm without division (friendly)"
)
VARIANTS = (
    "false is what the paper measured: CrypTen opens every weight at every product, 3,073 MB a layer; "
    "true opens each once and is the fair rival, for anybody would do so today."
)


@dataclass(frozen=True)
class Settings:
    """The options that all systems on additive shares have.

    approx: see `functions`; `exact` is GeLU by tanh and softmax by a limit exponential.
    reuse_weight_masks: cached rows of attention are then opened when they are new.
    truncation: see `truncate` and `product_truncation`.
    """

    rsqrt_steps: ClassVar[int] = 3  # of Newton's iteration, in norms

    approx: Approx = field(
        default="exact",
        metadata=doc(APPROX_MEANING),
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
