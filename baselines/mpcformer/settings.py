"""What a run may choose of MPCFormer."""

from dataclasses import dataclass
from typing import Literal

Approx = Literal["quad+2quad", "quad+2relu", "exact"]
Truncation = Literal["local", "exact"]


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
    reuse_weight_masks: bool = False
    truncation: Truncation = "local"

    @property
    def exact_truncation(self) -> bool:
        """Whether no truncation may fail."""
        return self.truncation == "exact"
