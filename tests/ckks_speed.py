"""How fast a matrix times an encrypted vector is, beside TenSEAL's own: `python -m tests.ckks_speed
[SIZE [ROUNDS]]`.

Both have the same degree and primes, one thread and 128-bit security; SIZE (1024) is both sides of the
matrix. ROUNDS (3) in turns. Timed is what the provider does with a ciphertext: here the product and what
hides the matrix; there `matmul`, which encodes the matrix on the way, so that encoding is also shown.
Prints seconds, the largest errors, and the ratio of medians.
"""

import sys
import time
from collections.abc import Callable
from statistics import median

import tenseal
import torch

from baselines.ckks.keys import EvaluationKeys, SecretKey
from baselines.ckks.matrix import (
    Diagonals,
    EncodedMatrix,
    flooded_zero,
    hidden,
    matrix_parameters,
    needed,
    reply_scale,
)
from baselines.ckks.scheme import Scheme
from protocols.inputs import linear_input
from protocols.transformer.weights import synthetic_linear

DEGREE = 8192


def timed(work: Callable[[], torch.Tensor]) -> tuple[float, torch.Tensor]:
    """Seconds, and the answer."""
    begin_s = time.perf_counter()
    answer = work()
    return time.perf_counter() - begin_s, answer


def main() -> None:
    """Measure and print."""
    size, rounds = (int(given) for given in (sys.argv[1:] + ["1024", "3"][len(sys.argv) - 1 :]))
    weights, x = synthetic_linear(size, size, 7), linear_input(1, size, 7)
    right = x[0] @ weights.weight.double().T
    places = Diagonals(size, size, DEGREE // 2)
    scheme = Scheme(matrix_parameters(places, DEGREE, None))
    key = SecretKey(scheme)
    keys = EvaluationKeys(scheme, needed(places), key.public(needed(places)))
    begin_s = time.perf_counter()
    matrix = EncodedMatrix(scheme, places, weights.weight, None)
    encoding_s = time.perf_counter() - begin_s
    request = key.encrypt(places.pack(x))

    context = tenseal.context(
        tenseal.SCHEME_TYPE.CKKS,
        DEGREE,
        coeff_mod_bit_sizes=list(scheme.parameters.prime_bits),
        n_threads=1,
    )
    context.global_scale = 2.0 ** scheme.parameters.base[0]  # TenSEAL takes both for equal
    context.generate_galois_keys()
    vector = tenseal.ckks_vector(context, x[0].tolist())
    columns = weights.weight.double().T.tolist()

    def ours() -> torch.Tensor:
        parts = scheme.fresh(request, places.column_blocks, "request")
        rows = matrix.product(parts, keys)
        zeros = [flooded_zero(scheme, keys, places.flood_bits) for _ in rows]
        return scheme.sent([hidden(scheme, *pair) for pair in zip(rows, zeros, strict=True)])

    answers: list[object] = []

    def theirs() -> torch.Tensor:
        answers.append(vector.matmul(columns))
        return torch.empty(0)

    print(f"{size} × {size}, {scheme.parameters}")
    taken: dict[str, list[float]] = {"here": [], "TenSEAL": []}
    for _ in range(rounds):
        seconds, reply = timed(ours)
        taken["here"].append(seconds)
        taken["TenSEAL"].append(timed(theirs)[0])
    found = scheme.worked_on(reply, places.row_blocks, 1, reply_scale(scheme), "reply")
    of_theirs = torch.tensor(answers[-1].decrypt(), dtype=torch.float64)  # type: ignore[attr-defined]
    errors = {
        "here": float((places.unpack(key.decrypt(found), 1)[0] - right).abs().max()),
        "TenSEAL": float((of_theirs - right).abs().max()),
    }
    for name, times in taken.items():
        each = " ".join(f"{seconds:.3f}" for seconds in times)
        print(f"{name:8} {each} s, median {median(times):.3f} s, largest error {errors[name]:.1e}")
    ratio = median(taken["TenSEAL"]) / median(taken["here"])
    whole = median(taken["TenSEAL"]) / (median(taken["here"]) + encoding_s)
    print(f"TenSEAL ÷ here: {ratio:.1f}; with {encoding_s:.3f} s of encoding: {whole:.1f}")


if __name__ == "__main__":
    main()
