"""What a run may choose of linear layers under homomorphic encryption."""

from dataclasses import dataclass, field
from typing import Literal

from protocols.options import doc

MIN_PRECISION, MAX_PRECISION = 10, 16
MAX_PLAIN_BITS = 37  # beyond, the rounding of a reply reaches the product: see `cipher`

Scheme = Literal["bfv", "ckks"]


@dataclass(frozen=True)
class HeLinearOptions:
    """The system's options. Raises ValueError."""

    scheme: Scheme = field(
        default="bfv",
        metadata=doc(
            "homomorphic encryption: bfv takes less of P0's time, ckks fewer bytes", newer=True
        ),
    )
    precision: int = field(
        default=11,
        metadata=doc(
            "bits of a product: its relative rms error is 2^-precision; more need larger messages",
            f"a whole number from {MIN_PRECISION} to {MAX_PRECISION}",
        ),
    )
    plain_bits: int | None = field(
        default=None,
        metadata=doc(
            "bits of BFV's plaintext modulus; null: as few as precision needs",
            f"null, or a whole number from 2 to {MAX_PLAIN_BITS}",
        ),
    )
    shuffle: bool = field(
        default=False,
        metadata=doc(
            "P1 sees a feed-forward block's inner values in an order fresh for each token"
        ),
    )

    def __post_init__(self) -> None:
        if not MIN_PRECISION <= self.precision <= MAX_PRECISION:
            raise ValueError(
                f"precision must be a whole number from {MIN_PRECISION} to {MAX_PRECISION}, "
                f"got {self.precision}: below, a layer is not right within its tolerance"
            )
        if self.plain_bits is not None and not 2 <= self.plain_bits <= MAX_PLAIN_BITS:
            raise ValueError(
                f"plain_bits must be null or a whole number from 2 to {MAX_PLAIN_BITS}, "
                f"got {self.plain_bits}"
            )
        if self.plain_bits is not None and self.scheme != "bfv":
            raise ValueError(f"plain_bits is BFV's: scheme={self.scheme} has no plaintext modulus")
