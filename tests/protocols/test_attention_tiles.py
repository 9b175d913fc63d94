"""Attention in tiles, where attention decides: every row on its own, with its own keys."""

from dataclasses import replace
from typing import Any

import pytest

from protocols import system
from protocols.expected_answer import layer_answer
from protocols.permllm import attention_tiles, generation, programs
from protocols.permllm.attention_tiles import Tile, tiles_of
from protocols.permllm.options import PermLLMOptions
from protocols.permllm.system import PermLLM
from protocols.transformer.model import ModelWeights
from protocols.transformer.source import model_weights
from protocols.transformer.spec import TransformerSpec
from protocols.transformer.weights import synthetic_layer
from protocols.workload import Generation, Layer
from tests.play import SEED, play, small
from tests.test_systems import check_generation
from tests.views.correlation import grown

ROWS, LENGTH = 7, 9
TILES = [Tile(0, 2, 4), Tile(2, 4, 6), Tile(4, 6, 8), Tile(6, 7, 9)]  # the last one is not full


@pytest.mark.parametrize(
    "spec", [small("gpt2"), small("llama", 2), small("glm")], ids=lambda spec: spec.family
)
def test_every_row_of_every_tile_is_right(
    spec: TransformerSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of large weights: with small ones a softmax is flat, and a row that sees a key too many, or one
    with its neighbour's query, is nearly right."""
    monkeypatch.setattr(attention_tiles, "TILE_SCORES", 2 * spec.n_heads * LENGTH)
    monkeypatch.setattr(programs, "synthetic_layer", lambda *args: grown(synthetic_layer(*args)))
    assert tiles_of(spec, ROWS, LENGTH) == TILES
    work = Layer(spec, ROWS, LENGTH)
    right = layer_answer(work, SEED, grown(synthetic_layer(spec, SEED)))
    for (answer,) in play(PermLLM, work).answers:
        errors = (answer - right).norm(dim=1) / right.norm(dim=1)
        assert float(errors.max()) <= 1e-3


@pytest.mark.parametrize("scores", [1 << 21, 80])
def test_a_prompt_that_sees_all_of_itself_is_right_and_what_follows_it(
    scores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """GLM, of large weights as well: its prompt, a token, and drafted ones in one tile or in several."""

    def grown_model(*args: Any) -> ModelWeights:
        weights = model_weights(*args)
        return replace(weights, layers=[grown(layer) for layer in weights.layers])

    for module in (generation, system):
        monkeypatch.setattr(module, "model_weights", grown_model)
    monkeypatch.setattr(attention_tiles, "TILE_SCORES", scores)
    work = Generation(small("glm"), 6, 2, drafted=4)
    assert len(tiles_of(work.spec, 5, 12, 5)) == (1 if scores > 80 else 5)
    answers = play(PermLLM, work, evaluations=1).answers[0]
    check_generation(PermLLM, work, PermLLMOptions(), answers, 3e-3)
