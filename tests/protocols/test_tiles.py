"""Products in 8-bit digits against those in words, and keystreams against the library's."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from protocols.arith import keystream, native, ring, tile_kernels, tiles, word_kernels
from protocols.arith.keystream import Keystream
from protocols.arith.prg import Stream

KEY = bytes(range(16))
WORDS = (torch.int64, torch.int32)
# Digits at both ends, carries through all of them, and sums that wrap their 32-bit counters.
EXTREMES = [0, -1, 1, 2**63 - 1, -(2**63), 0x7F7F7F7F7F7F7F7F, -0x7F7F7F7F7F7F7F80, 0x80808080]


def words(rows: int, columns: int, dtype: torch.dtype, seed: int) -> Tensor:
    """Uniform over the ring."""
    generator = torch.Generator().manual_seed(seed)
    parts = torch.randint(-(2**31), 2**31, (2, rows, columns), generator=generator)
    return ((parts[0] << 32) ^ parts[1]).to(dtype)


def packed(w: Tensor) -> Tensor:
    """w in digits."""
    out = tiles.tiled(w.shape[0], w.shape[1], w.dtype.itemsize)
    tiles.pack(w, out)
    return out


KERNELS = {
    "AMX": (native.HAS_TILES, tile_kernels),
    "IFMA": (native.HAS_IFMA, word_kernels),
    "ring": (True, None),
}


@pytest.fixture(params=KERNELS)
def kernels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each way of multiplying that the processor has."""
    there, kernels = KERNELS[request.param]
    if not there:
        pytest.skip(f"the processor has no {request.param}")
    monkeypatch.setattr(tiles, "KERNELS", kernels)


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("dtype", WORDS)
@pytest.mark.parametrize(
    ("m", "k", "n"), [(1, 1, 1), (16, 64, 16), (17, 65, 3), (40, 33, 18), (33, 9000, 33)]
)
def test_products_are_exact(m: int, k: int, n: int, dtype: torch.dtype) -> None:
    """For shapes that fill tiles and for those that do not."""
    w, x = words(m, k, dtype, 1), words(n, k, dtype, 2)
    assert torch.equal(tiles.linear(packed(w), x, m), ring.linear(w, x))
    mask = tiles.Mask(KEY, m, k, dtype)
    assert torch.equal(mask.linear(x), ring.linear(mask.rows(0, m), x))


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("a", EXTREMES)
def test_sums_of_equal_extremes_are_exact(a: int) -> None:
    for b in EXTREMES:
        w, x = torch.full((16, 16384), a), torch.full((2, 16384), b)
        assert torch.equal(tiles.linear(packed(w), x, 16), ring.linear(w, x)), hex(b)


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 40), st.integers(1, 200), st.sampled_from(WORDS), st.integers(0, 99))
def test_digits_are_the_words(m: int, k: int, dtype: torch.dtype, seed: int) -> None:
    w = words(m, k, dtype, seed)
    w[0, 0] = torch.iinfo(dtype).min
    back = torch.empty_like(w)
    tiles.unpack(packed(w), back)
    assert torch.equal(back, w)


def test_a_mask_is_the_same_from_any_row_on_and_uniform() -> None:
    mask = tiles.Mask(KEY, 100, 70, torch.int64)
    whole = mask.rows(0, 100)
    assert torch.equal(mask.rows(48, 100), whole[48:])
    assert len(set(whole.reshape(-1).tolist())) == whole.numel()
    bits = whole.numel() * 64
    ones = sum(int(((whole >> i) & 1).sum()) for i in range(64))
    assert abs(ones - bits / 2) < 5 * bits**0.5 / 2


@pytest.mark.parametrize("vector", [True, False])
def test_a_keystream_is_what_the_library_makes(
    vector: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the start, and from a block whose number needs more than 32 bits."""
    if vector and not native.HAS_AES:
        pytest.skip("the processor has no vector AES")
    monkeypatch.setattr(keystream, "HAS_AES", vector)
    out = torch.empty(4096, dtype=torch.uint8)
    Keystream(KEY).fill(out)
    assert torch.equal(out, Stream(KEY).int64(512).view(torch.uint8))
    late, block = torch.empty(1024, dtype=torch.uint8), (1 << 33) + 5
    Keystream(KEY).fill(late, block)
    monkeypatch.setattr(keystream, "HAS_AES", False)
    right = torch.empty_like(late)
    Keystream(KEY).fill(right, block)
    assert torch.equal(late, right)
    with pytest.raises(ValueError, match="pieces of 512 bytes"):
        Keystream(KEY).fill(torch.empty(100, dtype=torch.uint8))


@pytest.mark.usefixtures("kernels")
@pytest.mark.skipif(not native.HAS_AES, reason="the processor has no vector AES")
@pytest.mark.parametrize("dtype", WORDS)
def test_a_drawn_matrix_is_multiplied_part_by_part(dtype: torch.dtype) -> None:
    """Catches a part that is drawn from another one's place in the keystream."""
    if tiles.KERNELS is None:
        pytest.skip("words are drawn first, then multiplied")
    x = words(2, 70, dtype, 3)
    out = tiles.Product(x, 80)
    for lo, hi in ((2, 5), (0, 2)):
        out.draw(Keystream(KEY), lo, hi)
    assert torch.equal(out.result(), ring.linear(tiles.Mask(KEY, 80, 70, dtype).rows(0, 80), x))
