"""PermLLM in fewer hops (variant=fused): right at the declared cost, in every mode, or refused by name."""

import re
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import pytest
import torch

from protocols import expected_answer
from protocols.arith.prg import Stream
from protocols.arith.punctured import Trees, depth_of
from protocols.errors import OutOfRange, PeerError, Unsupported
from protocols.inputs import layer_input, prompt_tokens
from protocols.permllm import programs
from protocols.permllm.domain import Ring64
from protocols.permllm.options import PermLLMOptions
from protocols.permllm.refresh_limit import dealt_bytes
from protocols.permllm.slots import Slots
from protocols.permllm.system import PermLLM
from protocols.transformer.plain_model import PlainModel
from protocols.transformer.source import model_weights
from protocols.transformer.spec import Family, TransformerSpec
from protocols.workload import Generation, Layer, Workload
from tests.play import SEED, declared, play, relative, small

FULL = PermLLMOptions(variant="fused")
BOUNDED = replace(FULL, refresh="bounded", refresh_slots=4)
SCORES = replace(FULL, refresh="scores")
MODES = {"full": FULL, "bounded": BOUNDED, "scores": SCORES}
GENERATING: tuple[Family, ...] = ("gpt2", "llama", "glm")
CHATGLM = TransformerSpec("chatglm-6b", "glm", 28, 4096, 32, 16384, 130528, 2048)
LLAMA2 = TransformerSpec("llama-2-7b", "llama", 32, 4096, 32, 11008, 32000, 4096)
GPT2 = TransformerSpec("gpt2", "gpt2", 12, 768, 12, 3072, 50257, 1024)


def hops_a_token(spec: TransformerSpec, options: PermLLMOptions) -> int:
    """Of a decoded token: what two tokens more cost, halved."""
    short, long = (PermLLM.cost(Generation(spec, 8, n), options)["online"].hops for n in (3, 5))
    return (long - short) // 2


@pytest.mark.parametrize(
    ("spec", "paper", "fused", "scores"),
    [(CHATGLM, 342, 228, 284), (LLAMA2, 390, 194, 258), (GPT2, 150, 100, 124)],
    ids=lambda value: getattr(value, "name", ""),
)
def test_hops_of_a_decoded_token(
    spec: TransformerSpec, paper: int, fused: int, scores: int
) -> None:
    assert hops_a_token(spec, PermLLMOptions()) == paper
    assert hops_a_token(spec, FULL) == fused
    assert hops_a_token(spec, BOUNDED) == fused
    assert hops_a_token(spec, SCORES) == scores


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("family", GENERATING)
def test_tokens_are_those_of_the_paper_s_variant_at_the_declared_cost(
    family: Family, mode: str
) -> None:
    """Long enough for slots that stay, batches of one and of some, and one dealt ahead; twice."""
    work, heads = Generation(small(family), 4, 9), 2 if family == "llama" else None
    work = replace(work, spec=small(family, heads))
    right = [int(step[0]) for step in play(PermLLM, work, evaluations=1).answers[0]]
    for size, ahead in ((1, False), (3, True)):
        options = replace(MODES[mode], offline_batch=size, offline_ahead=ahead)
        played = play(PermLLM, work, options)
        assert played.cost == declared(PermLLM, work, options)
        for answers in played.answers:
            assert [int(step[0]) for step in answers] == right


def short_name(work: object) -> str:
    return re.sub(r"spec=\w+\(name='(\w+)'.*n_kv_heads=(\w+).*?\)", r"\1 \2", str(work))


LAYERS: list[Layer | Generation] = [
    *[Layer(small(family), 1, 9) for family in ("gpt2", "bert", "llama", "glm")],
    Layer(small("llama", n_kv_heads=2), 1, 9),
    Layer(small("gpt2"), 1, 1),
    Layer(small("glm"), 1, 300),  # more than LONG keys
    Layer(small("llama"), 3, 9),  # a prefill
    Generation(small("bert"), 1, 0),
]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("work", LAYERS, ids=short_name)
def test_layers_are_right_at_the_declared_cost(work: Layer | Generation, mode: str) -> None:
    played = play(PermLLM, work, MODES[mode])
    assert played.cost == declared(PermLLM, work, MODES[mode])
    if isinstance(work, Layer):
        right = PermLLM.plaintext(work, SEED, MODES[mode])
    else:
        prompt = prompt_tokens(work.spec, work.prompt_len, SEED)
        right = PlainModel(work.spec, model_weights(work, SEED)).encode(prompt)
    for answers in played.answers:
        assert relative(answers[0], right) <= 1e-3


