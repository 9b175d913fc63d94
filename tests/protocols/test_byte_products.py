"""Products of weights of one byte or two with words: byte by byte what they are word by word."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from protocols.arith import byte_kernels, byte_products, native, ring, vector_byte_kernels

WORDS = (torch.int64, torch.int32)
WEIGHTS = (torch.int8, torch.int16)
KERNELS = {
    "AMX": (native.HAS_TILES, byte_kernels),
    "VNNI": (native.HAS_VNNI, vector_byte_kernels),
    "ring": (True, None),
}


def uniform(rows: int, columns: int, dtype: torch.dtype) -> Tensor:
    generator = torch.Generator().manual_seed(rows * columns)
    parts = torch.randint(-(2**31), 2**31, (2, rows, columns), generator=generator)
    return ((parts[0] << 32) ^ parts[1]).to(dtype)


@pytest.fixture(params=KERNELS, autouse=True)
def kernels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each way of multiplying that the processor has."""
    there, kernels = KERNELS[request.param]
    if not there:
        pytest.skip(f"the processor has no {request.param}")
    monkeypatch.setattr(byte_products, "KERNELS", kernels)


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest) -> Iterator[None]:
    before = ring.threads()
    ring.use_threads(request.param)
    yield
    ring.use_threads(before)


def product(weight: Tensor, x: Tensor) -> Tensor:
    """By bytes; weights of two are kept turned."""
    turned = byte_products.turn(weight) if weight.dtype == torch.int16 else weight
    return byte_products.linear(turned, x)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("dtype", WORDS)
@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize(
    ("m", "k", "n"), [(48, 64, 1), (1, 1, 1), (97, 200, 1), (100, 130, 3), (480, 1000, 9)]
)
def test_products_are_exact(
    m: int, k: int, n: int, weights: torch.dtype, dtype: torch.dtype
) -> None:
    """Whole tiles, rows and columns beyond them, and none at all."""
    weight, x = uniform(m, k, weights), uniform(n, k, dtype)
    assert torch.equal(product(weight, x), ring.linear(weight, x))


@pytest.mark.parametrize("dtype", WORDS)
@pytest.mark.parametrize("weights", WEIGHTS)
def test_rows_may_go_in_blocks(
    weights: torch.dtype, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two rows or four, as many as share a tile; the last block is not full."""
    monkeypatch.setattr(byte_products, "RIGHT_BYTES", 1)
    weight, x = uniform(100, 130, weights), uniform(11, 130, dtype)
    assert torch.equal(product(weight, x), ring.linear(weight, x))


@pytest.mark.parametrize("weight", [-128, 127, -(2**15), 2**15 - 1, 0x7F7F, -0x7F80, -1])
@pytest.mark.parametrize("word", [-1, 2**63 - 1, 0x7F7F7F7F7F7F7F7F, -0x7F7F7F7F7F7F7F80])
def test_long_sums_of_extremes_are_exact(weight: int, word: int) -> None:
    """Of so many columns that a 32-bit counter would not hold them."""
    dtype = torch.int8 if abs(weight) <= 128 else torch.int16
    matrix = torch.full((48, 140_032), weight, dtype=dtype)
    x = torch.full((2, 140_032), word)
    assert torch.equal(product(matrix, x), ring.linear(matrix, x))


@pytest.mark.parametrize("weights", WEIGHTS)
def test_whole_tiles_do_not_go_word_by_word(
    weights: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    if byte_products.KERNELS is None:
        pytest.skip("all do")
    monkeypatch.setattr(ring, "linear", None)
    assert product(uniform(48, 64, weights), uniform(1, 64, torch.int64)).shape == (1, 48)
