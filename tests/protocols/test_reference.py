"""The plaintext transformer layer against independent implementations."""

import cmath
import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from protocols.inputs import nonlinear_input
from protocols.transformer.reference import attention, gelu, layer_forward, layer_norm, rms_norm
from protocols.transformer.rotary import rotary_tables, rotate_half
from protocols.transformer.spec import Family, TransformerSpec
from protocols.transformer.weights import LayerWeights, Linear, synthetic_layer
from tests.plain_rows import FAMILIES, ROTARY, error, small, tokens

CAUSAL: tuple[Family, ...] = ("gpt2", "llama", "glm")


def strong(spec: TransformerSpec, seed: int = 0) -> LayerWeights:
    """Synthetic weights enlarged until every sub-block moves the output by order 1."""
    w = synthetic_layer(spec, seed)

    def grow(layer: Linear) -> Linear:
        bias = None if layer.bias is None else layer.bias * 20
        return Linear(layer.weight * 10, bias)

    return replace(w, qkv=grow(w.qkv), out=grow(w.out), up=grow(w.up), down=grow(w.down))


# --- independent implementations -----------------------------------------------------------------


def encoder_layer(spec: TransformerSpec, w: LayerWeights, x: Tensor) -> Tensor:
    """GPT-2 and BERT by torch's own transformer layer."""
    causal = spec.family == "gpt2"
    layer = nn.TransformerEncoderLayer(
        spec.d_model,
        spec.n_heads,
        spec.d_ff,
        dropout=0.0,
        activation=(lambda t: F.gelu(t, approximate="tanh")) if causal else F.gelu,
        layer_norm_eps=spec.norm_eps,
        norm_first=causal,
        dtype=torch.float64,
    )
    pairs = {
        "self_attn.in_proj_": w.qkv,
        "self_attn.out_proj.": w.out,
        "linear1.": w.up,
        "linear2.": w.down,
    }
    state = {f"{name}weight": linear.weight for name, linear in pairs.items()}
    state |= {
        f"{name}bias": linear.bias for name, linear in pairs.items() if linear.bias is not None
    }
    for name, norm in {"norm1.": w.attn_norm, "norm2.": w.ffn_norm}.items():
        assert norm.bias is not None
        state |= {f"{name}weight": norm.gain, f"{name}bias": norm.bias}
    layer.load_state_dict(state)
    mask = nn.Transformer.generate_square_subsequent_mask(len(x), dtype=torch.float64)
    with torch.no_grad():
        y: Tensor = layer(x, src_mask=mask if causal else None)
    return y


def turn(x: Tensor, positions: list[int]) -> Tensor:
    """LLaMA's rotation as a product of complex numbers, x (q, width)."""
    half = x.shape[-1] // 2
    rows = []
    for row, position in zip(x, positions, strict=True):
        angles = [position / 10000 ** (2 * i / x.shape[-1]) for i in range(half)]
        phases = torch.tensor([cmath.rect(1, a) for a in angles], dtype=torch.complex128)
        turned = torch.complex(row[:half], row[half:]) * phases
        rows.append(torch.cat((turned.real, turned.imag)))
    return torch.stack(rows)


def rotated_heads(
    spec: TransformerSpec, rows: Tensor, positions: list[int], blocks: list[int]
) -> Tensor:
    """All heads of q or k, (q, d_model) to (n_heads, q, d_head), with positions applied."""
    heads = []
    for head in torch.split(rows, spec.d_head, dim=-1):
        if spec.family == "llama":
            heads.append(turn(head, positions))
            continue
        first, second = head.chunk(2, dim=-1)
        heads.append(torch.cat((turn(first, positions), turn(second, blocks)), dim=-1))
    return torch.stack(heads)


