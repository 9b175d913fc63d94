"""A matrix by diagonals: right for any shape; the answer's noise does not depend on the matrix."""

from functools import cache

import numpy as np
import pytest
import tenseal.sealapi as seal
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from baselines.ckks.keys import EvaluationKeys, SecretKey
from baselines.ckks.matrix import (
    PRIMES,
    ROW_NORM,
    WEIGHT_BITS,
    Diagonals,
    EncodedMatrix,
    flooded_zero,
    hidden,
    matrix_parameters,
    needed,
    reply_scale,
    require_rows,
)
from baselines.ckks.parameters import STATISTICAL
from baselines.ckks.reencryption import uniform
from baselines.ckks.scheme import Scheme
from protocols.arith import seal_format
from protocols.errors import OutOfRange

DEGREE, SLOTS = 8192, 4096
PLACES = Diagonals(48, 100, SLOTS)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 150), st.integers(1, 150), st.sampled_from([16, 64]))
def test_diagonals_make_the_product(rows: int, columns: int, slots: int) -> None:
    """In the clear, as P0 computes it; every slot has a whole sum."""
    generator = np.random.default_rng(rows * 151 + columns)
    weight, x = generator.normal(size=(rows, columns)), generator.normal(size=(2, columns))
    places = Diagonals(rows, columns, slots)
    packed = places.pack(torch.from_numpy(x)).reshape(2, places.column_blocks, slots)
    b, found = places.baby, []
    for row in packed:
        for i in range(places.row_blocks):
            total = np.zeros(slots)
            for j in reversed(range(places.count // b)):
                total = np.roll(total, -b)
                for c in range(places.column_blocks):
                    block = places.block(weight, i, c)
                    for k in range(j * b, j * b + b):
                        turned = places.diagonal(block, k, turned=j * b)
                        total += turned * np.roll(row[c], j * b - k)
            step = places.e
            while step < slots:
                total, step = total + np.roll(total, -step), 2 * step
            assert np.allclose(total, np.tile(total[: places.e], slots // places.e))
            found.append(total)
    assert np.allclose(places.unpack(np.array(found), 2).numpy(), x @ weight.T)
    assert b * (places.count // b) == places.count


def test_few_rotations_and_keys() -> None:
    """1024 × 1024 in 4096 slots: 256 diagonals, 30 rotations of one input, and 2 more; 4 keys."""
    places = Diagonals(1024, 1024, SLOTS)
    assert (places.count, places.baby, places.rotations) == (256, 16, (1, 16, 1024, 2048))
    wide = Diagonals(4096, 4096, SLOTS)
    assert (wide.encoded_count, wide.rotations) == (4096, (1, 64))


@cache
def parties() -> tuple[Scheme, SecretKey, EvaluationKeys]:
    scheme = Scheme(matrix_parameters(PLACES, DEGREE, None))
    key = SecretKey(scheme)
    return scheme, key, EvaluationKeys(scheme, needed(PLACES), key.public(needed(PLACES)))


def product(weight: torch.Tensor, x: torch.Tensor) -> tuple[EncodedMatrix, list[object]]:
    scheme, key, keys = parties()
    made = EncodedMatrix(scheme, PLACES, weight, None)
    return made, made.product(scheme.fresh(key.encrypt(PLACES.pack(x)), 1, "request"), keys)


def noise(answer: object, weight: torch.Tensor, x: torch.Tensor) -> np.ndarray:
    """The N integers of a product less the right ones, at the scale of PRIMES primes."""
    scheme, key, _ = parties()
    right = torch.zeros(PLACES.e, dtype=torch.float64)
    right[:48] = weight @ x[0]
    scale = scheme.scale * 2.0**WEIGHT_BITS
    exact = scheme.encoded(np.tile(right.numpy(), SLOTS // PLACES.e), PRIMES, scale)
    scheme.evaluator.sub_plain_inplace(answer, exact)
    return np.array(key.decrypt_integers(answer, PRIMES), dtype=object)


def of_longest_rows(sign: int) -> torch.Tensor:
    """Weights all alike, which is where noises add up most."""
    return torch.full((48, 100), sign * (1 - 1e-9) * ROW_NORM / 10, dtype=torch.float64)


@pytest.mark.parametrize("sign", [1, -1])
def test_noise_stays_below_what_the_flood_hides(sign: int) -> None:
    """By STATISTICAL bits, but for what encoding and log₂N of them are for."""
    weight, x = of_longest_rows(sign), torch.zeros((1, 100), dtype=torch.float64)
    _, (answer,) = product(weight, x)
    largest = int(np.abs(noise(answer, weight, x)).max())
    assert 0 < largest < 2 ** (PLACES.flood_bits - STATISTICAL)


def of_random_rows(seed: int) -> torch.Tensor:
    """Weights of which encoding keeps none as it is, in rows of the largest norm."""
    drawn = torch.from_numpy(np.random.default_rng(seed).normal(size=(48, 100)))
    longest: torch.Tensor = (1 - 1e-9) * ROW_NORM * drawn / drawn.norm(dim=1, keepdim=True)
    return longest


def integers(slots: np.ndarray, scale: float) -> np.ndarray:
    """The N integers that encode slots."""
    scheme, _, _ = parties()
    plain = scheme.encoded(slots, PRIMES, scale)
    return np.array(scheme.coefficients(plain, PRIMES), dtype=object)


def rotated(p: np.ndarray, step: int) -> np.ndarray:
    """X → X^g of integers modulo X^N + 1."""
    n = len(p)
    places = np.arange(n) * parties()[0].galois_element(step) % (2 * n)
    out = np.zeros(n, dtype=object)
    out[places % n] = np.where(places < n, p, -p)
    return out


def multiplied(p: np.ndarray, w: np.ndarray) -> np.ndarray:
    """The product of integers modulo X^N + 1, none of which is beyond q/2."""
    scheme, _, _ = parties()
    forms = [scheme.polynomial(each.tolist(), PRIMES, 1.0) for each in (p, w)]
    a, b = (seal_format.plaintext_words(scheme.file.body(f)).reshape(PRIMES, -1) for f in forms)
    moduli = np.array(scheme.moduli[:PRIMES], dtype=object)[:, None]
    words = (a.astype(object) * b.astype(object) % moduli).astype(np.uint64)
    out = seal.Plaintext()
    scheme.file.load(out, seal_format.plaintext(words, scheme.level(PRIMES), 1.0))
    return np.array(scheme.coefficients(out, PRIMES), dtype=object)


def by_encoded_matrix(weight: torch.Tensor, x: torch.Tensor) -> np.ndarray:
    """What the encoded diagonals make of the integers of x, in exact arithmetic: the module's sums."""
    (row,), b = PLACES.pack(x), PLACES.baby
    m, block = integers(row, parties()[0].scale), PLACES.block(weight.numpy(), 0, 0)
    total = np.zeros(DEGREE, dtype=object)
    for k in range(PLACES.count):
        turn = k // b * b
        w = integers(PLACES.diagonal(block, k, turned=turn), 2.0**WEIGHT_BITS)
        total += rotated(multiplied(rotated(m, k - turn), w), turn)
    step = PLACES.e
    while step < SLOTS:
        total, step = total + rotated(total, step), 2 * step
    return total


def test_the_encoded_matrix_and_the_flood_are_all_that_is_seen() -> None:
    """With x ≠ 0: what SEAL adds to the product of the encoded matrix is below what the flood hides, as
    with x = 0. The rounding of the diagonals is not hidden: some 2^−23 of a weight times x."""
    weight, x = of_random_rows(1), torch.from_numpy(np.random.default_rng(2).normal(size=(1, 100)))
    _, (answer,) = product(weight, x)
    scheme, key, _ = parties()
    seen = np.array(key.decrypt_integers(answer, PRIMES), dtype=object)
    exact = by_encoded_matrix(weight, x)
    hidden = 2 ** (PLACES.flood_bits - STATISTICAL)
    assert 0 < int(np.abs(seen - exact).max()) < hidden
    scale = scheme.scale * 2.0**WEIGHT_BITS
    right = np.tile(np.pad((weight @ x[0]).numpy(), (0, PLACES.e - 48)), SLOTS // PLACES.e)
    rounding = exact - integers(right, scale)
    assert int(np.abs(rounding).max()) > hidden
    plain = scheme.polynomial(rounding.tolist(), PRIMES, scale)
    slots = np.array(scheme.encoder.decode_double(plain))
    assert 2.0**-24 < slots.std() / float(x.norm()) < 2.0**-22
    assert np.abs(slots.reshape(-1, PLACES.e)[:, 48:]).max() > 0.1 * slots.std()  # padded rows too


def test_the_flood_alone_is_seen() -> None:
    """What P1 sees of the noise is uniform in ±2^F, whatever the weights: mean size one half."""
    _, _, keys = parties()
    bound = 2.0 ** (PLACES.flood_bits + 13)
    x = torch.zeros((1, 100), dtype=torch.float64)
    for weight in (of_longest_rows(1), torch.zeros((48, 100), dtype=torch.float64)):
        _, (answer,) = product(weight, x)
        scheme = parties()[0]
        scheme.evaluator.add_inplace(answer, flooded_zero(scheme, keys, PLACES.flood_bits))
        seen = noise(answer, weight, x).astype(float) / bound
        assert scheme.parameters.degree == len(seen)
        assert np.abs(seen).max() < 1 + 1e-6
        assert abs(np.abs(seen).mean() - 0.5) < 5 * 0.289 / len(seen) ** 0.5
        assert abs(seen.mean()) < 5 * 0.577 / len(seen) ** 0.5


def test_two_replies_share_nothing() -> None:
    scheme, key, keys = parties()
    weight, x = of_longest_rows(1), torch.ones((1, 100), dtype=torch.float64)
    made = EncodedMatrix(scheme, PLACES, weight, None)
    fresh = key.encrypt(PLACES.pack(x))
    replies = []
    for _ in range(2):
        (answer,) = made.product(scheme.fresh(fresh, 1, "request"), keys)
        zero = flooded_zero(scheme, keys, PLACES.flood_bits)
        replies.append(scheme.words(hidden(scheme, answer, zero)))
    assert (replies[0] == replies[1]).mean() < 1e-3  # c0 and c1 alike
    slots = key.decrypt([scheme.ciphertext(replies[0], reply_scale(scheme))])
    right = float((weight @ x[0])[0])
    assert np.abs(slots[0, :48] - right).max() < 1e-3
    assert np.abs(slots[0].reshape(-1, PLACES.e) - slots[0, : PLACES.e]).max() < 1e-3


def test_long_rows_are_refused() -> None:
    require_rows(of_longest_rows(1))
    with pytest.raises(OutOfRange, match=r"a row of weights has norm 4\.04, above 4"):
        require_rows(1.01 * of_longest_rows(1))


def test_uniform_is_uniform() -> None:
    drawn = np.array([value / 2.0**70 for value in uniform(70, 4000)])
    assert -1 <= drawn.min() < -0.99
    assert 0.99 < drawn.max() < 1
    assert abs(drawn.mean()) < 5 * 0.577 / 4000**0.5
