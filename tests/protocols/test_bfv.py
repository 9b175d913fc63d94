import secrets
from collections.abc import Callable

import numpy as np
import pytest
import tenseal.sealapi as seal
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from protocols.permllm.bfv import (
    DATA_PRIMES,
    FLOOD_BITS,
    MAX_IDS,
    PLAIN_MODULUS,
    EncodedTable,
    N,
    Selector,
    Server,
    _noise,
    public_key_bytes,
    query_bytes,
    reply_bytes,
)

HEAVY = PLAIN_MODULUS // 2  # the id that is largest once centred
P1 = Selector()
P0 = Server(P1.public_key())


def permutation(n: int) -> Tensor:
    ids = list(range(n))
    secrets.SystemRandom().shuffle(ids)
    return torch.tensor(ids)


def budget_bits(table: EncodedTable) -> int:
    """Return SEAL's noise budget of a reply over both data primes."""
    query = P1.query(table.n - 1, table.n)
    return int(P1._decryptor.invariant_noise_budget(P0._select(query.numpy(), table)))


def secret_coefficients() -> NDArray[np.int64]:
    """Return the secret key, −1, 0 or 1 (N,)."""
    words = np.zeros((2, DATA_PRIMES * N), np.uint64)
    words[1] = [P1._secret[i] for i in range(DATA_PRIMES * N)]
    lifted = P1._ring.ciphertext(words, ntt=True)
    P1._ring.evaluator.transform_from_ntt_inplace(lifted)
    residues = np.array([lifted[DATA_PRIMES * N + i] for i in range(N)], np.int64)
    q0 = int(P1._ring.moduli[0, 0])
    return np.where(residues > 1, residues - q0, residues)


