"""The highest set bit of a shared positive number, as a sum of public constants over its position.

All comparisons with powers of two are one `compare.below`, with one opening for all of them:
t_j = [x < 2^j] is 0 up to the highest set bit and 1 above it, and for constants K_j

    K_h = K_(high−1) + Σ_(low < j < high) t_j·(K_(j−1) − K_j)        h the highest set bit

is local. 1 comparison mask and 55·(high − low − 1) products an element, 12 hops. Nobody learns anything.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch

from baselines.shamir.compare import below, below_cost
from baselines.shamir.context import Context
from baselines.shamir.cost import Cost
from baselines.shamir.group import Group
from baselines.shamir.share import Share
from protocols.arith import field61
from protocols.arith.field61 import P


@dataclass(frozen=True)
class Window:
    """Residues from 2^low to 2^high are told apart; those below count as 2^low, those above as
    2^(high − 1)."""

    low: int
    high: int

    @property
    def positions(self) -> range:
        """Of the highest set bit."""
        return range(self.low, self.high)

    @property
    def thresholds(self) -> list[int]:
        """Powers of two between them."""
        return [1 << j for j in range(self.low + 1, self.high)]


async def highest(
    ctx: Context, x: Share, window: Window, tables: Sequence[Sequence[int]]
) -> list[Share]:
    """table[h − low] for the highest set bit h of each element of the vector x > 0, at scale 0."""
    under = (await below(ctx, x, window.thresholds)).value
    found = []
    for table in tables:
        steps = torch.tensor([(a - b) % P for a, b in pairwise(table)])
        weighted = field61.total(field61.mul(under, steps[:, None]), 0)
        found.append(Share(field61.add(weighted, table[-1]), 0))
    return found


def highest_cost(group: Group, elements: int, window: Window) -> Cost:
    """See the module."""
    return below_cost(group, elements, len(window.thresholds))
