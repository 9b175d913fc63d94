"""The cipher: exact products, SEAL as referee, what a reply's noise tells, what is refused."""

import os
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tenseal.sealapi as seal
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from baselines.he_linear import cipher
from baselines.he_linear.cipher import Provider, User, answers, as_values, blocked, encoded
from baselines.he_linear.parameters import (
    HIDDEN_BITS,
    NOISE_VARIANCE,
    POLYNOMIAL_BYTES,
    PRIMES,
    N,
    Packing,
    Shape,
    packing,
)
from protocols.arith import seal_context
from protocols.arith.ntt import Words
from protocols.arith.prg import Prg
from protocols.arith.seal_format import framed
from protocols.arith.word_bytes import unpacked

BITS, PRECISION = 31, 11
USER = User(BITS, None)
PROVIDER = Provider(*USER.public_key(), BITS, None)
SMALL = packing(Shape(70, 90), BITS, PRECISION)


def reply(x: Words, weights: Words, one: Packing = SMALL) -> tuple[Words, Words]:
    """c0 and c1 of one row, words modulo p0."""
    blank = USER.blank(one.blocks)
    query = USER.encrypt(blank.c0, blocked(x, one)).numpy()
    blocks = as_values(blank.seed, unpacked(query, PRIMES, "query"))
    zero = PROVIDER.zero(one)
    parts = PROVIDER.answer(blocks, encoded(weights, one).numpy(), zero, one)
    c0, c1 = (unpacked(part.numpy(), PRIMES[:1], "reply")[..., 0, :] for part in parts)
    return c0, c1


def largest(one: Packing) -> tuple[Words, Words]:
    """x and W whose product is as large as may be, with both signs."""
    columns = one.shape.columns
    x = np.full(columns, int(2**one.input_bits / columns**0.5))
    weights = np.full((one.shape.rows, columns), int(2**one.weight_bits / columns**0.5))
    weights[1::2] *= -1
    return x, weights


@settings(max_examples=25, deadline=None)
@given(rows=st.integers(1, 200), columns=st.integers(2, 9000), seed=st.integers(0, 2**32))
def test_products_are_exact(rows: int, columns: int, seed: int) -> None:
    one, rng = packing(Shape(rows, columns), BITS + 3, PRECISION), np.random.default_rng(seed)
    user = User(BITS + 3, None)
    provider = Provider(*user.public_key(), BITS + 3, None)
    x, weights = largest(one)
    x = rng.integers(-x[0], x[0], columns)
    weights = rng.integers(-weights[0, 0], weights[0, 0] + 1, (rows, columns))
    added = rng.integers(-1000, 1000, rows)
    blank, zero = user.blank(one.blocks), provider.zero(one)
    query = unpacked(user.encrypt(blank.c0, blocked(x, one)).numpy(), PRIMES, "query")
    parts = provider.answer(
        as_values(blank.seed, query), encoded(weights, one).numpy(), zero, one, added
    )
    c0, c1 = (unpacked(part.numpy(), PRIMES[:1], "reply")[..., 0, :] for part in parts)
    assert (user.open(c0, c1, one) == weights @ x + added).all()


@pytest.mark.parametrize("shape", [Shape(70, 90), Shape(5, 4097), Shape(9, 3000, exact=True)])
def test_the_largest_products_are_exact(shape: Shape) -> None:
    one = packing(shape, 33, PRECISION)
    x, weights = largest(one)
    if shape.exact:
        x = (np.arange(shape.columns) == 2999).astype(np.int64)
        weights[:, -1] = np.resize([2**31, -(2**31)], shape.rows)
    user = User(33, None)
    provider = Provider(*user.public_key(), 33, None)
    blank = user.blank(one.blocks)
    query = unpacked(user.encrypt(blank.c0, blocked(x, one)).numpy(), PRIMES, "query")
    blocks, zero = as_values(blank.seed, query), provider.zero(one)
    parts = provider.answer(blocks, encoded(weights, one).numpy(), zero, one)
    c0, c1 = (unpacked(part.numpy(), PRIMES[:1], "reply")[..., 0, :] for part in parts)
    assert (user.open(c0, c1, one) == weights @ x).all()


