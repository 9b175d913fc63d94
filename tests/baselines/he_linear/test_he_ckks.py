"""The scheme CKKS: as right as asked, at the declared cost; what P0 sees, what hides the noise of a reply,
what is refused."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import tenseal.sealapi as seal
import torch
from torch import Tensor

from baselines.ckks import matrix as diagonals
from baselines.ckks.keys import EvaluationKeys, SecretKey
from baselines.ckks.matrix import PRIMES, ROW_NORM, WEIGHT_BITS, EncodedMatrix
from baselines.ckks.parameters import STATISTICAL
from baselines.ckks.reencryption import uniform
from baselines.ckks.scheme import Scheme
from baselines.he_linear import ckks_linear
from baselines.he_linear.ckks_parameters import (
    DEGREE,
    INPUT_NORM,
    SLOTS,
    ckks_sizes,
    flood_bits,
    pieces,
    query_count,
    relative_error,
    reply_count,
)
from baselines.he_linear.context import CkksKeys
from baselines.he_linear.options import HeLinearOptions
from baselines.he_linear.parameters import Shape, affine, matrices
from baselines.he_linear.system import HeLinear
from harness.config.compose import compose_run
from harness.errors import ConfigError
from protocols.arith import seal_format
from protocols.errors import OutOfRange, PeerError, Unsupported
from protocols.in_process_party import MemoryParty
from protocols.party import P0, P1, Role
from protocols.transformer.spec import TransformerSpec
from protocols.workload import Argmax, Generation, Layer, Linear, Workload
from tests.play import SEED, declared, play, relative

GPT2 = TransformerSpec("gpt2", "gpt2", 12, 768, 12, 3072, 50257, 1024)
CHATGLM = TransformerSpec("chatglm-6b", "glm", 28, 4096, 32, 16384, 130528, 2048)
CKKS = HeLinearOptions(scheme="ckks")
FEW_KEYS = Linear(1, 30, 2100)  # rotations by 1 and 4


@pytest.mark.parametrize(
    ("work", "precision"), [(FEW_KEYS, 10), (Linear(2, 128, 2100), 13), (Linear(1, 5000, 30), 12)]
)
def test_a_product_is_as_right_as_precision_says(work: Linear, precision: int) -> None:
    """Of one block, with a bias of its own, of several blocks; at the declared cost."""
    options = HeLinearOptions(scheme="ckks", precision=precision)
    played = play(HeLinear, work, options, evaluations=1)
    error = relative(played.answers[0][0], HeLinear.plaintext(work, SEED, options))
    assert 0.2 * 2.0**-precision <= error <= 2 * 2.0**-precision
    assert played.cost == declared(HeLinear, work, options)


def test_the_bias_is_where_it_takes_the_fewest_diagonals() -> None:
    assert len(pieces(affine(768, 768))) == len(pieces(Shape(768, 4096, exact=True))) == 1
    for columns, count in ((1024, 257), (4096, 1025), (16384, 4097)):
        apart = pieces(affine(1024, columns))
        assert sum(one.encoded_count for one in apart) == count
        assert query_count(affine(1024, columns)) == -(-columns // SLOTS) + 1


def test_parameters_are_secure_and_as_few_as_precision_lets_them_be() -> None:
    for work in (FEW_KEYS, Layer(GPT2, 1, 8), Layer(CHATGLM, 1, 8)):
        shapes = tuple(matrices(work))
        parameters = ckks_sizes(shapes, 11).parameters
        data = Scheme(parameters).context.key_context_data()
        assert data.total_coeff_modulus_bit_count() == sum(parameters.prime_bits) <= 218
        errors = [
            max(relative_error(shape, parameters.scale_bits - fewer) for shape in shapes)
            for fewer in (0, 1)
        ]
        assert errors[0] <= 2.0**-11 < errors[1]
        largest = ROW_NORM * INPUT_NORM * 2.0 ** (parameters.scale_bits + WEIGHT_BITS)
        flood = 2.0 ** (max(map(flood_bits, shapes)) + DEGREE.bit_length() - 1)
        assert largest + 2 * flood < np.prod([float(p) for p in Scheme(parameters).moduli[:3]]) / 2


@pytest.mark.parametrize(
    ("work", "kilobytes"),
    [(Layer(GPT2, 1, 128), (524, 262)), (Layer(CHATGLM, 1, 128), (1532, 737))],
)
def test_bytes_of_a_layer(work: Workload, kilobytes: tuple[int, int]) -> None:
    online = declared(HeLinear, work, CKKS)["online"]
    assert online.hops == 8
    assert tuple(online.payload_bytes[pair] // 1000 for pair in ((P1, P0), (P0, P1))) == kilobytes


@pytest.mark.parametrize("shape", [Shape(48, 100), Shape(48, 129)])
def test_noise_stays_below_what_the_flood_hides(shape: Shape) -> None:
    """With weights all alike, which is where noises add up most; the second shape has its bias apart."""
    sizes = ckks_sizes((shape,), 11)
    scheme = Scheme(sizes.parameters)
    secret = SecretKey(scheme)
    keys = EvaluationKeys(scheme, sizes.needed, secret.public(sizes.needed))
    value, total = (1 - 1e-6) * ROW_NORM / shape.columns**0.5, None
    for one in pieces(shape):
        weights = EncodedMatrix(scheme, one, torch.full((one.rows, one.columns), value), None)
        zeros = np.zeros((one.column_blocks, SLOTS))
        x = scheme.fresh(secret.encrypt(zeros), len(zeros), "query")
        (row,) = weights.product(x, keys)
        if total is None:
            total = row
        else:
            scheme.evaluator.add_inplace(total, row)
    largest = max(map(abs, secret.decrypt_integers(total, PRIMES)))
    assert 0 < largest < 2 ** (flood_bits(shape) - STATISTICAL)


@dataclass
class Heard:
    """What travels, and P1's keys."""

    sent: dict[Role, list[tuple[Tensor, ...]]] = field(default_factory=lambda: {P0: [], P1: []})
    keys: dict[Role, CkksKeys] = field(default_factory=dict)

    def words(self, role: Role, polynomials: int) -> np.ndarray:
        """Online messages (messages, polynomials, primes, N); of P1's c0 alone."""
        scheme = self.keys[P1].scheme
        found = []
        for (message,) in self.sent[role][1:]:
            (row,) = message.numpy()
            primes = 1 if role == P0 else PRIMES
            packed = row if role == P0 else row[: -seal_format.SEED_BYTES]
            found.append(scheme.unpack(packed, polynomials, primes, "heard"))
        return np.stack(found)


