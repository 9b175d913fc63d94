"""What a run may choose of MPCFormer."""

from dataclasses import dataclass, field
from typing import Literal

from protocols.options import SIDE_BY_SIDE

Approx = Literal["quad+2quad", "quad+2relu", "exact"]
Truncation = Literal["local", "exact"]


VARIANTS = (
    "false is what the paper measured: CrypTen opens every weight at every product, 3,073 MB a layer; "
    "true opens each once and is the fair rival, for anybody would do so today."
)


@dataclass(frozen=True)
class Settings:
    """The system's options.

    approx: the stand-ins for GeLU and softmax. `quad+2quad` and `quad+2relu` are MPCFormer's;
        `exact` is GeLU by tanh and softmax by a limit exponential, as CrypTen computes them.
    reuse_weight_masks: False opens every matrix at every product, as CrypTen does. True opens weights
        once in prepare, and cached rows of attention when they are new.
    truncation: `local`, or `exact` (`truncate`, `wide`).
    """

    approx: Approx = "quad+2quad"
    reuse_weight_masks: bool = field(default=False, metadata={SIDE_BY_SIDE: VARIANTS})
    truncation: Truncation = "local"

    @property
    def exact_truncation(self) -> bool:
        """Whether no truncation may fail."""
        return self.truncation == "exact"
