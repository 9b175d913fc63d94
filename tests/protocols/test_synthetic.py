"""Synthetic weights and inputs, and the plaintext answers that follow from them."""

import hashlib
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from protocols.expected_answer import answer
from protocols.inputs import argmax_input, layer_input, nonlinear_input
from protocols.transformer.reference import layer_forward
from protocols.transformer.spec import Family
from protocols.transformer.weights import LayerWeights, Linear, synthetic_layer
from protocols.workload import Argmax, Layer, Nonlinear, NonlinearOp
from tests.plain_rows import FAMILIES, ROTARY, error, small

# --- synthetic weights ---------------------------------------------------------------------------


def flat(w: LayerWeights) -> Tensor:
    norms = [t for n in (w.attn_norm, w.ffn_norm) for t in (n.gain, n.bias)]
    linears = [t for m in (w.qkv, w.out, w.up, w.down) for t in (m.weight, m.bias)]
    return torch.cat([t.reshape(-1) for t in norms + linears if t is not None])


@pytest.mark.parametrize("family", FAMILIES)
def test_weights_have_the_shapes_of_the_family(family: Family) -> None:
    spec, w = small(family), synthetic_layer(small(family), 0)
    inner = 2 * spec.d_ff if family == "llama" else spec.d_ff
    d = spec.d_model
    expected = {"qkv": (3 * d, d), "out": (d, d), "up": (inner, d), "down": (d, spec.d_ff)}
    for name, shape in expected.items():
        layer: Linear = getattr(w, name)
        assert layer.weight.shape == shape
        assert layer.weight.dtype == torch.float32
        assert (layer.bias is None) == (family == "llama")
        assert layer.bias is None or layer.bias.shape == shape[:1]
    assert (w.attn_norm.bias is None) == (family == "llama")
    assert w.ffn_norm.gain.shape == (d,)
    assert w.ffn_norm.eps == spec.norm_eps


def test_weights_follow_seed_and_index() -> None:
    spec = small("gpt2")
    base = flat(synthetic_layer(spec, 5, 2))
    assert torch.equal(base, flat(synthetic_layer(replace(spec, name="other"), 5, 2)))
    assert not torch.equal(base, flat(synthetic_layer(spec, 5, 3)))
    assert not torch.equal(base, flat(synthetic_layer(spec, 6, 2)))


def test_tensors_of_equal_shape_differ() -> None:
    w = synthetic_layer(replace(small("gpt2"), d_ff=48), 0)
    matrices = [w.out.weight, w.up.weight, w.down.weight]
    assert not torch.equal(matrices[0], matrices[1])
    assert not torch.equal(matrices[1], matrices[2])
    assert not torch.equal(w.attn_norm.gain, w.ffn_norm.gain)


def test_weights_do_not_depend_on_threads() -> None:
    spec, threads = replace(small("gpt2"), d_model=384), torch.get_num_threads()
    drawn = []
    try:
        for count in (1, 2, 4):
            torch.set_num_threads(count)
            drawn.append(flat(synthetic_layer(spec, 7)))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(drawn[0], drawn[1])
    assert torch.equal(drawn[0], drawn[2])


def test_weights_are_the_same_on_every_machine() -> None:
    matrix = synthetic_layer(replace(small("llama"), d_model=192), 1).qkv.weight  # several chunks
    assert hashlib.sha256(matrix.numpy().tobytes()).hexdigest()[:16] == "ce61852076bb565c"


def test_weights_have_the_promised_moments() -> None:
    w = synthetic_layer(replace(small("gpt2"), d_model=768), 11)
    values = w.qkv.weight.double()
    count = values.numel()
    assert abs(float(values.mean())) < 5 * 0.02 / count**0.5
    assert float(values.std()) == pytest.approx(0.02, rel=5 / count**0.5)
    assert float(values.abs().max()) < 3.47 * 0.02
    neighbours = (values[:, 1:] * values[:, :-1]).mean() / 0.02**2
    assert abs(float(neighbours)) < 5 / count**0.5
    gains = w.attn_norm.gain.double()
    assert float(gains.mean()) == pytest.approx(1.0, abs=0.02)
    assert float(gains.std()) == pytest.approx(0.1, rel=0.15)


