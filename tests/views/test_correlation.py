"""Nothing that P1 holds goes together with what it sees: the real layers of all four families.

Of every number that P1 drew or held, in order, the low 12, 14 and 16 bits, against all that it saw,
back in order, over evaluations of one input. What it sees differs between them in the last bits alone.
"""

import math
from dataclasses import replace
from typing import Literal, get_args

import pytest
from torch import Tensor

from protocols.permllm.options import PermLLMOptions
from protocols.transformer.spec import Family
from tests.views.correlation import FAULTS, FULL, PAPER, repeats

COUNT = 400
LIMIT = 6.0
LOW_BITS = (12, 14, 16)
SITES = {  # of what P1 sees, at least
    "gpt2": ["layer/norm1", "layer/softmax", "layer/norm2", "layer/activation"],
    "llama": ["layer/norm1", "layer/softmax", "layer/norm2", "layer/activation"],
    "glm": ["layer/norm1", "layer/softmax", "layer/norm2", "layer/activation"],
    "bert": ["embedding/norm", "layer0/norm1", "layer0/norm2", "layer1/softmax", "layer1/norm2"],
}


def standard(values: Tensor) -> Tensor:
    """Columns that vary, float32 of mean 0 and deviation 1."""
    moved = values - values.mean(0)
    sigma = moved.square().mean(0).sqrt()
    return (moved[:, sigma > 0] / sigma[sigma > 0]).float()


def largest_correlations(
    family: Family, count: int = COUNT, options: PermLLMOptions = PAPER
) -> dict[str, float]:
    """Largest |r| at each place where P1 sees something."""
    recorded = repeats(family, count, options=options)
    low = [standard((recorded.known & ((1 << b) - 1)).double()) for b in LOW_BITS]
    found = {}
    for name, values in recorded.seen.items():
        shown = standard(values)
        if shown.numel():
            found[name] = max(float((held.T @ shown).abs().max()) / count for held in low)
    return found


@pytest.mark.parametrize("family", get_args(Family))
def test_what_p1_sees_tells_nothing_of_its_masks(family: Family) -> None:
    found = largest_correlations(family)
    assert set(SITES[family]) <= set(found)
    assert max(found.values()) <= LIMIT / math.sqrt(COUNT), found


@pytest.mark.parametrize("mode", ["full", "scores"])
@pytest.mark.parametrize("family", ["gpt2", "llama", "glm"])
def test_what_p1_sees_in_fewer_hops_tells_nothing_of_its_masks(
    family: Family, mode: Literal["full", "scores"]
) -> None:
    """Scores in slots, and of LLaMA a sum of squares in place of norm 2."""
    found = largest_correlations(family, options=replace(FULL, refresh=mode))
    sites = {site.replace("softmax", "scores") for site in SITES[family]}
    assert sites <= set(found)
    assert max(found.values()) <= LIMIT / math.sqrt(COUNT), found


@pytest.mark.parametrize("fault", ["no dither", "rotary positions forgotten"])
def test_it_sees_what_is_wrong(fault: str) -> None:
    family, faulty = FAULTS[fault]
    with faulty():
        assert max(largest_correlations(family, 200).values()) > LIMIT / math.sqrt(200)