def rotary_layer(
    spec: TransformerSpec, w: LayerWeights, x: Tensor, positions: list[int], blocks: list[int]
) -> Tensor:
    """LLaMA and GLM on a whole sequence by torch.nn.functional."""
    shape = (spec.d_model,)

    def apply(layer: Linear, t: Tensor) -> Tensor:
        return F.linear(
            t, layer.weight.double(), None if layer.bias is None else layer.bias.double()
        )

    def attend(t: Tensor) -> Tensor:
        q, k, v = apply(w.qkv, t).chunk(3, dim=-1)
        q, k = (rotated_heads(spec, rows, positions, blocks) for rows in (q, k))
        v = torch.stack(v.chunk(spec.n_heads, dim=-1))
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return apply(w.out, torch.cat(list(mixed), dim=-1))

    if spec.family == "llama":
        gate, up = (Linear(part, None) for part in w.up.weight.chunk(2))
        h = x + attend(F.rms_norm(x, shape, w.attn_norm.gain.double(), spec.norm_eps))
        b = F.rms_norm(h, shape, w.ffn_norm.gain.double(), spec.norm_eps)
        return h + apply(w.down, F.silu(apply(gate, b)) * apply(up, b))
    assert w.attn_norm.bias is not None
    assert w.ffn_norm.bias is not None
    alpha = math.sqrt(2 * spec.n_layers)
    a = F.layer_norm(x, shape, w.attn_norm.gain.double(), w.attn_norm.bias.double(), spec.norm_eps)
    h = a * alpha + attend(a)
    b = F.layer_norm(h, shape, w.ffn_norm.gain.double(), w.ffn_norm.bias.double(), spec.norm_eps)
    return b * alpha + apply(w.down, F.gelu(apply(w.up, b), approximate="tanh"))


# --- the layer -----------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["gpt2", "bert"])
def test_layer_equals_torch_encoder_layer(family: Family) -> None:
    spec = small(family)
    w, x = strong(spec), tokens(spec, 7)
    assert error(layer_forward(spec, w, x)[0], encoder_layer(spec, w, x)) < 1e-12


@pytest.mark.parametrize("family", ROTARY)
def test_layer_equals_complex_rotary_layer(family: Family) -> None:
    spec = small(family)
    w, x = strong(spec), tokens(spec, 7)
    positions, blocks = [0, 1, 2, 3, 9, 9, 9], [0, 0, 0, 0, 1, 2, 3]
    actual = layer_forward(
        spec, w, x, None, torch.tensor(positions), block_positions=torch.tensor(blocks)
    )
    assert error(actual[0], rotary_layer(spec, w, x, positions, blocks)) < 1e-12


@pytest.mark.parametrize("family", ROTARY)
def test_positions_count_from_the_cache_and_blocks_from_zero(family: Family) -> None:
    spec = small(family)
    w, x = strong(spec), tokens(spec, 6)
    expected = rotary_layer(spec, w, x, list(range(6)), [0] * 6)
    head, k, v = layer_forward(spec, w, x[:4])
    tail, *_ = layer_forward(spec, w, x[4:], (k, v))
    assert error(torch.cat((head, tail)), expected) < 1e-12


@pytest.mark.parametrize("family", CAUSAL)
def test_decoding_with_cache_equals_prefill(family: Family) -> None:
    spec = small(family)
    w, x = strong(spec), tokens(spec, 9)
    expected, k, v = layer_forward(spec, w, x)
    rows: list[Tensor] = []
    cache: tuple[Tensor, Tensor] | None = None
    for row in torch.split(x, 1):
        y, *grown = layer_forward(spec, w, row, cache)
        cache = grown[0], grown[1]
        rows.append(y)
    assert error(torch.cat(rows), expected) < 1e-12
    assert cache is not None
    assert error(cache[0], k) < 1e-12
    assert error(cache[1], v) < 1e-12


@pytest.mark.parametrize("family", FAMILIES)
def test_only_bert_sees_later_tokens(family: Family) -> None:
    spec = small(family)
    w, x = strong(spec), tokens(spec, 5)
    changed = x.clone()
    changed[-1] += 1.0
    before, after = (layer_forward(spec, w, t)[0][:-1] for t in (x, changed))
    assert torch.equal(before, after) == (family != "bert")


def test_wide_linear_layers_are_widened_in_blocks_without_loss() -> None:
    spec = replace(small("gpt2"), d_model=768, d_ff=3072)
    w, x = synthetic_layer(spec, 1), tokens(spec, 2)
    assert error(layer_forward(spec, w, x)[0], encoder_layer(spec, w, x)) < 1e-11


