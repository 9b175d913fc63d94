"""What a role receives is uniform under fresh keys, and with the same keys changes as its pads allow."""

from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from baselines.mpcformer.options import Settings
from baselines.shaft.one_hot import one_hot
from harness.registry import OURS, system_class
from protocols.party import P0, P1, P2
from protocols.permllm.domain import Domain
from protocols.permllm.options import PermLLMOptions
from protocols.workload import Argmax, Generation, Layer, Nonlinear, UserInput, Workload
from tests.play import small
from tests.views.rank import Affine
from tests.views.sessions import attention, beaver, chosen_tokens, each_time, whole
from tests.views.uniform import nothing, public_to_permllm, uneven
from tests.views.watch import watch

FULL = PermLLMOptions(variant="fused")
Masks = dict[str, list[Tensor]]  # the dealer's streams
WORK: list[tuple[str, Any, Workload, int]] = [
    ("permllm", None, Layer(small("llama", 2), 4, 12), 12),
    ("permllm", FULL, Layer(small("llama", 2), 1, 12), 30),
    ("permllm", replace(FULL, refresh="scores"), Layer(small("glm"), 1, 12), 30),
    ("permllm", None, Argmax(700), 2),
    ("permllm", None, Generation(small("bert"), 8, 0), 4),
    ("permllm", PermLLMOptions(selection="ot"), Argmax(256), 6),
    (
        "permllm",
        PermLLMOptions(variant="fused", selection="ot"),
        Generation(small("gpt2"), 2, 3),
        6,
    ),
    ("mpcformer", None, Layer(small("gpt2"), 8, 16), 6),
    ("mpcformer", Settings("exact", reuse_weight_masks=True), Nonlinear("gelu", (700,)), 2),
    ("shaft", None, Nonlinear("gelu", (700,)), 2),
    ("fss", None, Nonlinear("gelu", (704,)), 2),  # whole bytes: the last one is not filled up
    ("puma", None, Layer(small("gpt2"), 8, 16), 6),
    ("puma", None, Argmax(700), 2),
]


def case_name(value: object) -> str:
    return str(value) if isinstance(value, str | int) else type(value).__name__


@pytest.mark.parametrize(("name", "options", "work", "sessions"), WORK, ids=case_name)
def test_received_words_are_uniform(name: str, options: Any, work: Workload, sessions: int) -> None:
    """The same data, fresh keys."""
    walk = whole(system_class(name), work, options)
    assert uneven(walk, sessions, public_to_permllm if name == "permllm" else nothing) == []


def test_one_hots_of_the_dealer_are_uniform() -> None:
    walk = beaver(each_time(partial(one_hot, size=50)), [(40,)], Settings(), times=1)
    assert uneven(walk, 6, nothing) == []


@pytest.mark.parametrize("name", OURS)
def test_nothing_before_the_online_phase_depends_on_the_prompt(name: str) -> None:
    """Prefill and decode, two prompts, the same keys: all that is received is the same."""
    work, early = Generation(small("gpt2"), 3, 2), ("prepare", "offline")
    sessions = [
        watch(whole(system_class(name), work, user=UserInput(prompt)))
        for prompt in ((1, 2, 3), (90, 5, 17))
    ]
    first, second = ({(r.to, r.source, r.place): r for r in s.received} for s in sessions)
    assert first.keys() == second.keys()
    packed = name == "fss"  # elsewhere bytes are ciphertexts, which are drawn anew
    before = [
        place
        for place, r in first.items()
        if r.phase in early and (packed or r.tensor.dtype != torch.uint8)
    ]
    assert all(torch.equal(first[p].tensor, second[p].tensor) for p in before)


def test_p0_receives_one_hots_of_slots_and_nothing_else() -> None:
    """Other slots under the same keys: what P1 sends differs in those two places alone."""
    sessions = [watch(chosen_tokens(5, slots)) for slots in ((3, 3), (0, 3))]
    one, two = (torch.cat(s.view(P0, P1)) for s in sessions)
    assert torch.equal(one - two, torch.tensor([[-1, 0, 0, 1, 0], [0] * 5]))
    assert all(map(torch.equal, *(s.view(P0, P2) for s in sessions)))


def from_p1(domain: Domain, rows: Tensor, masks: Masks) -> list[Tensor]:
    """What P1 sends in `attention` on rows (tokens, 3), but for the parts that are masks alone:

    x for x − λ;  q·b + a·k for its share of q·k;  f(π(s)) for the reply;  p·d + e·v for that of p·v.
    """
    sent = []
    q, k, v = domain.encode(rows, 14).T
    own = {x: torch.cat([masks[f"1/{t}/p1p2/{x}"][0].reshape(-1) for t in (0, 1)]) for x in "qkv"}
    for t in range(len(rows)):
        past = slice(t + 1)
        scores = q[t] * own["k"][past] + own["q"][t] * k[past]
        index, e = masks[f"1/{t}/p0p2/softmax"][0][0], masks[f"1/{t}/p1p2/softmax"][1]
        seen = domain.decode((q[t] * k[past])[index], 0)
        reply = domain.encode(torch.softmax(seen, dim=0), 16)
        p = torch.empty_like(reply).index_copy_(0, index, reply)
        sent += [q[t], k[t], v[t], scores, reply, (p * own["v"][past] + e * v[past]).sum()]
    return sent


def test_p0_receives_masked_differences_and_nothing_else() -> None:
    """Two inputs under the same keys: what P1 sends to P0 differs as `from_p1` says, what the dealer
    sends not at all."""
    domain, data = Affine(), torch.linspace(-3, 3, 12).double().reshape(2, 2, 3)
    sessions = [watch(attention(domain, rows[..., None])) for rows in data]
    masks = {r.name: [words for _, words in r.draws] for r in sessions[0].reads if r.role == P2}
    one, two = (s.view(P0, P1) for s in sessions)
    right, other = (from_p1(domain, rows, masks) for rows in data)
    for x, y, u, v in zip(one, two, right, other, strict=True):
        assert torch.equal((x - y).reshape(-1), (u - v).reshape(-1))
    dealt = [torch.cat([t.reshape(-1) for t in s.view(P0, P2)]) for s in sessions]
    assert torch.equal(*dealt)
