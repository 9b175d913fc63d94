"""How P1 picks a token from logits that it sees in random order."""

import torch
from torch import Tensor

from protocols.arith.prg import Prg
from protocols.workload import Sampling


class Picker:
    """Greedy, or a draw by temperature, top-k and top-p.

    A draw depends on the ranks of the logits and never on their order, so that one seed picks the
    same tokens under every permutation.
    """

    def __init__(self, sampling: Sampling) -> None:
        self._sampling = sampling
        self._stream = Prg.root(sampling.seed, "sampling").stream("draws")

    def __call__(self, logits: Tensor) -> int:
        """Position of the picked entry of logits, float64 (n,)."""
        rule = self._sampling
        if rule.temperature == 0:
            return int(logits.argmax())
        ranked, positions = logits.sort(descending=True, stable=True)
        weights = torch.softmax(ranked[: rule.top_k] / rule.temperature, dim=0)
        reached = weights.cumsum(0) - weights  # probability of all that rank before
        weights = torch.where(reached < rule.top_p, weights, 0.0)
        draw = self._uniform() * weights.sum()
        rank = int(torch.searchsorted(weights.cumsum(0), draw, right=True))
        return int(positions[min(rank, int(weights.count_nonzero()) - 1)])

    def _uniform(self) -> Tensor:
        """One uniform number in [0, 1) with 53 bits."""
        bits = self._stream.int64(1)[0] & ((1 << 53) - 1)
        return bits.to(torch.float64) * 2.0**-53