@contextmanager
def heard() -> Iterator[Heard]:
    """While two evaluations are played."""
    found, send, establish = Heard(), MemoryParty.send, CkksKeys.establish

    def listen(party: MemoryParty, to: Role, *tensors: Tensor) -> None:
        found.sent[party.role].append(tensors)
        send(party, to, *tensors)

    def keep(keys: CkksKeys, party: Any) -> None:
        establish(keys, party)
        found.keys[party.role] = keys

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MemoryParty, "send", listen)
        patch.setattr(CkksKeys, "establish", keep)
        yield found


def test_p0_sees_ring_lwe_samples_alone() -> None:
    """Keys, and of the same x twice ciphertexts that are uniform, share nothing and open to x alone."""
    with heard() as found:
        play(HeLinear, FEW_KEYS, CKKS)
    sizes = ckks_sizes(tuple(matrices(FEW_KEYS)), 11)
    keys, *queries = found.sent[P1]
    assert sum(part.numel() for part in keys) == sizes.key_bytes
    assert [part.numel() for (part,) in queries] == [sizes.parameters.fresh_bytes()] * 2
    words = found.words(P1, 1).astype(np.float64)
    moduli = np.array(found.keys[P1].scheme.moduli[:PRIMES], np.float64)[:, None]
    assert (abs((words / moduli).mean(axis=-1) - 0.5) < 6 * 0.289 / DEGREE**0.5).all()
    assert (words[0] == words[1]).mean() < 1e-3
    seeds = [part[0, -seal_format.SEED_BYTES :] for (part,) in queries]
    assert not torch.equal(*seeds)