# --- its functions -------------------------------------------------------------------------------


def test_functions_equal_torch() -> None:
    x = 3 * torch.randn(5, 40, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) + 1
    gain, bias = x[0] + 1, x[1]
    assert error(gelu(x), F.gelu(x, approximate="tanh")) < 1e-14
    assert error(gelu(x, "erf"), F.gelu(x)) < 1e-14
    assert error(layer_norm(x, 0.1), F.layer_norm(x, (40,), eps=0.1)) < 1e-14
    assert error(layer_norm(x, 0.1, gain, bias), F.layer_norm(x, (40,), gain, bias, 0.1)) < 1e-13
    assert error(rms_norm(x, 0.1, gain), F.rms_norm(x, (40,), gain, 0.1)) < 1e-13
    assert error(layer_norm(x), F.layer_norm(x, (40,))) < 1e-14


def test_causal_attention_aligns_queries_with_the_last_keys() -> None:
    q, k, v = torch.ones(3, 2, 4, 8, dtype=torch.float64)
    v = torch.eye(4, 8, dtype=torch.float64).expand(2, 4, 8)
    weights = attention(q[:, 2:], k, v, causal=True)[..., :4]
    expected = torch.tensor([[1 / 3, 1 / 3, 1 / 3, 0], [1 / 4] * 4], dtype=torch.float64)
    assert error(weights, expected.expand(2, 2, 4)) < 1e-15


# --- rotary positions ----------------------------------------------------------------------------


def rotate(spec: TransformerSpec, x: Tensor, position: int, block: int) -> Tensor:
    cos, sin = rotary_tables(spec, torch.tensor([position]), torch.tensor([block]))
    assert cos.shape == sin.shape == (1, spec.d_head)
    assert cos.dtype == sin.dtype == torch.float64
    return (x * cos + rotate_half(x, spec) * sin)[0]


places = st.integers(0, 2047)


@pytest.mark.parametrize("family", ROTARY)
@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32), position=places, block=places)
def test_rotation_preserves_norms(family: Family, seed: int, position: int, block: int) -> None:
    spec = small(family)
    x = nonlinear_input("gelu", (spec.d_head,), seed)
    assert rotate(spec, x, position, block).norm() == pytest.approx(float(x.norm()), rel=1e-12)


@pytest.mark.parametrize("family", ROTARY)
@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32), at=st.tuples(places, places, places, places), by=places)
def test_scores_depend_on_differences_of_positions(
    family: Family, seed: int, at: tuple[int, int, int, int], by: int
) -> None:
    spec = small(family)
    q, k = nonlinear_input("gelu", (2, spec.d_head), seed)
    here = rotate(spec, q, at[0], at[1]) @ rotate(spec, k, at[2], at[3])
    there = rotate(spec, q, at[0] + by, at[1] + by) @ rotate(spec, k, at[2] + by, at[3] + by)
    assert float(here) == pytest.approx(float(there), abs=1e-10)


@pytest.mark.parametrize("family", ROTARY)
def test_rotate_half_is_a_signed_permutation_of_ring_elements(family: Family) -> None:
    spec = small(family)
    matrix = rotate_half(torch.eye(spec.d_head, dtype=torch.int64), spec)
    ones = torch.ones(spec.d_head, dtype=torch.int64)
    assert torch.equal(matrix.abs().sum(0), ones)
    assert torch.equal(matrix.abs().sum(1), ones)
    assert torch.equal(matrix @ matrix, -torch.eye(spec.d_head, dtype=torch.int64))


def test_glm_block_positions_turn_only_the_second_half() -> None:
    spec = small("glm")
    x, half = tokens(spec, 1)[0, : spec.d_head], spec.d_head // 2
    assert torch.equal(rotate(spec, x, 0, 5)[:half], x[:half])
    assert torch.equal(rotate(spec, x, 5, 0)[half:], x[half:])
    assert not torch.equal(rotate(spec, x, 0, 5)[half:], x[half:])


def test_families_without_rotation_refuse_it() -> None:
    with pytest.raises(ValueError, match="gpt2"):
        rotary_tables(small("gpt2"), torch.arange(3))