def reply_noise(reply: Tensor, value: int, secret: NDArray[np.int64]) -> float:
    """Return the noise of a reply as a fraction of the flooding bound."""
    q0, q1 = (int(p) for p in P1._ring.moduli[:2, 0])
    packed = torch.nn.functional.pad(reply.view(-1, 6), (0, 2)).numpy()
    words = packed.view("<i8")[:, 0]
    reversed_secret = np.append(secret[:1], -secret[:0:-1])
    phase = int(words[0]) + int(words[1:] @ reversed_secret)
    noise = (phase - round(q0 * value / PLAIN_MODULUS) + q0 // 2) % q0 - q0 // 2
    return float(noise * q1 / 2**FLOOD_BITS)


@pytest.mark.parametrize("n", [1, 2, N - 1, N, N + 1, 130528])
def test_the_user_gets_the_id_at_its_position(n: int) -> None:
    ids = permutation(n)
    table = P0.load_table(ids)
    for index in (0, n - 1, secrets.randbelow(n)):
        assert P1.open(P0.answer(P1.query(index, n), table)) == ids[index]


def test_the_largest_table() -> None:
    ids = permutation(MAX_IDS)
    reply = P0.answer(P1.query(MAX_IDS - 1, MAX_IDS), P0.load_table(ids))
    assert P1.open(reply) == ids[-1]


@settings(max_examples=20, deadline=None)
@given(data=st.data(), n=st.integers(1, 2 * N + 2))
def test_any_table(data: st.DataObject, n: int) -> None:
    few = data.draw(st.lists(st.integers(0, PLAIN_MODULUS - 1), min_size=1, max_size=9))
    ids = torch.tensor(few).repeat(-(-n // len(few)))[:n]
    index = data.draw(st.integers(0, n - 1))
    assert P1.open(P0.answer(P1.query(index, n), P0.load_table(ids))) == ids[index]


@pytest.mark.parametrize("fill", [0, 1, HEAVY - 1, HEAVY, PLAIN_MODULUS - 1])
def test_constant_tables(fill: int) -> None:
    table = P0.load_table(torch.full((N,), fill))
    assert P1.open(P0.answer(P1.query(7, N), table)) == fill


@pytest.mark.parametrize("n", [1, N, N + 1, 100000])
def test_sizes_equal_the_closed_forms(n: int) -> None:
    query = P1.query(0, n)
    reply = P0.answer(query, P0.load_table(torch.arange(n)))
    rows = -(-n // 4096)
    assert tuple(query.shape) == (rows, query_bytes(n) // rows)
    assert query.numel() == query_bytes(n) == rows * 49216
    assert reply.numel() == reply_bytes() == 24582
    assert P1.public_key().numel() == public_key_bytes() == 147456
    assert {query.dtype, reply.dtype, P1.public_key().dtype} == {torch.uint8}


def test_two_queries_for_one_index_share_nothing() -> None:
    P1.prepare(N + 1)
    P1.prepare(N + 1)
    one, two, three = (P1.query(5, N + 1) for _ in range(3))
    for other in (two, three):
        assert (one == other).float().mean() < 0.05
    rows = torch.cat([one, two, three])
    assert len({bytes(row[-64:].tolist()) for row in rows}) == len(rows)


def test_prepared_queries_are_correct_and_used_once() -> None:
    selector = Selector()
    server = Server(selector.public_key())
    selector.prepare(3)
    for _ in range(2):
        reply = server.answer(selector.query(1, 3), server.load_table(torch.tensor([8, 9, 7])))
        assert selector.open(reply) == 9


def test_two_replies_to_one_query_share_nothing() -> None:
    table, query = P0.load_table(permutation(N)), P1.query(5, N)
    one, two = P0.answer(query, table), P0.answer(query, table)
    assert not torch.equal(one[:6], two[:6])
    assert (one[6:] == two[6:]).float().mean() < 0.05


@pytest.mark.parametrize("n", [1, 130528, MAX_IDS])
def test_noise_budget_of_the_reply_is_positive(n: int) -> None:
    table = P0.load_table(torch.full((n,), HEAVY))
    assert min(budget_bits(table) for _ in range(3)) >= 1


def test_noise_before_the_flood_is_within_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = P0._ring.ciphertext(np.zeros((2, DATA_PRIMES, N), np.uint64))
    monkeypatch.setattr(P0, "_flood", lambda: nothing)
    # SEAL's measure is the worst of 4096 coefficients: 93 bits − 19 of t − 33 of noise − 1.
    assert budget_bits(P0.load_table(torch.full((MAX_IDS,), HEAVY))) >= 93 - 19 - 33 - 1


@pytest.mark.parametrize("fill", [0, HEAVY])
def test_the_flood_alone_decides_the_noise_of_a_reply(fill: int) -> None:
    secret, query = secret_coefficients(), P1.query(5, N)
    table = P0.load_table(torch.full((N,), fill))
    noise = [reply_noise(P0.answer(query, table), fill, secret) for _ in range(64)]
    assert max(abs(x) for x in noise) < 1.001
    # Five standard deviations of the mean of 64 uniform numbers, then of the mean of their sizes.
    assert abs(np.mean(noise)) < 5 * 0.577 / 8
    assert abs(np.mean(np.abs(noise)) - 0.5) < 5 * 0.289 / 8


def test_fresh_noise_is_centred_binomial() -> None:
    samples = np.concatenate([_noise() for _ in range(64)])
    assert abs(samples).max() <= 21
    assert abs(samples.mean()) < 6 * 3.24 / 512
    assert abs(samples.var() - 10.5) < 6 * 10.5 * 2**0.5 / 512


def test_queries_carry_fresh_noise() -> None:
    for row in P1.query(0, 8 * N).numpy()[1:]:
        words = P1._ring.unpack(row[:-64], DATA_PRIMES, "query")
        cipher = P1._ring.ciphertext(words, ntt=True, seed=row[-64:].tobytes())
        P1._ring.evaluator.transform_from_ntt_inplace(cipher)
        # The largest of 4096 samples lies in 8..21: times t, that has 23 or 24 of the 93 bits.
        assert P1._decryptor.invariant_noise_budget(cipher) in (93 - 24 - 1, 93 - 23 - 1)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda query: query[:1], r"query is torch\.uint8 \(1, 49216\)"),
        (lambda query: query.repeat(2, 1), r"query is torch\.uint8 \(4, 49216\)"),
        (lambda query: query[:, :-1], r"query is torch\.uint8 \(2, 49215\)"),
        (lambda query: query.flatten(), r"query is torch\.uint8 \(98432,\)"),
        (lambda query: query.long(), r"query is torch\.int64"),
        (lambda query: torch.full_like(query, 255), "query is corrupt"),
    ],
)
def test_a_bad_query_is_refused(spoil: Callable[[Tensor], Tensor], reason: str) -> None:
    table = P0.load_table(torch.arange(2 * N))
    with pytest.raises(ValueError, match=reason):
        P0.answer(spoil(P1.query(0, 2 * N)), table)


@pytest.mark.parametrize("word", [0, N, 2 * N - 1])
def test_one_word_equal_to_its_prime_is_refused(word: int) -> None:
    query = P1.query(0, 1)
    prime = int(P1._ring.moduli[word // N, 0])
    query[0, 6 * word : 6 * word + 6] = torch.tensor(list(prime.to_bytes(6, "little")))
    with pytest.raises(ValueError, match="query is corrupt: a word is not below its prime"):
        P0.answer(query, P0.load_table(torch.tensor([4])))


def test_bad_replies_and_keys_are_refused() -> None:
    with pytest.raises(ValueError, match=r"reply is torch\.uint8"):
        P1.open(torch.zeros(reply_bytes() - 1, dtype=torch.uint8))
    for where in (0, reply_bytes() - 6):
        reply = torch.zeros(reply_bytes(), dtype=torch.uint8)
        reply[where : where + 6] = 255
        with pytest.raises(ValueError, match="reply is corrupt"):
            P1.open(reply)
    with pytest.raises(ValueError, match=r"public key is torch\.uint8"):
        Server(P1.public_key()[:-6])
    with pytest.raises(ValueError, match="public key is corrupt"):
        Server(torch.full((public_key_bytes(),), 255, dtype=torch.uint8))


@pytest.mark.parametrize(("index", "n"), [(-1, 4), (4, 4), (0, 0), (0, MAX_IDS + 1)])
def test_positions_outside_the_table_are_refused(index: int, n: int) -> None:
    with pytest.raises(ValueError, match="is outside"):
        P1.query(index, n)


@pytest.mark.parametrize(
    "ids",
    [
        torch.tensor([-1]),
        torch.tensor([0, PLAIN_MODULUS]),
        torch.zeros(3, dtype=torch.int32),
        torch.zeros(3, 2, dtype=torch.int64),
        torch.zeros(0, dtype=torch.int64),
    ],
)
def test_bad_tables_are_refused(ids: Tensor) -> None:
    with pytest.raises(ValueError, match=r"outside|not int64"):
        P0.load_table(ids)


def test_parameters_hold_128_bit_security() -> None:
    context = P1._ring.context
    total = context.key_context_data().total_coeff_modulus_bit_count()
    assert context.parameters_set()
    assert total <= seal.CoeffModulus.MaxBitCount(N, seal.SEC_LEVEL_TYPE.TC128) == 109
