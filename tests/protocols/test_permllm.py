"""PermLLM on checkpoints, with a user's own prompt and sampling, and what keeps its masks safe."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import torch

from protocols.arith.prg import Prg
from protocols.in_process_party import MemoryParty
from protocols.permllm.context import Context
from protocols.permllm.domain import Ring64
from protocols.permllm.options import PermLLMOptions
from protocols.permllm.system import PermLLM
from protocols.transformer.plain_model import PlainModel
from protocols.workload import Generation, Sampling, UserInput
from tests.play import play, relative, small

PAPER, FULL = PermLLMOptions(), PermLLMOptions(variant="fused")
VARIANTS = {
    "paper": PAPER,
    "full": FULL,
    "bounded": replace(FULL, refresh="bounded", refresh_slots=4),
    "scores": replace(FULL, refresh="scores"),
    "paper, ot": replace(PAPER, selection="ot"),
    "bounded, ot": replace(FULL, refresh="bounded", refresh_slots=4, selection="ot"),
}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_a_checkpoint_generates_what_transformers_generates(
    family: str, variant: str, request: pytest.FixtureRequest
) -> None:
    """32 greedy tokens of a real checkpoint, under PermLLM and by transformers' own `generate`."""
    folder: Path = request.getfixturevalue(f"{family}_checkpoint")
    transformers = pytest.importorskip("transformers")
    from protocols.transformer.checkpoint import check  # noqa: PLC0415 - an optional extra

    prompt = [5, 17, 40, 8]
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    out = model.generate(
        torch.tensor([prompt]), do_sample=False, min_new_tokens=32, max_new_tokens=32
    )
    work = Generation(check(folder), len(prompt), 32, checkpoint=str(folder))
    user = UserInput(tuple(prompt))
    played = play(PermLLM, work, VARIANTS[variant], evaluations=1, user=user)
    assert [int(step[0]) for step in played.answers[0]] == out[0, len(prompt) :].tolist()


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("family", ["bert", "chatglm"])
def test_a_checkpoint_computes_what_its_plaintext_computes(
    family: str, variant: str, request: pytest.FixtureRequest
) -> None:
    """BERT's hidden states; ChatGLM's tokens, with its two positions and its visible prompt."""
    folder: Path = request.getfixturevalue(f"{family}_checkpoint")
    from protocols.transformer.checkpoint import check, load  # noqa: PLC0415 - an optional extra

    prompt, new = (5, 17, 40, 297, 298), 0 if family == "bert" else 16
    work = Generation(check(folder), len(prompt), new, checkpoint=str(folder))
    if family == "bert":
        prompt = (5, 17, 40, 8, 9)
    user = UserInput(prompt)
    played = play(PermLLM, work, VARIANTS[variant], evaluations=1, user=user).answers[0]
    plain = PlainModel(work.spec, load(folder))
    if new:
        assert [int(step[0]) for step in played] == plain.greedy(prompt, new)[0]
        return
    assert relative(played[0], plain.encode(prompt)) <= 2e-3


def test_the_prompt_and_the_way_of_picking_are_p1_s() -> None:
    """A prompt of the user's own, drawn from at a temperature: one seed, one text; two seeds, two."""
    work = Generation(small("gpt2"), 3, 8)
    texts = []
    for seed in (1, 1, 2):
        user = UserInput((3, 1, 4), Sampling(temperature=3.0, seed=seed))
        got = play(PermLLM, work, evaluations=1, user=user).answers[0]
        texts.append([int(step[0]) for step in got])
    assert texts[0] == texts[1] != texts[2]


def test_a_stream_cannot_be_drawn_twice_in_an_evaluation() -> None:
    ctx = Context(cast(MemoryParty, SimpleNamespace(role="P1")), 1, Ring64())
    ctx._p1p2 = Prg(bytes(16))
    ctx.begin_offline(range(1))
    first = ctx.p1p2("x").int64(4)
    with pytest.raises(RuntimeError, match="drawn twice"):
        ctx.p1p2("x")
    ctx.begin_offline(range(1))
    assert not torch.equal(first, ctx.p1p2("x").int64(4))
