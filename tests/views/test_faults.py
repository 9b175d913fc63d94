"""What the tests of views find: mistakes that leave every answer right, planted one by one.

Each row plants one mistake and names the check that must see it: the rank test (how many relations a
role may learn in that session, of which it then learns more), the ledger, or the uniformity of messages.
"""

import re

import pytest
import torch
from torch import Tensor

from protocols.party import P0, P1, Role
from protocols.permllm.system import PermLLM
from protocols.workload import Argmax, Linear, Nonlinear
from tests.views.rank import Affine, relations
from tests.views.sessions import attention, whole
from tests.views.watch import Fault, Walk

FEW = 2  # elements


def absent(stream: str, draw: int) -> Fault:
    """A pad that nobody adds: draw number `draw` of the streams whose names end so is 0."""

    def erase(name: str, draws: list[Tensor]) -> None:
        if name.endswith(stream) and len(draws) == draw + 1:
            draws[draw].zero_()

    return Fault(draw=erase)


def doubled(stream: str, first: int, second: int) -> Fault:
    """One pad for two things: draw `second` of a stream repeats draw `first`."""

    def repeat(name: str, draws: list[Tensor]) -> None:
        if name.endswith(stream) and len(draws) == second + 1:
            draws[second].copy_(draws[first])

    return Fault(draw=repeat)


def kept(stream: str) -> Fault:
    """A pad that is not drawn anew: streams whose names end so are those of the first evaluation."""
    return Fault(name=lambda name: re.sub(r"^\d+", "1", name) if name.endswith(stream) else name)


LINEAR = whole(PermLLM, Linear(1, FEW, FEW), evaluations=2)
GELU = whole(PermLLM, Nonlinear("gelu", (FEW,)), evaluations=2)
ARGMAX = whole(PermLLM, Argmax(FEW), evaluations=2)
ATTENTION = attention(Affine(), torch.arange(6.0).reshape(2, 3, 1))

# The session, who looks, the relations it may learn, and the mistake.
PERMLLM: dict[str, tuple[Walk, Role, int, Fault]] = {
    "x: mask λ kept over tokens": (GELU, P0, 0, kept("p1p2/input")),
    "one-hot: mask kept over tokens": (ARGMAX, P0, 0, kept("p1p2/input")),
    "W: U absent": (LINEAR, P1, 1, absent("model/linear", 0)),
    "Wx: w0 absent": (LINEAR, P1, 1, absent("p0p2/linear", 0)),
    "Wx: w0 kept over tokens": (LINEAR, P1, 1, kept("p0p2/linear")),
    "Wx: λy absent": (LINEAR, P0, 0, absent("p1p2/linear", 0)),
    "Wx: λy kept over tokens": (LINEAR, P0, 0, kept("p1p2/linear")),
    "f(x): t absent, P1 has λ and π(λ)": (GELU, P1, 2 * FEW, absent("p0p2/gelu", 0)),
    "f(x): t kept over tokens": (GELU, P1, 2 * FEW, kept("p0p2/gelu")),
    "f(x): μ absent": (GELU, P0, 0, absent("p1p2/gelu", 0)),
    "f(x): λ' absent": (GELU, P0, 0, absent("p1p2/gelu", 1)),
    "f(x): λ' = μ": (GELU, P0, 0, doubled("p1p2/gelu", 0, 1)),
    "f(x): μ and λ' kept over tokens": (GELU, P0, 0, kept("p1p2/gelu")),
    "logits: t kept over tokens": (ARGMAX, P1, 2 * FEW, kept("p0p2/select")),
    "q·k: r_q absent": (ATTENTION, P1, 3, absent("p0p2/scores", 0)),
    "q·k: r_k = r_q": (ATTENTION, P1, 3, doubled("p0p2/scores", 0, 1)),
    "q·k: r_v = r_k": (ATTENTION, P1, 3, doubled("p0p2/scores", 1, 2)),
    "q·k: τ0 absent from the dealer's τ1": (ATTENTION, P1, 3, absent("p0p2/scores", 3)),
    "q·k: r and τ0 kept over tokens": (ATTENTION, P1, 3, kept("p0p2/scores")),
    "q·k: μ absent": (ATTENTION, P0, 0, absent("p1p2/scores", 0)),
    "q: mask a kept over tokens": (ATTENTION, P0, 0, kept("p1p2/q")),
    "k: mask b kept over rows": (ATTENTION, P0, 0, kept("p1p2/k")),
    "p: mask e kept over tokens": (ATTENTION, P0, 0, kept("p1p2/softmax")),
    "p·v: r_p absent": (ATTENTION, P1, 3, absent("p0p2/sum", 0)),
    "p·v: r_p and τ0 kept over tokens": (ATTENTION, P1, 3, kept("p0p2/sum")),
    "p·v: τ0 absent from the dealer's τ1": (ATTENTION, P1, 3, absent("p0p2/sum", 1)),
    "p·v: μ' absent": (ATTENTION, P0, 0, absent("p1p2/sum", 0)),
}


@pytest.mark.usefixtures("affine")
@pytest.mark.parametrize("mistake", PERMLLM)
def test_rank_of_permllm(mistake: str) -> None:
    walk, role, allowed, fault = PERMLLM[mistake]
    assert relations(walk, role, fault=fault) > allowed


@pytest.mark.usefixtures("affine")
def test_rank_without_a_mistake() -> None:
    for walk, allowed in ((LINEAR, 1), (GELU, 2 * FEW), (ARGMAX, 2 * FEW), (ATTENTION, 3)):
        assert [relations(walk, role) for role in (P0, P1)] == [0, allowed]
