"""How wrong an answer is."""

import math

import torch

from harness.measure.verify import relative_error, relative_rms


def test_a_large_coordinate_hides_no_error_of_the_others() -> None:
    right = torch.randn(3, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    got = right * 1.05
    got[:, 5] = right[:, 5] = 20_000.0
    assert relative_rms(got, right) < 1e-4
    assert 0.04 < relative_error(got, right) < 0.06


def test_an_error_of_a_large_coordinate_counts_too() -> None:
    right = torch.ones(2, 64, dtype=torch.float64)
    right[:, 5] = 20_000.0
    got = right.clone()
    got[1, 5] = -20_000.0
    assert relative_error(got, right) > 1


def test_what_cannot_be_compared_is_infinitely_wrong() -> None:
    right = torch.ones(2, 64, dtype=torch.float64)
    assert relative_error(right[:1], right) == math.inf
    assert relative_error(right * math.nan, right) == math.inf
    assert relative_error(right, right) == 0.0
