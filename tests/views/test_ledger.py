"""Every stream of keys is read once in a session, by the roles that should, for what it should."""

from typing import Any

import pytest

from baselines.mpcformer.options import Settings
from harness.registry import system_class
from protocols.party import P0, P1, P2
from protocols.permllm.options import PermLLMOptions
from protocols.permllm.system import PermLLM
from protocols.workload import Argmax, Generation, Layer, Linear, Nonlinear, Workload
from tests.play import FAMILIES, small
from tests.views.ledger import KEYS, complaints, draws
from tests.views.sessions import tiny, whole
from tests.views.watch import watch

REUSED = Settings("exact", reuse_weight_masks=True, truncation="exact")
FUSED = [
    PermLLMOptions(variant="fused"),
    PermLLMOptions(variant="fused", refresh="bounded", refresh_slots=3, offline_batch=2),
    PermLLMOptions(variant="fused", refresh="scores"),
]
WORK: list[Workload] = [
    Argmax(5),
    Linear(2, 3, 2),
    Nonlinear("softmax", (2, 3)),
    Layer(small("llama", 2), 2, 5),
    Generation(small("glm"), 2, 2, tie_layers=True),
]
MODELS = [Generation(small(family), 3, 0 if family == "bert" else 3) for family in FAMILIES]
CASES: list[tuple[str, Any, Workload]] = [
    *[(name, None, work) for name in KEYS if "," not in name for work in WORK],
    *[("mpcformer", REUSED, work) for work in WORK[1:4]],
    *[("permllm", None, work) for work in MODELS],
    ("permllm", PermLLMOptions(offline_batch=1), MODELS[0]),
    *[("permllm", PermLLMOptions(selection="ot"), work) for work in (Argmax(5), MODELS[0])],
    ("permllm", PermLLMOptions(variant="fused", selection="ot"), MODELS[2]),
    *[("permllm", options, Generation(small("llama", 2), 3, 6)) for options in FUSED],
    *[("permllm", FUSED[0], work) for work in MODELS],
]


def case_name(value: object) -> str:
    return value if isinstance(value, str) else type(value).__name__


@pytest.mark.parametrize(("name", "options", "work"), CASES, ids=case_name)
def test_streams_of_a_session(name: str, options: Any, work: Workload) -> None:
    """Two evaluations, with all steps of a generation: a key, a name and a role meet once."""
    session = watch(whole(system_class(name), work, options, evaluations=2))
    assert session.reads
    assert complaints(session, KEYS[name]) == []


def test_the_dealer_that_holds_masked_weights_never_has_their_key() -> None:
    walk = whole(PermLLM, MODELS[0], PermLLMOptions(mask_holder="dealer"))
    assert complaints(watch(walk), KEYS["permllm, masked weights at the dealer"]) == []


# A gated layer with rotary positions, 2 wide, for 2 tokens after 1: every draw of the dealer's. It has
# the keys of both others, which draw the same from theirs.
LAYER = {
    "k12 input": "int64 4",  # λ
    "k12 past/k": "int64 2",  # b
    "k02 past/k": "int64 2",  # r
    "k12 past/v": "int64 2",  # d
    "k02 past/v": "int64 2",  # r
    "k02 layer/norm1": "permutation 4, permutation 2, int32 4, int32 4",  # π in rows, of rows; t; ρ
    "k12 layer/norm1": "int64 4, int64 4",  # μ, λ'
    "k02 model/layer/qkv": "",  # U, by its key: not drawn in order
    "k02 layer/qkv": "int64 12",  # w0
    "k12 layer/qkv": "int64 12",  # m of λy
    "k2 layer/qkv": "int32 12",  # ℓ of λy
    "k12 layer/rotary": "int64 8",  # m
    "k2 layer/rotary": "int32 8",  # ℓ
    "k02 layer/scores": "int64 4, int64 4, int64 4, int64 6",  # r of q, k, v; τ0
    "k12 layer/scores": "int64 6",  # μ
    "k02 layer/softmax": "permutation 6, permutation 2, int32 6, int32 6",
    "k12 layer/softmax": "int64 6, int64 6",
    "k02 layer/sum": "int64 6, int64 4",  # r of p, τ0
    "k12 layer/sum": "int64 4",  # m of μ'
    "k2 layer/sum": "int32 4",  # ℓ of μ'
    "k02 model/layer/out": "",
    "k02 layer/out": "int64 4",
    "k12 layer/out": "int64 4",
    "k02 layer/norm2": "permutation 4, permutation 2, int32 4, int32 4",
    "k12 layer/norm2": "int64 4, int64 4",
    "k02 model/layer/up": "",
    "k02 layer/up": "int64 4",
    "k12 layer/up": "int64 4",
    "k02 layer/activation": "permutation 2, permutation 1, int32 4, int32 4",  # t and ρ of two inputs
    "k12 layer/activation": "int64 2, int64 2",
    "k02 model/layer/down": "",
    "k02 layer/down": "int64 4",
    "k12 layer/down": "int64 4",
}


def test_draws_of_a_layer() -> None:
    session = watch(whole(PermLLM, Layer(tiny("llama"), 2, 3)))
    assert draws(session, P2) == LAYER
    for role, key in ((P0, "k02"), (P1, "k12")):
        own = {name: drawn for name, drawn in LAYER.items() if name.startswith(key)}
        assert draws(session, role) == own
