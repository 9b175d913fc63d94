"""Whole models in the clear: synthetic weights, positions, and generation with a cache."""

import hashlib
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from protocols.transformer.model import (
    LazyLayers,
    ModelWeights,
    held,
    positions,
    synthetic_model,
    visible_prefix,
)
from protocols.transformer.plain_model import PlainModel
from protocols.transformer.reference import attention, layer_forward
from protocols.transformer.spec import Family, TransformerSpec
from protocols.transformer.weights import LayerWeights, synthetic_layer

GENERATING: tuple[Family, ...] = ("gpt2", "llama", "glm")


def small(family: Family) -> TransformerSpec:
    spec = TransformerSpec(f"small-{family}", family, 3, 48, 4, 80, 100, 32)
    return replace(spec, n_kv_heads=2) if family == "llama" else spec


def wide(spec: TransformerSpec) -> ModelWeights:
    """Synthetic weights whose attention decides, so that a wrong mask or position shows."""
    model = synthetic_model(spec, 5)

    def grow(index: int) -> LayerWeights:
        w = model.layers[index]
        return replace(
            w,
            **{
                k: replace(m, weight=m.weight * 8)
                for k, m in vars(w).items()
                if hasattr(m, "weight")
            },
        )

    return replace(model, layers=LazyLayers(grow, range(spec.n_layers)))


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


# --- weights -------------------------------------------------------------------------------------


def same(a: LayerWeights, b: LayerWeights) -> bool:
    return torch.equal(a.qkv.weight, b.qkv.weight) and torch.equal(a.ffn_norm.gain, b.ffn_norm.gain)


def test_layers_are_those_of_the_single_layer_experiment() -> None:
    spec = small("llama")
    layers = synthetic_model(spec, 7).layers
    assert len(layers) == 3
    assert all(same(layer, synthetic_layer(spec, 7, i)) for i, layer in enumerate(layers))
    assert layers[0].qkv.weight.shape == (48 + 2 * 24, 48)


def test_tied_layers_are_one_object() -> None:
    spec = small("gpt2")
    layers = synthetic_model(spec, 7, tie_layers=True).layers
    assert layers[2] is layers[0]
    assert same(layers[0], synthetic_layer(spec, 7, 0))


def test_layers_are_made_on_access_and_not_kept() -> None:
    made: list[int] = []

    def make(index: int) -> LayerWeights:
        made.append(index)
        return synthetic_layer(small("gpt2"), 0, index)

    layers = LazyLayers(make, range(4))
    middle = layers[1:3]
    assert made == []
    _ = layers[-1], middle[0], middle[0]
    assert made == [3, 1, 1]
    with pytest.raises(IndexError):
        _ = middle[2]


@pytest.mark.parametrize("family", ["gpt2", "bert", "llama", "glm"])
def test_a_model_has_the_parts_of_its_family(family: Family) -> None:
    spec = small(family)
    model = synthetic_model(spec, 3)
    rotary, bert = family in ("llama", "glm"), family == "bert"
    assert (model.position_embedding is None) == rotary
    assert (model.embedding_norm is not None) == bert
    assert (model.final_norm is None) == (model.head is None) == bert
    assert model.token_embedding.shape == (100, 48)
    assert model.token_embedding.dtype == torch.float32


def test_only_gpt2_ties_its_head() -> None:
    model = synthetic_model(small("gpt2"), 3)
    embedding, head = model.token_embedding, model.head
    assert head is not None
    assert head.weight is embedding
    other = synthetic_model(small("llama"), 3)
    assert other.head is not None
    assert not torch.equal(other.head.weight, other.token_embedding)


def test_tables_are_shared_while_somebody_holds_them() -> None:
    made: list[int] = []

    def make() -> Tensor:
        made.append(0)
        return torch.zeros(3)

    get = held(make)
    first, second = get(), get()
    assert first is second
    assert len(made) == 1
    del first, second
    get()
    assert len(made) == 2


def test_tables_are_the_same_on_every_machine() -> None:
    table = synthetic_model(replace(small("glm"), vocab=1500), 1).token_embedding
    assert hashlib.sha256(table.numpy().tobytes()).hexdigest()[:16] == "78537f368918a11c"


# --- positions and masks -------------------------------------------------------------------------


def listed(family: Family, prompt_len: int, indices: range) -> tuple[list[int], list[int]]:
    at, blocks = positions(small(family), prompt_len, indices)
    return at.tolist(), blocks.tolist()


