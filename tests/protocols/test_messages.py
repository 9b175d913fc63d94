"""Every message of PermLLM, spoiled one at a time: the run ends with the name of the step that got it."""

import re
import threading
from collections import Counter
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import Tensor

from protocols.errors import PeerError
from protocols.in_process_party import MemoryParty
from protocols.party import Role
from protocols.permllm.context import Context
from protocols.permllm.options import PermLLMOptions
from protocols.permllm.system import PermLLM
from protocols.transformer.spec import TransformerSpec
from protocols.workload import Generation, Layer, Workload
from tests.play import play

GLM = TransformerSpec("glm", "glm", 1, 16, 2, 32, 20, 64)
BERT = TransformerSpec("bert", "bert", 1, 16, 2, 32, 20, 64)
LAYER = [
    *("qkv", "out", "up", "down", "gain0", "gain1", "rotary"),
    *("norm1", "norm2", "scores", "softmax", "sum", "activation"),
]
STEPS: dict[Workload, set[str]] = {
    Layer(GLM, 2, 3): {"keys", "weight exponents", "input", "past", *(f"layer/{s}" for s in LAYER)},
    Generation(GLM, 2, 1): {
        *("keys", "weight exponents", "embedding/table", "embedding/onehot"),
        *("head/norm", "head/matrix", "select", *(f"layer0/{s}" for s in LAYER)),
    },
    Generation(BERT, 2, 0): {
        *("keys", "weight exponents", "embedding/table", "embedding/onehot"),
        *(
            "embedding/norm",
            "embedding/gain",
            "hidden states",
            *(f"layer0/{s}" for s in LAYER if s != "rotary"),
        ),
    },
}
LLAMA = TransformerSpec("llama", "llama", 1, 16, 2, 32, 20, 64, n_kv_heads=1)
FUSED = PermLLMOptions(variant="fused", refresh="bounded", refresh_slots=2)
FUSED_WORK = Generation(LLAMA, 2, 3)  # the last step deals two slots of four
FUSED_STEPS = {
    *("keys", "weight exponents", "embedding/table", "embedding/onehot"),
    *("head/norm", "head/matrix", "select", "choice"),
    *(f"layer0/{s}" for s in LAYER if s not in ("gain0", "gain1")),
}
Message = tuple[Role, Role, int]  # from, to, how many there were before it


def wrong_shape(tensor: Tensor) -> Tensor:
    """One that broadcasts, where there is one."""
    return tensor[..., :1] if tensor.dim() and tensor.shape[-1] > 1 else tensor[None]


def wrong_type(tensor: Tensor) -> Tensor:
    return tensor.to(torch.int32 if tensor.dtype == torch.int64 else torch.int64)


def messages(work: Workload, options: Any = None) -> dict[Message, str]:
    """All messages of one evaluation, and the step that received each."""
    found: dict[Message, str] = {}
    counts: Counter[tuple[Role, Role]] = Counter()
    receive = Context.receive

    def listen(self: Context, step: str, source: Role, *args: Any, **named: Any) -> Any:
        pair = (source, self.role)
        tensors = receive(self, step, source, *args, **named)  # after what was owed before it
        found[*pair, counts[pair]] = step
        counts[pair] += 1
        return tensors

    with patch.object(Context, "receive", listen):
        play(PermLLM, work, options, evaluations=1)
    return found


def play_spoiled(work: Workload, message: Message, spoil: Any, options: Any = None) -> None:
    """Evaluate with the last tensor of one message spoiled."""
    counts: Counter[tuple[Role, Role]] = Counter()
    lock, transmit = threading.Lock(), MemoryParty._transmit

    def send(self: MemoryParty, to: Role, stamp: Any, tensors: tuple[Tensor, ...]) -> Any:
        with lock:
            this = (self.role, to, counts[self.role, to])
            counts[self.role, to] += 1
        if this == message:
            tensors = (*tensors[:-1], spoil(tensors[-1]))
        return transmit(self, to, stamp, tensors)

    with patch.object(MemoryParty, "_transmit", send):
        play(PermLLM, work, options, evaluations=1)


@pytest.mark.parametrize(
    "work", STEPS, ids=lambda work: f"{work.spec.family} {type(work).__name__}"
)
def test_a_message_of_another_shape_or_type_ends_the_run_by_name(work: Workload) -> None:
    check_every_message(work, None, STEPS[work])


def test_a_message_of_a_step_in_fewer_hops_ends_the_run_by_name() -> None:
    check_every_message(FUSED_WORK, FUSED, FUSED_STEPS)


def check_every_message(work: Workload, options: Any, steps: set[str]) -> None:
    received = messages(work, options)
    assert set(received.values()) == steps
    for number, (message, step) in enumerate(received.items()):
        spoil = (wrong_shape, wrong_type)[number % 2]
        with pytest.raises(PeerError, match=rf"^{re.escape(step)}: {message[0]} sent ") as error:
            play_spoiled(work, message, spoil, options)
        assert "\n" not in str(error.value)


def test_a_message_with_a_value_out_of_range_ends_the_run_by_name() -> None:
    work = Generation(GLM, 2, 1)
    received = messages(work)
    exponents = next(m for m, step in received.items() if step == "weight exponents")
    with pytest.raises(PeerError, match=r"^weight exponents: P0 sent one outside 0\.\.16"):
        play_spoiled(work, exponents, lambda told: told + 17)
    selecting = sorted(m for m, step in received.items() if step == "select" and "P2" not in m)
    _, reply, key, query = selecting  # from P0, from P1
    for message in (key, query, reply):
        with pytest.raises(PeerError, match=r"^select: \w.* a word is not below its prime"):
            play_spoiled(work, message, lambda words: words | 255)


def test_a_number_that_is_not_finite_ends_the_run_by_name() -> None:
    work = Layer(GLM, 1, 2)
    message = next(
        m for m, step in messages(work).items() if step == "layer/norm2" and m[1] == "P1"
    )
    with pytest.raises(PeerError, match=r"^layer/norm2: P2 sent a number that is not finite"):
        play_spoiled(work, message, lambda sent: sent * torch.inf, PermLLMOptions(domain="float32"))
