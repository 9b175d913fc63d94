"""y = W·x + b under CKKS: `linear` with slots, rotations and their keys in the place of coefficients.

N = 8192, parameters in `ckks_parameters`, which SEAL holds to 128 bits; products and their noise in
`baselines.ckks.matrix`. Rows of x are ciphertexts of their own.

| phase | from → to | what, of n rows | payload | hop |
|---|---|---|---|---|
| prepare | P1 → P0 | Galois keys for all matrices, a public key | `key_bytes` | 1 |
| prepare | P0 → P1 | the scale of W | 8 | 1 |
| online | P1 → P0 | x under encryption: c0 over three primes, the seed of c1 | `query_bytes` | 1 |
| online | P0 → P1 | y under encryption: c0 and c1 over one prime | `reply_bytes` | 2 |

    P0:  W∘x̂, by diagonals, + (b·u + e0 + flood, a·u + e1), divided by p1 and p2 and rounded
    P1:  y, decoded and divided by both scales

**What P0 learns:** nothing; it sees ring-LWE samples. **What P1 learns:** what the encoded W makes of x,
in rows of padding too: y, and beside it about 2^-23 of a weight, for encoding rounds. c1 is made anew by
P0's encryption of zero under P1's public key. The noise of computing is below 2^(F − 53) in each of N = 2^13
integers, F as in `baselines.ckks.matrix`, and the flood is uniform in ±2^F:

    distance ≤ N·2^(F − 53)/2^(F + 1) = 2^-41 an answer's ciphertext

The flood has room in q; it is most of the error that `system.precision` allows. P0 makes both offline.
Semi-honest; a P1 that encrypts with larger noise than it should learns more.

P1 keeps what it decrypts to itself: an error under CKKS depends on the secret key (eprint 2020/1533).

Secrets are SEAL's and the operating system's, whatever `key_seed` is. SEAL holds Python's lock.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
from torch import Tensor

from baselines.ckks.matrix import (
    PRIMES,
    ROW_NORM,
    WEIGHT_BITS,
    Diagonals,
    EncodedMatrix,
    flooded_zero,
    hidden,
    reply_scale,
)
from baselines.ckks.scheme import parts
from baselines.he_linear.ckks_parameters import (
    flood_bits,
    input_norm,
    pieces,
    query_count,
    reply_count,
)
from baselines.he_linear.secret_matrix import SecretMatrix
from protocols.party import P0, P1

QUERY, REPLY = "query", "reply"
BELOW_NORM = 1 - 1e-6  # float32 rounds


class CkksMatrix(SecretMatrix):
    """Under CKKS."""

    @cached_property
    def _pieces(self) -> tuple[Diagonals, ...]:
        return pieces(self._shape)

    def _scaled(self, weight: Tensor) -> tuple[Tensor, float]:
        longest = float(weight.double().norm(dim=1).max())
        scale = BELOW_NORM * ROW_NORM / (longest or 1.0)
        return (weight.double() * scale).float(), scale

    def _encoded(self, numbers: Tensor) -> list[EncodedMatrix]:
        """One a piece."""
        scheme, columns = self._ctx.ckks.scheme, [one.columns for one in self._pieces]
        pairs = zip(self._pieces, numbers.split_with_sizes(columns, dim=1), strict=True)
        return [EncodedMatrix(scheme, one, part, None) for one, part in pairs]

    def _blank(self, count: int) -> None:
        """SEAL encrypts at once."""

    def _zero(self) -> list[Any]:
        """One a ciphertext."""
        ckks, count = self._ctx.ckks, reply_count(self._shape)
        bits = flood_bits(self._shape)
        return [flooded_zero(ckks.scheme, ckks.evaluation, bits) for _ in range(count)]

    def _asked(self, x: Tensor) -> Tensor:
        ctx, ckks = self._ctx, self._ctx.ckks
        self._blanks.popleft()
        wide = self._checked(x).double()
        scales = input_norm(self._shape) / wide.norm(dim=1, keepdim=True)
        with ctx.party.step(QUERY):
            ctx.party.send(P0, ckks.secret.encrypt(self._packed(wide * scales)))
        with ctx.party.step(REPLY):
            (message,) = parts(ctx.party.recv(P0), 1, f"{self._name}: {REPLY}")
            count, scale = len(x) * reply_count(self._shape), reply_scale(ckks.scheme)
            found = ckks.scheme.worked_on(message, count, 1, scale, f"{self._name}: {REPLY}")
            opened = self._pieces[0].unpack(ckks.secret.decrypt(found), len(x))
        y: Tensor = opened / (scales * self._scale)
        return y

    def _answer(self, n: int, added: Tensor | None) -> None:
        ctx, ckks, each = self._ctx, self._ctx.ckks, query_count(self._shape)
        with ctx.party.step(QUERY):
            (message,) = parts(ctx.party.recv(P1), 1, f"{self._name}: {QUERY}")
            query = ckks.scheme.fresh(message, n * each, f"{self._name}: {QUERY}")
        with ctx.party.step(REPLY):
            replies: list[Any] = []
            for i, (zeros, weights) in enumerate(self._zeros.popleft()):
                row = self._product(query[i * each : (i + 1) * each], weights)
                if added is not None:
                    self._add(row, added[i])
                pairs = zip(row, zeros, strict=True)
                replies += [hidden(ckks.scheme, y, zero) for y, zero in pairs]
            ctx.party.send(P1, ckks.scheme.sent(replies))

    def _packed(self, x: Tensor) -> np.ndarray[Any, np.dtype[np.float64]]:
        """x (n, columns) → slots (n·query_count, slots), row after row."""
        columns = x.split_with_sizes([one.columns for one in self._pieces], dim=1)
        pairs = zip(self._pieces, columns, strict=True)
        slots = [one.pack(part).reshape(len(x), one.column_blocks, -1) for one, part in pairs]
        whole = np.concatenate(slots, axis=1)
        return whole.reshape(-1, whole.shape[-1])

    def _product(self, x: Sequence[Any], weights: Sequence[EncodedMatrix]) -> list[Any]:
        """P0: the ciphertexts of W·x, noise and all."""
        ckks, at, rows = self._ctx.ckks, 0, []
        for one, matrix in zip(self._pieces, weights, strict=True):
            rows.append(matrix.product(x[at : at + one.column_blocks], ckks.evaluation))
            at += one.column_blocks
        total, *others = rows
        for other in others:
            for y, more in zip(total, other, strict=True):
                ckks.scheme.evaluator.add_inplace(y, more)
        return total

    def _add(self, row: Sequence[Any], added: Tensor) -> None:
        """P0: its own (rows,), at W's scale, on top of a one-hot's answer."""
        scheme, one = self._ctx.ckks.scheme, self._pieces[0]
        limited = self._limited(added, ROW_NORM)
        values = np.zeros(one.row_blocks * one.e)
        values[: one.rows] = limited.numpy() * input_norm(self._shape)
        for y, part in zip(row, values.reshape(len(row), -1), strict=True):
            slots = np.tile(part, one.slots // one.e)
            plain = scheme.encoded(slots, PRIMES, scheme.scale * 2.0**WEIGHT_BITS)
            scheme.evaluator.add_plain_inplace(y, plain)