# --- inputs and answers --------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(n=st.integers(1, 3000), seed=st.integers(0, 10**6))
def test_argmax_input_has_a_clear_winner(n: int, seed: int) -> None:
    values = argmax_input(n, seed)
    assert values.shape == (n,)
    assert torch.equal(values, argmax_input(n, seed))
    ordered = sorted(values.tolist(), reverse=True)
    assert n == 1 or ordered[0] - ordered[1] >= 0.01
    assert int(answer(Argmax(n), seed)) == values.tolist().index(ordered[0])


def test_argmax_input_separates_a_near_tie() -> None:
    """Of 1000 seeds at this size about 1 % draw a margin below 0.01 before it is widened."""
    margins = []
    for seed in range(1000):
        largest, second = argmax_input(1000, seed).topk(2).values.tolist()
        margins.append(largest - second)
    assert min(margins) >= 0.01
    assert sum(margin == pytest.approx(0.02, abs=1e-12) for margin in margins) > 0


MOMENTS: list[tuple[NonlinearOp, float, float]] = [
    ("gelu", 0.0, 2.0),
    ("softmax", 0.0, 3.0),
    ("layernorm", 0.5, 1.5),
]


@pytest.mark.parametrize(("op", "mean", "std"), MOMENTS)
def test_nonlinear_inputs_have_the_promised_moments(
    op: NonlinearOp, mean: float, std: float
) -> None:
    x = nonlinear_input(op, (100, 400), 1)
    assert x.shape == (100, 400)
    assert x.dtype == torch.float64
    assert float(x.mean()) == pytest.approx(mean, abs=5 * std / 200)
    assert float(x.std()) == pytest.approx(std, rel=5 / 200)
    assert not torch.equal(x, nonlinear_input(op, (100, 400), 2))


def test_layer_input_has_past_rows_for_the_cache_only() -> None:
    spec = small("gpt2")
    drawn = layer_input(spec, 2, 7, 0)
    assert drawn.x.shape == (2, spec.d_model)
    assert drawn.past_k.shape == drawn.past_v.shape == (spec.n_heads, 5, spec.d_head)
    assert not torch.equal(drawn.past_k, drawn.past_v)
    assert layer_input(spec, 7, 7, 0).past_k.shape == (spec.n_heads, 0, spec.d_head)
    with pytest.raises(ValueError, match="kv_len"):
        layer_input(spec, 8, 7, 0)


def test_answers_of_nonlinear_functions() -> None:
    shape = (4, 30)
    expected: dict[NonlinearOp, Callable[[Tensor], Tensor]] = {
        "gelu": lambda x: F.gelu(x, approximate="tanh"),
        "softmax": lambda x: x.exp() / x.exp().sum(1, keepdim=True),
        "layernorm": lambda x: F.layer_norm(x, (30,), eps=1e-5),
    }
    for op, _, _ in MOMENTS:
        actual = answer(Nonlinear(op, shape), 9)
        assert error(actual, expected[op](nonlinear_input(op, shape, 9))) < 1e-14


@pytest.mark.parametrize("family", ROTARY)
def test_answer_of_a_layer_stands_behind_its_cache(family: Family) -> None:
    spec = small(family)
    drawn, w = layer_input(spec, 2, 6, 4), synthetic_layer(spec, 4)
    expected, *_ = layer_forward(
        spec, w, drawn.x, (drawn.past_k, drawn.past_v), torch.tensor([4, 5])
    )
    assert torch.equal(answer(Layer(spec, 2, 6), 4), expected)
    assert answer(Argmax(10), 0).dtype == torch.int64
    assert answer(Argmax(10), 0).shape == ()
