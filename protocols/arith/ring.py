"""Products in Z_2^64 (and its quotient Z_2^32): exact, for weights of any integer type.

The kernel takes tiles of four weight rows by two activation rows, so that eight products share six
loads, and a wide product 1024 columns at a time, so that the activations stay in the cache. One
activation row alone is a matter of memory: int16 weights take a quarter of int64's time.
"""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import pairwise

import numpy as np
import torch
from numba import get_num_threads, njit, prange, set_num_threads
from numba.np.ufunc.parallel import threading_layer
from numpy.typing import NDArray
from torch import Tensor

_ROWS = 4  # weight rows a tile
_DEPTH = 1024  # columns a tile: activation rows of that length stay in the L2 cache
_STREAMS = 8  # weight rows a block for one activation row
_CHUNK = 64  # weight rows a parallel task, a multiple of both
_ONE_AT_A_TIME = threading.Lock()


@njit(cache=True, nogil=True)
def _one(
    w: NDArray[np.int64], x: NDArray[np.int64], y: NDArray[np.int64], i: int, lo: int, hi: int
) -> None:
    """Four weight rows times the last activation row, columns lo to hi."""
    c = x.shape[0] - 1
    w0, w1, w2, w3 = w[i, lo:hi], w[i + 1, lo:hi], w[i + 2, lo:hi], w[i + 3, lo:hi]
    xc = x[c, lo:hi]
    a0 = np.int64(0)
    a1 = np.int64(0)
    a2 = np.int64(0)
    a3 = np.int64(0)
    for j in range(xc.shape[0]):
        v = xc[j]
        a0 += np.int64(w0[j]) * v
        a1 += np.int64(w1[j]) * v
        a2 += np.int64(w2[j]) * v
        a3 += np.int64(w3[j]) * v
    y[c, i] += a0
    y[c, i + 1] += a1
    y[c, i + 2] += a2
    y[c, i + 3] += a3


@njit(cache=True, nogil=True)
def _pairs(
    w: NDArray[np.int64], x: NDArray[np.int64], y: NDArray[np.int64], i: int, lo: int, hi: int
) -> None:
    """Four weight rows times two activation rows at a time, columns lo to hi."""
    w0, w1, w2, w3 = w[i, lo:hi], w[i + 1, lo:hi], w[i + 2, lo:hi], w[i + 3, lo:hi]
    for c in range(0, x.shape[0] - 1, 2):
        xa, xb = x[c, lo:hi], x[c + 1, lo:hi]
        a0 = np.int64(0)
        a1 = np.int64(0)
        a2 = np.int64(0)
        a3 = np.int64(0)
        b0 = np.int64(0)
        b1 = np.int64(0)
        b2 = np.int64(0)
        b3 = np.int64(0)
        for j in range(xa.shape[0]):
            u, v = xa[j], xb[j]
            a0 += np.int64(w0[j]) * u
            a1 += np.int64(w1[j]) * u
            a2 += np.int64(w2[j]) * u
            a3 += np.int64(w3[j]) * u
            b0 += np.int64(w0[j]) * v
            b1 += np.int64(w1[j]) * v
            b2 += np.int64(w2[j]) * v
            b3 += np.int64(w3[j]) * v
        y[c, i] += a0
        y[c, i + 1] += a1
        y[c, i + 2] += a2
        y[c, i + 3] += a3
        y[c + 1, i] += b0
        y[c + 1, i + 1] += b1
        y[c + 1, i + 2] += b2
        y[c + 1, i + 3] += b3


@njit(cache=True, nogil=True)
def _row(w: NDArray[np.int64], x: NDArray[np.int64], y: NDArray[np.int64], i: int) -> None:
    for c in range(x.shape[0]):
        a = np.int64(0)
        for j in range(x.shape[1]):
            a += np.int64(w[i, j]) * x[c, j]
        y[c, i] = a


@njit(cache=True, nogil=True)
def _vector(w: NDArray[np.int64], x: NDArray[np.int64], y: NDArray[np.int64], i: int) -> None:
    """Eight weight rows times the only activation row: eight streams keep the memory busy."""
    w0, w1, w2, w3 = w[i], w[i + 1], w[i + 2], w[i + 3]
    w4, w5, w6, w7 = w[i + 4], w[i + 5], w[i + 6], w[i + 7]
    a0 = np.int64(0)
    a1 = np.int64(0)
    a2 = np.int64(0)
    a3 = np.int64(0)
    a4 = np.int64(0)
    a5 = np.int64(0)
    a6 = np.int64(0)
    a7 = np.int64(0)
    for j in range(x.shape[0]):
        v = x[j]
        a0 += np.int64(w0[j]) * v
        a1 += np.int64(w1[j]) * v
        a2 += np.int64(w2[j]) * v
        a3 += np.int64(w3[j]) * v
        a4 += np.int64(w4[j]) * v
        a5 += np.int64(w5[j]) * v
        a6 += np.int64(w6[j]) * v
        a7 += np.int64(w7[j]) * v
    y[i] = a0
    y[i + 1] = a1
    y[i + 2] = a2
    y[i + 3] = a3
    y[i + 4] = a4
    y[i + 5] = a5
    y[i + 6] = a6
    y[i + 7] = a7


@njit(cache=True, nogil=True)
def _rows(
    w: NDArray[np.int64], x: NDArray[np.int64], y: NDArray[np.int64], first: int, last: int
) -> None:
    """y, which is zero, becomes x · wᵀ in columns first to last."""
    n, k = x.shape
    if n == 1:
        whole = first + (last - first) // _STREAMS * _STREAMS
        for i in range(first, whole, _STREAMS):
            _vector(w, x[0], y[0], i)
    else:
        whole = first + (last - first) // _ROWS * _ROWS
        for lo in range(0, k, _DEPTH):
            for i in range(first, whole, _ROWS):
                _pairs(w, x, y, i, lo, min(k, lo + _DEPTH))
                if n % 2:
                    _one(w, x, y, i, lo, min(k, lo + _DEPTH))
    for i in range(whole, last):
        _row(w, x, y, i)