def no_flood(patch: pytest.MonkeyPatch) -> None:
    """P0 forgets the flood, but for what SEAL adds at all."""
    patch.setattr(diagonals, "uniform", lambda bits, count: [1] * count)


def no_encryption_of_zero(patch: pytest.MonkeyPatch) -> None:
    """P0 floods the noise, and leaves c1 as it is."""

    def flood(scheme: Scheme, keys: Any, bits: int) -> Any:
        scale = scheme.scale * 2.0**WEIGHT_BITS
        drawn = scheme.polynomial(uniform(bits + 13, DEGREE), PRIMES, scale)
        c0 = seal_format.plaintext_words(scheme.file.body(drawn)).reshape(PRIMES, -1)
        return scheme.ciphertext(np.stack([c0, np.zeros_like(c0)]), scale)

    patch.setattr(ckks_linear, "flooded_zero", flood)


def one_zero_for_all(patch: pytest.MonkeyPatch) -> None:
    """P0 draws what hides an answer once."""
    kept: list[seal.Ciphertext] = []
    made = diagonals.flooded_zero

    def once(*given: Any) -> Any:
        if not kept:
            kept.append(made(*given))
        return kept[0]

    patch.setattr(ckks_linear, "flooded_zero", once)


@pytest.mark.parametrize(
    ("plant", "hides"),
    [
        (lambda patch: None, True),
        (no_flood, False),
        (no_encryption_of_zero, False),
        (one_zero_for_all, False),
    ],
)
def test_a_reply_is_made_anew_and_flooded(plant: Callable[..., None], hides: bool) -> None:
    """P1's view of two replies to one query: they share no word, and what they decrypt to differs by two
    floods and two roundings. Without either of both it does not."""
    asked: list[Tensor] = []
    encrypt = SecretKey.encrypt

    def again(key: SecretKey, slots: Any) -> Tensor:
        asked.append(encrypt(key, slots))
        return asked[0]

    work = Linear(1, 4095, 16)  # many sums, and so a large flood
    with heard() as found, pytest.MonkeyPatch.context() as patch:
        patch.setattr(SecretKey, "encrypt", again)
        plant(patch)
        play(HeLinear, work, CKKS)
    replies, keys = found.words(P0, 2), found.keys[P1]
    shared = (replies[0] == replies[1]).mean(axis=(1, 2))
    first, second = (
        np.array(keys.secret.decrypt_integers(keys.scheme.ciphertext(words, 1.0), 1), np.float64)
        for words in replies
    )
    bits = flood_bits(affine(16, 4095)) + DEGREE.bit_length() - 1
    divided = float(np.prod([float(p) for p in keys.scheme.moduli[1:PRIMES]]))
    rounding = (1 + 2 * DEGREE / 3) / 12
    expected = 2 * ((2.0**bits / divided) ** 2 / 3 + rounding)
    assert expected > 3 * rounding  # the flood is seen beside the rounding
    right = abs((first - second).var() / expected - 1) < 0.1
    assert (right and bool((shared < 1e-3).all())) == hides


def test_what_p0_stores_and_hides_with_is_what_memory_says() -> None:
    shape = affine(2100, 128)
    sizes = ckks_sizes((shape,), 11)
    scheme = Scheme(sizes.parameters)
    held = [
        EncodedMatrix(scheme, one, torch.ones(one.rows, one.columns) / 99, None)
        for one in pieces(shape)
    ]
    words = sum(
        plain.coeff_count()
        for one in held
        for block in one._blocks
        for row in block
        for plain in row
    )
    assert sizes.encoded_bytes(shape) == 8 * words
    assert sizes.zero_bytes(shape) == 8 * reply_count(shape) * 2 * PRIMES * DEGREE
    stored = HeLinear.stored_bytes(Linear(1, 128, 2100), CKKS)
    assert stored is not None
    assert stored[P0] == sizes.encoded_bytes(shape) + sizes.kept_keys[P0]
    assert HeLinear.stored_bytes(Argmax(5), CKKS) is None


