"""How large values may be for a system to compute with them: what it declares, for checks and messages.

The table of all systems stands in METHODOLOGY, "Values out of range".
"""

from dataclasses import dataclass
from typing import Literal

Quantity = Literal[
    "norm input", "norm mean", "norm deviation", "score", "inner value", "weight peak"
]


@dataclass(frozen=True)
class Bound:
    """The magnitudes from `low` to below `high` that a system computes with.

    of: what goes into a norm, its mean in a row and its standard deviation, what goes into a softmax, what
    goes into the activation of a feed-forward block; or of a matrix its largest weight over the deviation
    of the others. remedy: what moves the bound.
    """

    of: Quantity
    high: float
    low: float = 0.0
    remedy: str = ""