@pytest.mark.parametrize("value", [2100.0, -7000.0])
def test_an_outlier_leaves_the_other_coordinates_right(value: float) -> None:
    """Of a layer's output: were the sum of squares to wrap, the feed-forward block would be wrong."""
    work = Layer(small("llama"), 1, 9)

    def with_outlier(*args: Any) -> Any:
        given = layer_input(*args)
        x = given.x.clone()
        x[0, 5] = value
        return replace(given, x=x)

    with (
        patch.object(programs, "layer_input", with_outlier),
        patch.object(expected_answer, "layer_input", with_outlier),
    ):
        (answer,) = play(PermLLM, work, FULL, evaluations=1).answers[0]
        right = PermLLM.plaintext(work, SEED, FULL)
    others = torch.arange(32) != 5
    assert relative(answer[:, others], right[:, others]) <= 1e-3


def test_scores_that_do_not_fit_are_refused_by_name() -> None:
    """They are known modulo 2^16: larger ones would be taken for others."""

    def far(*args: Any) -> Any:
        given = layer_input(*args)
        return replace(given, past_k=given.past_k * 1e6)

    with (
        patch.object(programs, "layer_input", far),
        pytest.raises((OutOfRange, PeerError), match="layer/scores: a value of"),
    ):
        play(PermLLM, Layer(small("llama"), 1, 9), FULL, evaluations=1)


def refused(workload: Workload, options: PermLLMOptions) -> str:
    with pytest.raises(Unsupported) as error:
        PermLLM.check(workload, options)
    return str(error.value)


def test_more_than_the_limit_a_token_is_refused_with_what_to_choose() -> None:
    """With the numbers of megabytes; the last prompt is short enough."""
    work = Generation(CHATGLM, 2000, 33)
    said = refused(work, FULL)
    assert "\n" not in said
    assert said.startswith("system.refresh=full deals 3,041 MB offline")
    assert "more than system.refresh_limit_mb=256; choose system.refresh=bounded (" in said
    assert said.endswith("a larger system.refresh_limit_mb, system.variant=paper")
    PermLLM.check(work, replace(FULL, refresh_limit_mb=4000.0))
    PermLLM.check(work, replace(FULL, variant="paper"))
    PermLLM.check(replace(work, prompt_len=8), FULL)
    tight = replace(FULL, refresh="bounded", refresh_limit_mb=100.0)
    assert "choose a larger system.refresh_limit_mb, system.variant=paper" in refused(work, tight)
    assert "choose system.refresh=bounded (150 MB), a larger" in refused(work, SCORES)


def test_drafted_tokens_are_refused() -> None:
    assert "system.variant=paper verifies them" in refused(
        Generation(small("gpt2"), 4, 2, drafted=3), FULL
    )


@pytest.mark.parametrize("length", [128, 512, 2048])
def test_what_a_token_is_dealt(length: int) -> None:
    """Of ChatGLM-6B, in megabytes: 13·L·d a layer or 5·L·d; of 16 slots, after the first token, as much
    for any L. Besides, numbers for each score, as in the paper's variant."""
    long = Generation(replace(CHATGLM, max_positions=10**6), length, 2)
    rows, scores = 28 * 4096 * length / 1e6, 28 * 32 * length / 1e6
    assert dealt_bytes(long, FULL) / 1e6 == pytest.approx(13 * rows + 18 * scores, rel=0.02)
    assert dealt_bytes(long, SCORES) / 1e6 == pytest.approx(5 * rows + 18 * scores, rel=0.03)
    bounded = replace(FULL, refresh="bounded")
    many = [dealt_bytes(replace(long, new_tokens=n), bounded) * (n - 1) / 1e6 for n in (2, 3)]
    assert many[1] - many[0] == pytest.approx(24 + 18 * scores, rel=0.1)


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"variant": "fused", "domain": "float32"}, "variant=fused needs domain=ring64"),
        ({"refresh_slots": 1}, "refresh_slots must be a whole number ≥ 2, got 1"),
        ({"refresh_limit_mb": 0.0}, r"refresh_limit_mb must be a number > 0, got 0\.0"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, object], what: str) -> None:
    with pytest.raises(ValueError, match=what):
        PermLLMOptions(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8, 13])
