"""How P1 picks a token."""

import pytest
import torch

from protocols.token_sampling import Picker
from protocols.workload import Sampling


@pytest.mark.parametrize(
    ("sampling", "allowed"),
    [
        (Sampling(), {3}),
        (Sampling(temperature=5.0, top_k=2), {3, 0}),
        (Sampling(temperature=1.0, top_p=0.6), {3}),
        (Sampling(temperature=1.0, top_p=0.8), {3, 0}),
        (Sampling(temperature=5.0), {0, 1, 2, 3}),
    ],
    ids=str,
)
def test_picks_come_from_the_likeliest_whatever_their_order(
    sampling: Sampling, allowed: set[int]
) -> None:
    """Probabilities at temperature 1 are about 0.65 (3), 0.24 (0), 0.09, 0.03."""
    logits = torch.tensor([1.0, -1.0, 0.0, 2.0], dtype=torch.float64)
    order = torch.tensor([2, 0, 3, 1])
    straight, shuffled = Picker(sampling_with(sampling)), Picker(sampling_with(sampling))
    picks = [straight(logits) for _ in range(300)]
    assert picks == [int(order[shuffled(logits[order])]) for _ in range(300)]
    assert set(picks) == allowed


def sampling_with(sampling: Sampling) -> Sampling:
    return Sampling(sampling.temperature, sampling.top_k, sampling.top_p, seed=9)
