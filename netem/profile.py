"""What a link does to a message: delay, rate, jitter, loss."""

from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True)
class LinkProfile:
    """One direction of a link.

    delay_s: one-way propagation delay in seconds.
    rate_bit_s: line rate in bits a second; None is unlimited.
    jitter_s: the delay varies uniformly by ± this much (seeded); order is kept.
    loss: fraction of packets lost; only a packet-level shaper can do it.
    queue_bytes: packet queue in bytes for a packet-level shaper; None derives it from the
        bandwidth-delay product.
    """

    delay_s: float = 0.0
    rate_bit_s: float | None = None
    jitter_s: float = 0.0
    loss: float = 0.0
    queue_bytes: int | None = None

    def __post_init__(self) -> None:
        if self.delay_s < 0 or self.jitter_s < 0:
            raise ValueError("delay_s and jitter_s must be ≥ 0")
        if self.jitter_s > self.delay_s:
            raise ValueError(
                f"jitter_s must be ≤ delay_s = {self.delay_s:g}, got {self.jitter_s:g}"
            )
        if self.rate_bit_s is not None and self.rate_bit_s <= 0:
            raise ValueError(f"rate_bit_s must be > 0, got {self.rate_bit_s:g}")
        if not 0 <= self.loss < 1:
            raise ValueError(f"loss must be in [0, 1), got {self.loss:g}")

    @classmethod
    def rtt(
        cls, rtt_s: float, rate_bit_s: float | None, jitter_s: float = 0.0, loss: float = 0.0
    ) -> Self:
        """One direction of a symmetric link with round-trip time `rtt_s`."""
        return cls(delay_s=rtt_s / 2, rate_bit_s=rate_bit_s, jitter_s=jitter_s, loss=loss)

    @property
    def shaped(self) -> bool:
        """Whether the link does anything to a message at all."""
        return self != LinkProfile()

    def transfer_s(self, size_bytes: int) -> float:
        """Ideal time from an idle link's first byte in to its last byte out, in seconds."""
        serial = 0.0 if self.rate_bit_s is None else size_bytes * 8 / self.rate_bit_s
        return serial + self.delay_s