def test_punctured_trees_give_all_values_but_one(count: int) -> None:
    roots = Trees.roots(Stream(bytes(16)), 4, count, 6)
    values = Trees.values(roots, count, 6)
    assert len(set(values.reshape(-1).tolist())) == values.numel()
    at = torch.tensor([0, count - 1, count // 2, count // 3])
    keys, value = Trees.puncture(roots, count, at, 6)
    assert keys.shape == Trees.key_shape(4, count, 6) == (4, depth_of(count), 2)
    known = Trees.punctured_values(keys, count, at, 6)
    every = torch.arange(4)
    assert not known[every, at].any()
    assert torch.equal(value, values[every, at])
    values[every, at] = 0
    assert torch.equal(known, values)


def test_slots_that_stay_and_slots_that_are_dealt() -> None:
    """Every row holds every key once; a step moves keys among 3 positions, the new one's with them,
    that differ from step to step; the first step deals all."""
    slots, stream = Slots(3), Stream(bytes(16))
    before = slots.deal(stream, 4, 10)
    assert len(before.moved) == 10
    sets = set()
    for length in range(11, 16):
        deal = slots.deal(stream, 4, length)
        assert deal.key.sort(dim=1).values.tolist() == [list(range(length))] * 4
        stays = [i for i in range(length) if i not in deal.moved.tolist()]
        assert (len(deal.moved), int(deal.moved[-1])) == (3, length - 1)
        assert torch.equal(deal.key[:, stays], before.key[:, stays])
        assert torch.equal(deal.head, before.head)
        x = torch.randn(4, length)
        assert torch.equal(deal.natural(deal.seen(x)), x)
        found = deal.key[:, deal.moved][torch.arange(4), deal.newest]
        assert found.tolist() == [length - 1] * 4
        sets.add(tuple(deal.moved.tolist()))
        before = deal
    assert len(sets) > 1


@pytest.mark.parametrize("count", [None, 4])
def test_orders_of_slots_are_drawn_anew(count: int | None) -> None:
    """No two rows have their keys in one order, and where all are dealt no two steps have their heads or
    keys so. The new key stands anywhere among those that move, and these are drawn from all."""
    slots, stream = Slots(count), Stream(bytes(16))
    deals = [slots.deal(stream, 8, length) for length in range(20, 60)]
    for deal in deals:
        assert len({tuple(row) for row in deal.key.tolist()}) == 8
    heads = {tuple(deal.head.tolist()) for deal in deals}
    keys = {tuple(row[:20]) for deal in deals for row in deal.key.tolist()}
    assert len(heads) == (1 if count else len(deals))
    assert count or len(keys) == 8 * len(deals)
    places = torch.cat([deal.newest for deal in deals[1:]]).tolist()
    assert set(places) >= {0, 1, 2, 3}
    moved = {position for deal in deals[1:] for position in deal.moved.tolist()}
    assert len(moved & set(range(20))) > 15


def test_numbers_modulo_2_to_the_40_and_lifted_ones() -> None:
    ring, x = Ring64(), torch.tensor([0, 1, -1, 2**39 - 1, -(2**39), 2**40 + 7])
    packed = ring.pack(x, 5)
    assert packed.shape == ring.packed_shape(5, 6)
    assert ring.signed(ring.unpack(packed), 5).tolist() == [0, 1, -1, 2**39 - 1, -(2**39), 7]
    mask = ring.short_mask(Stream(bytes(16)), 16, 28, 1000)
    assert int(mask.min()) >= 2**28
    assert int(mask.max()) < 2**48 - 2**28
    secret = torch.tensor([2**28 - 1, -(2**28) + 1]).repeat(500)
    assert torch.equal(ring.lift(secret - mask, 16), secret - mask)