@njit(cache=True, nogil=True)
def _serial(w: NDArray[np.int64], x: NDArray[np.int64], y: NDArray[np.int64]) -> None:
    _rows(w, x, y, 0, w.shape[0])


@njit(cache=True, nogil=True, parallel=True)
def _parallel(w: NDArray[np.int64], x: NDArray[np.int64], y: NDArray[np.int64]) -> None:
    for t in prange((w.shape[0] + _CHUNK - 1) // _CHUNK):
        _rows(w, x, y, t * _CHUNK, min(w.shape[0], (t + 1) * _CHUNK))


def threads() -> int:
    """How many threads products of the calling thread use."""
    return int(get_num_threads())


def use_threads(n: int) -> None:
    """Let products and torch use `n` threads: those that the calling thread asks for."""
    torch.set_num_threads(n)
    set_num_threads(n)


@contextmanager
def at_most_threads(n: int | None) -> Iterator[None]:
    """Let the calling thread use no more than `n` inside; None changes nothing."""
    before = threads()
    use_threads(min(before, n or before))
    try:
        yield
    finally:
        use_threads(before)


def warm_up() -> None:
    """Compile the products, or load them compiled, so that nobody's measurement pays for it."""
    x = torch.ones(1, 1, dtype=torch.int64)
    for dtype in (torch.int16, torch.int32, torch.int64):
        linear(x.to(dtype), x)
    matmul_t(x[None], x[None])
    matmul(x[None], x[None])


def linear(weight: Tensor, x: Tensor) -> Tensor:
    """x · weightᵀ modulo the ring of x: weight (m, k) of any integer type, x int64 or int32 (n, k);
    the result (n, m) is of x's type."""
    y = torch.zeros((x.shape[0], weight.shape[0]), dtype=torch.int64)
    arrays = weight.contiguous().numpy(), x.to(torch.int64).contiguous().numpy(), y.numpy()
    if get_num_threads() == 1:
        _serial(*arrays)
    else:
        with exclusive():
            _parallel(*arrays)
    return y.to(x.dtype)


def serial(weight: Tensor, x: Tensor) -> Tensor:
    """`linear` on the calling thread alone; int64, whatever the ring of x is."""
    y = torch.zeros((x.shape[0], weight.shape[0]), dtype=torch.int64)
    _serial(weight.contiguous().numpy(), x.to(torch.int64).contiguous().numpy(), y.numpy())
    return y


def exclusive() -> AbstractContextManager[object]:
    """Held around a parallel kernel. numba's own pool of threads, which it uses where the machine has
    neither OpenMP nor TBB, aborts the process when two threads start kernels at once."""
    try:
        safe = threading_layer() in ("omp", "tbb")  # type: ignore[no-untyped-call]
    except ValueError:  # no kernel ran yet
        safe = False
    return nullcontext() if safe else _ONE_AT_A_TIME


def in_parallel(count: int, part: Callable[[int, int], None]) -> None:
    """part(lo, hi) for pieces of 0 … count, on as many threads as products may use."""
    threads = min(get_num_threads(), count)
    if threads <= 1:
        part(0, count)
        return
    edges = [count * t // threads for t in range(threads + 1)]
    with ThreadPoolExecutor(threads) as pool:
        for done in [pool.submit(part, lo, hi) for lo, hi in pairwise(edges)]:
            done.result()


@njit(cache=True, nogil=True)
def _batched(w: NDArray[np.int64], x: NDArray[np.int64], y: NDArray[np.int64]) -> None:
    for b in range(w.shape[0]):
        _rows(w[b], x[b], y[b], 0, y.shape[2])


@njit(cache=True, nogil=True)
def _sums(x: NDArray[np.int64], w: NDArray[np.int64], y: NDArray[np.int64]) -> None:
    for b in range(x.shape[0]):
        for c in range(x.shape[1]):
            out = y[b, c]
            for j in range(x.shape[2]):
                factor, row = x[b, c, j], w[b, j]
                for t in range(out.shape[0]):
                    out[t] += factor * row[t]


def matmul(x: Tensor, w: Tensor) -> Tensor:
    """x · w mod 2^64 a head: x int64 (h, n, k), w int64 (h, k, m); int64 (h, n, m)."""
    y = torch.zeros((x.shape[0], x.shape[1], w.shape[2]), dtype=torch.int64)
    _sums(x.contiguous().numpy(), _whole(w).numpy(), y.numpy())
    return y


def _whole(w: Tensor) -> Tensor:
    """Contiguous memory that begins with w: of a cache's first rows, the whole cache, uncopied.

    A kernel must know that rows are contiguous, or it does not vectorise.
    """
    if w.is_contiguous() or w.stride()[1:] != (w.shape[2], 1):
        return w.contiguous()
    step = w.stride(0)
    return w.as_strided((w.shape[0], step // w.shape[2], w.shape[2]), (step, w.shape[2], 1))


def matmul_t(x: Tensor, w: Tensor) -> Tensor:
    """x · wᵀ mod 2^64 a head: x int64 (h, n, k), w int64 (h, m, k); int64 (h, n, m)."""
    y = torch.zeros((x.shape[0], x.shape[1], w.shape[1]), dtype=torch.int64)
    _batched(_whole(w).numpy(), x.contiguous().numpy(), y.numpy())
    return y
