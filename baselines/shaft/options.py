"""What a run may choose of SHAFT."""

from dataclasses import dataclass, field
from typing import ClassVar

from baselines.additive import options
from baselines.additive.options import APPROX_MEANING, Approx
from protocols.options import doc


@dataclass(frozen=True)
class ShaftOptions(options.Settings):
    """The system's options. Norms make five Newton steps where CrypTen makes three."""

    rsqrt_steps: ClassVar[int] = 5

    approx: Approx = field(default="fourier", metadata=doc(APPROX_MEANING))
