"""The options of the system."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

Approx = Literal["quad+2quad", "quad+2relu", "exact"]
Truncation = Literal["local", "exact"]


@dataclass(frozen=True)
class Settings:
    """What a run may choose.

    approx: the stand-ins for GeLU and softmax. `quad+2quad` and `quad+2relu` are MPCFormer's;
        `exact` is GeLU by tanh and softmax by a limit exponential, as CrypTen computes them.
    reuse_weight_masks: False opens every matrix at every product, as CrypTen does. True opens weights
        once in prepare, and cached rows of attention when they are new.
    truncation: `local`, or `exact` (`truncate`, `wide`).
    """

    approx: Approx = "quad+2quad"
    reuse_weight_masks: bool = False
    truncation: Truncation = "local"

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> "Settings":
        """From configuration values. Raises ValueError for one that is none of the above."""
        settings = cls(**options)
        if settings.approx not in get_args(Approx):
            raise ValueError(f"approx must be one of {get_args(Approx)}, got {settings.approx!r}")
        if settings.truncation not in get_args(Truncation):
            raise ValueError(
                f"truncation must be one of {get_args(Truncation)}, got {settings.truncation!r}"
            )
        return settings

    @property
    def exact_truncation(self) -> bool:
        """Whether no truncation may fail."""
        return self.truncation == "exact"
