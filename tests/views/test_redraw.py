"""Redraw one role's secrets, fix the other's: what a rounding shows must be a fair coin of its own.

P1: all that it drew is fixed, everything else is fresh. Every window and every truncation must be right
on average whatever P1's masks, and no two roundings of one tensor may go together. P0: all that it drew
is fixed; the low bits of its halves that are truncated must still be uniform.
"""

import math
from typing import get_args

import pytest
import torch
from torch import Tensor

from protocols.party import P0, P1
from protocols.permllm.options import PermLLMOptions
from protocols.transformer.spec import Family
from tests.views.correlation import (
    FAULTS,
    FULL,
    PAPER,
    SEED,
    low_bits_of_p0_and_the_dealer,
    mask_known_to_p1,
    repeats,
    squares_without_dither,
)

COUNT = 200
MEAN_LIMIT, PAIR_LIMIT = 5.0, 6.0
ROUNDINGS = {"gpt2": 6, "llama": 7, "glm": 7, "bert": 15}  # how many there are


def mean_deviation(values: Tensor, middle: float, spread: float) -> float:
    """Largest distance of a column's mean from `middle`, in standard deviations of a mean; `spread`
    is the least that a value is taken to vary by."""
    sigma = values.std(0).clamp(min=spread) / math.sqrt(len(values))
    return float(((values.mean(0) - middle).abs() / sigma).max())


def pair_deviation(values: Tensor, spread: float) -> float:
    """Largest |correlation| of two columns times √rows, of those that vary by `spread` at least."""
    varying = values[:, values.std(0) >= spread]
    if varying.shape[1] < 2:
        return 0.0
    r = torch.corrcoef(varying.T) - torch.eye(varying.shape[1])
    return float(r.abs().max()) * math.sqrt(len(values))


def suspicious_to_p1(
    family: Family,
    count: int = COUNT,
    options: PermLLMOptions = PAPER,
    there: dict[str, int] = ROUNDINGS,
    key_seed: int = SEED,
) -> dict[str, tuple[float, float]]:
    """Roundings that P1's masks move or that go together: deviations of means and of pairs. there: how
    many there are."""
    found = {}
    recorded = repeats(family, count, fixed=P1, options=options, key_seed=key_seed)
    roundings = recorded.roundings
    assert len(roundings) == there[family]
    for name, rounding in roundings.items():
        assert float(rounding.error.abs().max()) <= 1.0, name
        mean = mean_deviation(rounding.error, 0.0, count**-0.5)
        pair = pair_deviation(rounding.error, 0.15)
        if mean > MEAN_LIMIT or pair > PAIR_LIMIT:
            found[name] = (mean, pair)
    for name, error in recorded.squares.items():
        mean = mean_deviation(error[:, None], 0.0, count**-0.5)
        if mean > MEAN_LIMIT:
            found[name] = (mean, 0.0)
    return found


def suspicious_to_p0(
    family: Family, count: int = COUNT, options: PermLLMOptions = PAPER
) -> dict[str, tuple[float, float]]:
    """Truncated halves whose low bits P0's own draws settle."""
    found = {}
    for name, rounding in repeats(family, count, fixed=P0, options=options).roundings.items():
        if not name.startswith("truncation"):
            continue
        low = rounding.low * 2.0**-rounding.bits
        mean = mean_deviation(low, 0.5, 12**-0.5)
        pair = pair_deviation(low, 0.15)
        if mean > MEAN_LIMIT or pair > PAIR_LIMIT:
            found[name] = (mean, pair)
    return found


@pytest.mark.parametrize("family", get_args(Family))
def test_every_rounding_is_a_coin_that_p1_does_not_have(family: Family) -> None:
    assert suspicious_to_p1(family) == {}


@pytest.mark.parametrize("family", ["llama", "bert"])
def test_low_bits_of_secrets_are_hidden_from_p0(family: Family) -> None:
    assert suspicious_to_p0(family) == {}


# Scores in slots are exact; q and k are cut apart from v, or where they are rotated; of LLaMA norm 2 is a
# sum of squares.
FUSED_ROUNDINGS = {"gpt2": 6, "llama": 5, "glm": 6}
FAR_OFF = 3  # keys whose masks move a sum of squares without a dither by half of its spread


@pytest.mark.parametrize("family", FUSED_ROUNDINGS)
def test_in_fewer_hops_as_well(family: Family) -> None:
    found = suspicious_to_p1(family, options=FULL, there=FUSED_ROUNDINGS, key_seed=FAR_OFF)
    assert found == {}
    assert suspicious_to_p0(family, options=FULL) == {}


def test_it_sees_a_sum_of_squares_without_a_dither() -> None:
    with squares_without_dither():
        found = suspicious_to_p1("llama", 100, FULL, FUSED_ROUNDINGS, FAR_OFF)
    assert "layer/norm2" in found


def test_it_sees_a_sum_of_values_without_low_bits_of_the_dealer() -> None:
    with mask_known_to_p1("/sum"):
        assert suspicious_to_p1("glm", 100, FULL, FUSED_ROUNDINGS)


@pytest.mark.parametrize("fault", FAULTS)
def test_it_sees_what_is_wrong(fault: str) -> None:
    family, faulty = FAULTS[fault]
    with faulty():
        assert suspicious_to_p1(family, 100)


def test_it_sees_low_bits_that_p0_has() -> None:
    with low_bits_of_p0_and_the_dealer():
        assert suspicious_to_p0("llama", 100)
