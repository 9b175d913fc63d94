"""What a run may choose of MPCFormer."""

from dataclasses import dataclass, field

from baselines.additive import options
from baselines.additive.options import APPROX_MEANING, Approx
from protocols.options import doc


@dataclass(frozen=True)
class Settings(options.Settings):
    """The system's options."""

    approx: Approx = field(default="quad+2quad", metadata=doc(APPROX_MEANING))
