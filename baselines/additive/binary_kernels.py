"""The word operations of `binary`, each in one pass over memory."""

from numba import njit

from baselines.additive.kernels import Words


@njit(cache=True, nogil=True)
def mask(out: Words, u: Words, v: Words, a: Words, b: Words) -> None:
    """u ^ a, then v ^ b."""
    n = u.size
    for i in range(n):
        out[i] = u[i] ^ a[i]
        out[n + i] = v[i] ^ b[i]


@njit(cache=True, nogil=True)
def close(out: Words, own: Words, theirs: Words, a: Words, b: Words, c: Words, leads: bool) -> None:
    """The share of u & v from both parties' u ^ a and v ^ b."""
    n = out.size
    for i in range(n):
        d = own[i] ^ theirs[i]
        g = own[n + i] ^ theirs[n + i]
        out[i] = c[i] ^ (d & (b[i] ^ g if leads else b[i])) ^ (g & a[i])