def test_a_run_says_its_parameters() -> None:
    assert HeLinearOptions().scheme == "bfv"
    said = HeLinear.parameters(Layer(GPT2, 1, 8), CKKS)
    assert said is not None
    assert "degree 8192, scale 2^93, primes 32+48+48+48 = 176 bits" in said
    assert HeLinear.parameters(Layer(GPT2, 1, 8), HeLinearOptions()) is None
    assert HeLinear.parameters(Argmax(5), CKKS) is None


@pytest.mark.parametrize(
    ("options", "work", "line"),
    [
        (
            HeLinearOptions(scheme="ckks", precision=16),
            Linear(1, 2_000_000, 8),
            "system.precision=16 is too high for sums of 2000001 products under CKKS with 218 bits of "
            "modulus, which degree 8192 allows for 128-bit security",
        ),
        (
            CKKS,
            Layer(TransformerSpec("wide", "gpt2", 1, 8192, 64, 32768, 9, 9), 1, 1),
            "encoded weights and the encryptions of one step take 36 GiB at P0, more than 12 GiB",
        ),
        (
            CKKS,
            Generation(GPT2, 8, 1),
            "encoded weights and the encryptions of one step take 12 GiB at P0, more than 12 GiB",
        ),
        (
            HeLinearOptions(scheme="ckks", shuffle=True),
            Linear(1, 8, 8),
            "system.shuffle=true orders the inner values of a feed-forward block: it needs "
            "experiment=layer or a whole model",
        ),
    ],
)
def test_what_does_not_fit_is_refused(options: HeLinearOptions, work: Workload, line: str) -> None:
    with pytest.raises(Unsupported, match=f"^{re.escape(line)}$"):
        HeLinear.check(work, options)


def test_bfv_s_modulus_is_bfv_s_alone() -> None:
    with pytest.raises(ConfigError, match="plain_bits is BFV's") as error:
        compose_run(["system=he_linear", "system.scheme=ckks", "system.plain_bits=30"])
    assert "\n" not in str(error.value)
    with pytest.raises(ConfigError, match=r"system\.scheme"):
        compose_run(["system=he_linear", "system.scheme=tfhe"])


def test_p0_adds_no_more_than_there_is_room_for() -> None:
    """A position on top of a token's row."""
    made = object.__new__(ckks_linear.CkksMatrix)
    made._name, made._scale = "embedding", 2.0
    rows = torch.tensor([3.9, -3.9], dtype=torch.float64)
    assert torch.equal(made._limited(rows, ROW_NORM), rows)
    with pytest.raises(OutOfRange, match=r"embedding: a position of 2\.1, the table's scale takes"):
        made._limited(torch.tensor([1.0, -4.2]), ROW_NORM)


@pytest.mark.parametrize(
    ("sender", "message", "change", "line"),
    [
        (P1, 0, lambda keys, public: (keys[:, :, 1:], public), "keys is torch.uint8 (2, 3, "),
        (P1, 0, lambda keys, public: (keys | 255, public), "keys: a word is not below its prime"),
        (P1, 1, lambda x: (x[:, 1:],), "linear: query is torch.uint8 (1, "),
        (P1, 1, lambda x: (x | 255,), "linear: query: a word is not below its prime"),
        (P1, 1, lambda x: (x, x), "linear: query has 2 tensors, not 1"),
        (P0, 1, lambda y: (y[:, 1:],), "linear: reply is torch.uint8 (1, "),
        (P0, 1, lambda y: (y | 255,), "linear: reply: a word is not below its prime"),
    ],
)
def test_bad_messages_end_the_run_with_the_step_s_name(
    sender: Role, message: int, change: Any, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    send, sent = MemoryParty.send, [0]

    def changed(party: MemoryParty, to: Role, *tensors: Tensor) -> None:
        if party.role == sender:
            tensors = change(*tensors) if sent[0] == message else tensors
            sent[0] += 1
        send(party, to, *tensors)

    monkeypatch.setattr(MemoryParty, "send", changed)
    with pytest.raises(PeerError, match=re.escape(line)):
        play(HeLinear, Linear(1, 3, 2100), CKKS, evaluations=1)
