"""What a run may choose of Shamir shares."""

from dataclasses import dataclass, field

from baselines.shamir.group import Group
from protocols.options import doc
from protocols.party import ALL_ROLES

FEWEST = 3  # roles of a run


@dataclass(frozen=True)
class ShamirOptions:
    """The system's options."""

    parties: int = field(
        default=3,
        metadata=doc(
            "parties that compute, n",
            f"{FEWEST} to {len(ALL_ROLES)}, with a dealer {FEWEST - 1} to {len(ALL_ROLES) - 1}",
        ),
    )
    threshold: int | None = field(
        default=None,
        metadata=doc(
            "how many of them may pool what they see and learn nothing, t",
            "null: the largest below n/2; at least 1, below n/2, with a dealer below n",
        ),
    )
    dealer: bool = field(
        default=False,
        metadata=doc("one more role deals all randomness offline, and may not collude"),
    )

    def __post_init__(self) -> None:
        fewest, most = FEWEST - self.dealer, len(ALL_ROLES) - self.dealer
        if not fewest <= self.parties <= most:
            raise ValueError(f"parties must be {fewest} to {most}, got {self.parties}")
        t, largest = self.group.t, self.parties - 1
        if self.dealer and not 1 <= t <= largest:
            raise ValueError(f"threshold must be 1 to parties - 1 = {largest}, got {t}")
        if not self.dealer and not 1 <= t <= largest // 2:
            raise ValueError(
                f"threshold must be 1 to {largest // 2} for {self.parties} parties without a dealer, "
                f"got {t}: a product of two shares has degree {2 * t}, which takes {2 * t + 1} parties "
                f"to open; dealer=true allows up to {largest}"
            )

    @property
    def group(self) -> Group:
        """The parties and their threshold."""
        t = max(1, (self.parties - 1) // 2) if self.threshold is None else self.threshold
        return Group(self.parties, t, self.dealer)
