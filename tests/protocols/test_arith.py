"""Properties of the ring's products, the PRG, permutations and exact truncation."""

import os
import subprocess
import sys
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from protocols.arith import ring
from protocols.arith.prg import Prg
from protocols.permllm.domain import MAX_WEIGHT_FRAC, Ring64

MAX = 2**63 - 1


def draw(seed: int, *shape: int) -> torch.Tensor:
    return Prg.root(seed, "test").stream("x").int64(*shape)


def exact(weight: torch.Tensor, x: torch.Tensor) -> list[list[int]]:
    """x · weightᵀ with Python's integers, reduced to two's complement."""
    rows = [
        [sum(a * b for a, b in zip(r, w, strict=True)) for w in weight.tolist()] for r in x.tolist()
    ]
    return [[(v + 2**63) % 2**64 - 2**63 for v in row] for row in rows]


@pytest.mark.parametrize("dtype", [torch.int16, torch.int32, torch.int64])
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("n", "m", "k"), [(1, 1, 1), (1, 7, 33), (3, 130, 5), (2, 4, 64)])
def test_products_are_exact_modulo_2_64(
    dtype: torch.dtype, threads: int, n: int, m: int, k: int
) -> None:
    """Catches a row lost in the tail of a block, or a sum that does not wrap."""
    ring.use_threads(threads)
    weight, x = draw(1, m, k).to(dtype), draw(2, n, k)
    assert ring.linear(weight, x).tolist() == exact(weight, x)
    ring.use_threads(1)


TWO_THREADS = """
from concurrent.futures import ThreadPoolExecutor
import torch
from protocols.arith.ring import linear
w, x = torch.ones(512, 512, dtype=torch.int64), torch.ones(8, 512, dtype=torch.int64)
def work(_): return all((linear(w, x) == 512).all() for _ in range(100))
with ThreadPoolExecutor(2) as pool: assert all(pool.map(work, range(2)))
"""


def test_two_threads_may_multiply_at_once_without_openmp() -> None:
    pool = {"NUMBA_THREADING_LAYER": "workqueue", "NUMBA_NUM_THREADS": "2"}
    argv, env = [sys.executable, "-c", TWO_THREADS], os.environ | pool
    done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_batched_product_is_one_product_a_head() -> None:
    x, w = draw(3, 5, 3, 17), draw(4, 5, 6, 17)
    right = [exact(b, a) for a, b in zip(x, w, strict=True)]
    assert ring.matmul_t(x, w).tolist() == right
    assert ring.matmul(x, w.transpose(1, 2)).tolist() == right
    cache = draw(5, 5, 9, 17)  # of which the first rows are in use
    cache[:, :6] = w
    assert ring.matmul_t(x, cache[:, :6]).tolist() == right
    weights = draw(6, 5, 3, 6)
    assert torch.equal(ring.matmul(weights, cache[:, :6]), ring.matmul(weights, w))


@given(
    value=st.integers(-(2**40) + 1, 2**40 - 1),
    bits=st.integers(0, 32),
    mask=st.sampled_from([0, 1, -1, 2**40, 2**40 - 1, -(2**40), MAX, -MAX - 1])
    | st.integers(-MAX - 1, MAX),
)
def test_truncation_is_exact_to_one_ulp(value: int, bits: int, mask: int) -> None:
    """For every value of the range and every mask, however unlucky: no wrap failure, ever."""

    class Fixed:
        def int64(self, *shape: int) -> torch.Tensor:
            return torch.full(shape, mask)

    mask_half = Ring64().safe_mask(Fixed(), 40, 1)  # type: ignore[arg-type]
    delta = torch.tensor([value]) - mask_half
    got = int(Ring64().truncate_value(delta, bits) + Ring64().truncate_mask(mask_half, bits))
    assert abs(got - value / 2**bits) <= 1


def test_streams_depend_on_key_and_name_alone() -> None:
    """Two roles with one key agree whatever else they drew; other names and keys do not."""
    key = bytes(range(16))
    first, second = Prg(key), Prg(key)
    second.stream("other").int64(1000)
    stream = second.stream("mask")
    assert torch.equal(
        first.stream("mask").int64(3, 700_000),
        torch.cat([stream.int64(2, 700_000), stream.int64(1, 700_000)]),
    )
    words = {
        int(p.stream(n).int64(1))
        for p in (first, Prg(bytes(16)), Prg.root(1, "a"), Prg.root(1, "b"), Prg.root(None, "a"))
        for n in ("x", "y")
    }
    assert len(words) == 10


def test_permutations_are_permutations_and_uniform() -> None:
    """All 6 orders of 3 elements appear, each near its share of 6000 draws."""
    rows = Prg.root(5, "test").stream("p").permutations(6000, 3)
    assert torch.equal(rows.sort(dim=1).values, torch.arange(3).expand(6000, 3))
    counts = Counter(tuple(row) for row in rows.tolist())
    assert len(counts) == 6
    assert max(abs(count - 1000) for count in counts.values()) < 150


@given(largest=st.floats(1e-6, 1e4), seed=st.integers(0, 99))
def test_quantized_weights_fit_and_are_close(largest: float, seed: int) -> None:
    weight = draw(seed, 4, 8).double() / 2**63 * largest
    fixed = Ring64().quantize(weight.float(), None, 16)
    assert fixed.values.dtype == torch.int16
    rows = fixed.rows(0, len(weight), torch.int64)
    error = rows.double() * 2.0**-fixed.frac - weight.float().double()
    assert float(error.abs().max()) <= 2.0 ** -(fixed.frac + 1)
    room = float(weight.abs().max()) * 2.0 ** (fixed.frac + 1)
    assert fixed.frac == MAX_WEIGHT_FRAC or room > 2**15 - 1