def test_seal_decrypts_the_replies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With the key that SEAL made and parameters that it holds to 128 bits."""
    context = seal_context.context(seal_context.BFV, N, PRIMES, 1 << BITS)
    total = context.key_context_data().total_coeff_modulus_bit_count()
    assert total == 96 <= seal.CoeffModulus.MaxBitCount(N, seal.SEC_LEVEL_TYPE.TC128)
    generator = seal.KeyGenerator(context)
    secret = generator.secret_key()
    words = seal_context.words_of(secret.data(), 0, 2 * N).view(np.int64).reshape(2, N)
    monkeypatch.setattr(cipher, "_secret_key", lambda bits: words)
    monkeypatch.setitem(globals(), "USER", user := User(BITS, None))
    monkeypatch.setitem(globals(), "PROVIDER", Provider(*user.public_key(), BITS, None))
    x, weights = largest(SMALL)
    c0, c1 = reply(x, weights)
    places = SMALL.width - 1 + SMALL.width * np.arange(SMALL.rows)
    for group in range(SMALL.groups):
        mine = c0[group * SMALL.rows : (group + 1) * SMALL.rows]
        full = np.zeros((2, N), np.int64)
        full[0, places[: len(mine)]], full[1] = mine, c1[group]
        body = framed(struct.pack("<Q", full.size) + full.tobytes())
        level = tuple(context.first_parms_id())
        (tmp_path / "c").write_bytes(
            framed(struct.pack("<4QBQQQdQ", *level, 0, 2, N, 1, 1.0, 1) + body)
        )
        loaded, plain = seal.Ciphertext(), seal.Plaintext()
        loaded.load(context, str(tmp_path / "c"))
        seal.Decryptor(context, secret).decrypt(loaded, plain)
        right = weights[group * SMALL.rows : (group + 1) * SMALL.rows] @ x
        got = [plain[int(place)] for place in places[: len(mine)]]
        assert got == [int(value) % 2**BITS for value in right]


def noise(c0: Words, c1: Words, product: Words) -> NDArray[np.float64]:
    """The noise of a reply, as a fraction of the flood's bound."""
    masks = cipher.last_ring()
    values = masks.forward(c1[:, None].copy())
    secret = USER._secret.numpy()[:1]
    phase = c0 + answers(masks.backward(masks.product(values, secret))[:, 0], SMALL)
    wrong = [
        (int(got) - round(PRIMES[0] * int(value) / 2**BITS) + PRIMES[0] // 2) % PRIMES[0]
        - PRIMES[0] // 2
        for got, value in zip(phase, product, strict=True)
    ]
    return np.array(wrong) * PRIMES[1] / 2.0 ** (94 - BITS)


@pytest.mark.parametrize("scale", [0, 1])
def test_the_flood_alone_decides_the_noise_of_a_reply(scale: int) -> None:
    x, weights = largest(SMALL)
    weights *= scale
    found = np.concatenate([noise(*reply(x, weights), weights @ x) for _ in range(20)])
    assert abs(found).max() < 1.01
    # Five standard deviations of the mean of that many uniform numbers, and of their sizes.
    assert abs(found.mean()) < 5 * 0.577 / len(found) ** 0.5
    assert abs(abs(found).mean() - 0.5) < 5 * 0.289 / len(found) ** 0.5


def test_the_noise_before_the_flood_is_as_small_as_hiding_needs() -> None:
    """Its mean size, over what the flood is wide, is the distance: 2^-40 at most."""
    zero = np.zeros(SMALL.shape.columns, np.int64)
    weights = largest(SMALL)[1]
    weights *= np.random.default_rng(1).choice([-1, 1], weights.shape)  # independent values
    found = []
    for _ in range(10):
        blank = USER.blank(SMALL.blocks)
        query = unpacked(USER.encrypt(blank.c0, blocked(zero, SMALL)).numpy(), PRIMES, "query")
        values = cipher.ring().sums(as_values(blank.seed, query), encoded(weights, SMALL).numpy())
        c0, c1 = values[:, 0], values[:, 1]
        phase = cipher.ring().backward((c0 + USER._masked(c1)) % cipher.ring().column)[:, 0]
        found.append(answers(np.where(phase > 2**47, phase - PRIMES[0], phase), SMALL))
    mean = float(np.abs(np.concatenate(found)).mean())
    bound = (NOISE_VARIANCE * SMALL.rows) ** 0.5 * 2**SMALL.weight_bits
    assert 0.2 * bound < mean < bound
    assert bound / 2 ** (95 - BITS) <= 2.0**-HIDDEN_BITS


def test_two_queries_and_two_replies_share_nothing() -> None:
    x, weights = largest(SMALL)
    blanks = [USER.blank(SMALL.blocks) for _ in range(2)]
    queries = [USER.encrypt(blank.c0, blocked(x, SMALL)) for blank in blanks]
    assert not torch.equal(blanks[0].seed, blanks[1].seed)
    assert (queries[0] == queries[1]).float().mean() < 0.05
    for one, two in zip(reply(x, weights), reply(x, weights), strict=True):
        assert not (one == two).any()


def test_one_query_twice_is_answered_afresh() -> None:
    """Encryptions of zero and floods of P0's own."""
    x, weights = largest(SMALL)
    blank = USER.blank(SMALL.blocks)
    query = unpacked(USER.encrypt(blank.c0, blocked(x, SMALL)).numpy(), PRIMES, "query")
    blocks, held = as_values(blank.seed, query), encoded(weights, SMALL).numpy()
    one, two = (PROVIDER.answer(blocks, held, PROVIDER.zero(SMALL), SMALL) for _ in range(2))
    for first, second in zip(one, two, strict=True):
        assert (first == second).float().mean() < 0.05


def test_samples() -> None:
    stream = Prg(os.urandom(16)).stream("samples")
    drawn = cipher.noise(stream, 64, N)
    assert abs(drawn).max() <= 21
    assert abs(drawn.mean()) < 6 * 3.24 / 512
    assert abs(drawn.var() - 10.5) < 6 * 10.5 * 2**0.5 / 512
    thirds = np.bincount(cipher.ternary(stream, 64, N).reshape(-1) + 1) / 64 / N
    assert len(thirds) == 3
    assert abs(thirds - 1 / 3).max() < 6 * 0.4714 / 512


@pytest.mark.parametrize("primes", [PRIMES, (2**47 + 5, 3 * 2**46)])
def test_seeds_expand_to_uniform_words(
    primes: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where half of what is drawn is beyond the prime."""
    monkeypatch.setattr(cipher, "PRIMES", primes)
    seed = torch.tensor(list(os.urandom(16)), dtype=torch.uint8)
    words = cipher.uniform(seed, 64)
    assert (words == cipher.uniform(seed, 64)).all()
    for i, p in enumerate(primes):
        assert 0 <= words[:, i].min() <= words[:, i].max() < p
        assert abs(words[:, i].mean() / p - 0.5) < 6 * 0.289 / 512


@pytest.mark.parametrize("place", [0, N - 1, N, 2 * N - 1])
def test_a_word_equal_to_its_prime_is_refused(place: int) -> None:
    query = torch.zeros(1, 2 * POLYNOMIAL_BYTES, dtype=torch.uint8)
    prime = PRIMES[place // N]
    query[0, 6 * place : 6 * place + 6] = torch.tensor(list(prime.to_bytes(6, "little")))
    with pytest.raises(ValueError, match="query is corrupt: a word is not below its prime"):
        unpacked(query.numpy(), PRIMES, "query")


@pytest.mark.parametrize("spoil", [torch.zeros_like, lambda key: torch.full_like(key, 255)])
def test_a_corrupt_public_key_is_refused(spoil: Callable[[Tensor], Tensor]) -> None:
    key, seed = USER.public_key()
    bad = spoil(key)
    if not bad.any():
        bad[-6:] = torch.tensor(list(PRIMES[1].to_bytes(6, "little")))
    with pytest.raises(ValueError, match="public key is corrupt"):
        Provider(bad, seed, BITS, None)


def test_seeds_come_from_the_operating_system() -> None:
    """Unless a test names one."""
    for key_seed, same in ((None, False), (5, True)):
        first, second = (User(BITS, key_seed).blank(1).seed for _ in range(2))
        assert torch.equal(first, second) == same