def test_positions_of_a_glm_prompt_and_its_answer() -> None:
    """[a, b, c, gMASK, <sop>] and three generated tokens, by ChatGLM-6B's get_position_ids."""
    assert listed("glm", 5, range(8)) == ([0, 1, 2, 3, 3, 3, 3, 3], [0, 0, 0, 0, 1, 2, 3, 4])
    assert listed("glm", 5, range(6, 7)) == ([3], [3])
    assert listed("glm", 2, range(4)) == ([0, 0, 0, 0], [0, 1, 2, 3])
    assert listed("glm", 1, range(3)) == ([0, 0, 0], [1, 2, 3])


@pytest.mark.parametrize("family", ["gpt2", "bert", "llama"])
def test_other_positions_count(family: Family) -> None:
    assert listed(family, 5, range(4, 7)) == ([4, 5, 6], [0, 0, 0])


def test_visible_prefix() -> None:
    families: tuple[Family, ...] = ("gpt2", "llama", "glm", "bert")
    assert [visible_prefix(small(family), 5) for family in families] == [0, 0, 4, 5]
    assert visible_prefix(small("glm"), 1) == 0


@pytest.mark.parametrize(("past", "prefix"), [(0, 0), (0, 3), (0, 6), (2, 4), (4, 1)])
def test_attention_equals_torch_with_groups_and_prefix(past: int, prefix: int) -> None:
    n = 6 - past
    q, k, v = normal(4, n, 8), normal(2, 6, 8), normal(2, 6, 8) + 1
    rows, columns = torch.arange(past, 6)[:, None], torch.arange(6)
    mask = (columns <= rows) | (columns < prefix)
    expected = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)
    assert torch.allclose(attention(q, k, v, causal=True, prefix=prefix), expected, atol=1e-12)


def test_prefix_reaches_the_layer() -> None:
    spec = small("glm")
    x, w = normal(5, 48), synthetic_layer(spec, 1)
    changed = x.clone()
    changed[3, 0] += 1.0
    for prefix, first_changed in ((0, 3), (4, 0)):
        outputs = [layer_forward(spec, w, rows, prefix=prefix)[0] for rows in (x, changed)]
        moved = (outputs[0] - outputs[1]).abs().amax(-1) > 1e-9
        assert moved.tolist() == [i >= first_changed for i in range(5)]


# --- generation ----------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_the_cache_changes_nothing(family: Family) -> None:
    spec = small(family)
    model = PlainModel(spec, wide(spec))
    prompt = [3, 14, 15, 92]
    tokens, logits = model.greedy(prompt, 6)
    for i in range(6):
        model.reset()
        assert torch.allclose(model.step(prompt + tokens[:i]), logits[i], atol=1e-9)
    assert tokens == logits.argmax(-1).tolist()


def test_every_prompt_token_of_glm_but_the_last_is_seen_by_all() -> None:
    """The first layer's key of token 0 depends on no other, but the second layer's does."""
    spec = small("glm")
    model = PlainModel(spec, wide(spec))
    caches = []
    for middle in (5, 6):
        model.reset()
        model.step([1, 2, middle, 4])
        caches.append([cache[0][:, 0] for cache in model._caches if cache is not None])
    assert torch.equal(caches[0][0], caches[1][0])
    assert not torch.allclose(caches[0][1], caches[1][1])


def test_greedy_starts_over_and_tells_of_each_layer() -> None:
    told: list[tuple[int, int]] = []
    spec = small("gpt2")
    model = PlainModel(spec, wide(spec), progress=lambda done, of: told.append((done, of)))
    first, _ = model.greedy([1, 2, 3], 4)
    assert told == [(1, 3), (2, 3), (3, 3)] * 4
    assert model.greedy([1, 2, 3], 4)[0] == first


@pytest.mark.parametrize("tokens", [[], [100], [-1], list(range(33))])
def test_impossible_tokens_are_refused(tokens: list[int]) -> None:
    spec = small("gpt2")
    with pytest.raises(ValueError, match=r"token|positions"):
        PlainModel(spec, synthetic_model(spec, 1)).step(tokens)


def test_bert_encodes_and_does_not_generate() -> None:
    spec = small("bert")
    model = PlainModel(spec, synthetic_model(spec, 1))
    assert model.encode([1, 2, 3]).shape == (3, 48)
    with pytest.raises(ValueError, match="bert"):
        model.step([1, 2, 3])
