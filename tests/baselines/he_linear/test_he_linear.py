"""The system: what a product costs and how right it is, what P1 sees when P0 shuffles, what is refused."""

import re
from typing import Any

import pytest
import torch
from torch import Tensor

from baselines.he_linear import linear
from baselines.he_linear.ckks_linear import CkksMatrix
from baselines.he_linear.linear import Matrix
from baselines.he_linear.options import HeLinearOptions, Scheme
from baselines.he_linear.parameters import (
    POLYNOMIAL_BYTES,
    PRIMES,
    Shape,
    affine,
    matrices,
    packing,
    plain_bits,
)
from baselines.he_linear.secret_matrix import SecretMatrix
from baselines.he_linear.system import HeLinear
from harness.config.compose import compose_run
from harness.errors import ConfigError
from protocols.errors import OutOfRange, PeerError, Unsupported
from protocols.in_process_party import MemoryParty
from protocols.party import P0, P1, Role
from protocols.transformer.spec import TransformerSpec
from protocols.workload import Argmax, Generation, Layer, Linear, Nonlinear, Workload
from tests.play import SEED, declared, play, relative, small

GPT2 = TransformerSpec("gpt2", "gpt2", 12, 768, 12, 3072, 50257, 1024)
CHATGLM = TransformerSpec("chatglm-6b", "glm", 28, 4096, 32, 16384, 130528, 2048)
CHOSEN = HeLinearOptions()


@pytest.mark.parametrize("precision", [10, 11, 12, 13])
def test_a_product_is_as_right_as_precision_says(precision: int) -> None:
    """Twice as right for each bit, and never worse than twice what is asked: rows below the longest one
    of W are rounded more coarsely."""
    work, options = Linear(2, 700, 300), HeLinearOptions(precision=precision)
    played = play(HeLinear, work, options, evaluations=1)
    error = relative(played.answers[0][0], HeLinear.plaintext(work, SEED, options))
    assert 0.5 * 2.0**-precision <= error <= 2 * 2.0**-precision


@pytest.mark.parametrize(("scheme", "kind"), [("bfv", Matrix), ("ckks", CkksMatrix)])
def test_large_and_small_values_are_as_right(
    scheme: Scheme, kind: type[SecretMatrix], monkeypatch: pytest.MonkeyPatch
) -> None:
    """P1 scales each row on its own: no value is out of range."""
    factors = torch.tensor([[1e-6], [1.0], [1e9]], dtype=torch.float64)
    asked, options = kind._asked, HeLinearOptions(scheme=scheme)

    def scaled(self: SecretMatrix, x: Tensor) -> Tensor:
        return asked(self, x * factors)

    monkeypatch.setattr(kind, "_asked", scaled)
    work = Linear(3, 100, 50)
    (got,) = play(HeLinear, work, options, evaluations=1).answers[0]
    right = HeLinear.plaintext(work, SEED, options)
    zero = play(HeLinear, work, options, evaluations=1).answers[0][0][0]  # x ≈ 0: the bias is left
    bias = zero[None]
    for row, factor in zip((1, 2), (1.0, 1e9), strict=True):
        exact = (right[row] - bias[0]) * factor + bias[0]
        assert relative(got[row], exact) <= 2e-3


@pytest.mark.parametrize(
    ("work", "kilobytes"),
    [(Layer(GPT2, 1, 128), (3145, 2621)), (Layer(CHATGLM, 1, 128), (12_582, 18_923))],
)
def test_bytes_of_a_layer(work: Workload, kilobytes: tuple[int, int]) -> None:
    """There and back are about equal: that is where the sum of both is least."""
    online = declared(HeLinear, work)["online"]
    assert online.hops == 8
    assert tuple(online.payload_bytes[pair] // 1000 for pair in ((P1, P0), (P0, P1))) == kilobytes


def test_the_width_is_the_best_one() -> None:
    """Against every width by itself: of one row, with ciphertexts of 12 bytes a coefficient there."""
    one = packing(affine(768, 768), 33, 11)
    sizes = [
        (-(-769 // width) * 2 + -(-768 // min(768, 4096 // width))) * POLYNOMIAL_BYTES
        for width in range(1, 770)
    ]
    assert one.query_bytes + one.reply_bytes == min(sizes) + 768 * 6


def test_noise_bounds_the_rows_of_a_polynomial() -> None:
    """More precision leaves less noise to hide, so that fewer rows go together, until none do."""
    rows = [packing(Shape(3072, 3073), 35, precision).rows for precision in (11, 12)]
    assert rows[0] > rows[1] >= 1
    with pytest.raises(Unsupported, match=r"the noise of 16385 products .* cannot be hidden"):
        packing(Shape(4096, 16385), 37, 13)


def seen_by_the_user(options: HeLinearOptions, monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """What W_up gives P1 in two evaluations of a layer on one token."""
    found, asked = [], Matrix._asked

    def watched(self: Matrix, x: Tensor) -> Tensor:
        y = asked(self, x)
        if self._name.endswith("/up"):
            found.append(y.flatten())
        return y

    monkeypatch.setattr(Matrix, "_asked", watched)
    play(HeLinear, Layer(small("gpt2"), 2, 4), options, key_seed=None)
    return [row for both in found for row in both.chunk(2)]


def test_inner_values_are_in_an_order_fresh_for_each_token(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        plain = seen_by_the_user(CHOSEN, patched)
    with monkeypatch.context() as patched:
        shuffled = seen_by_the_user(HeLinearOptions(shuffle=True), patched)
    orders = []
    for right, got in zip(plain, shuffled, strict=True):
        assert not torch.allclose(right, got, atol=1e-3)
        assert torch.allclose(right.sort().values, got.sort().values, atol=1e-3)
        orders.append((got[:, None] - right).abs().argmin(dim=1))
    for i, order in enumerate(orders):  # 96 values: chance agrees on one of them
        assert all((order == other).sum() < 10 for other in orders[:i])


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (["system.precision=9"], "precision must be a whole number from 10 to 16, got 9"),
        (["system.precision=17"], "precision must be a whole number from 10 to 16, got 17"),
        (["system.plain_bits=1"], "plain_bits must be null or a whole number from 2 to 37, got 1"),
    ],
)
def test_options_that_no_workload_takes(changes: list[str], line: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(line)) as error:
        compose_run(["system=he_linear", *changes])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("options", "work", "line"),
    [
        (
            HeLinearOptions(plain_bits=20),
            Layer(GPT2, 1, 8),
            "system.plain_bits=20 is too small: sums of 3073 products with system.precision=11 need 33",
        ),
        (
            HeLinearOptions(precision=16),
            Layer(CHATGLM, 1, 8),
            "system.precision=16 is too high: sums of 16385 products need a plaintext modulus of 2^45, "
            "2^37 is the largest",
        ),
        (
            HeLinearOptions(precision=12, plain_bits=37),
            Layer(CHATGLM, 1, 8),
            "the noise of 16385 products with system.precision=12 and a plaintext modulus of 2^37 "
            "cannot be hidden: lower one of them",
        ),
        (
            HeLinearOptions(shuffle=True),
            Linear(1, 8, 8),
            "system.shuffle=true orders the inner values of a feed-forward block: it needs "
            "experiment=layer or a whole model",
        ),
        (
            CHOSEN,
            Generation(CHATGLM, 8, 1),
            "encoded weights and the encryptions of one step take 113 GiB at P0, more than 12 GiB",
        ),
    ],
)
def test_what_does_not_fit_is_refused(options: HeLinearOptions, work: Workload, line: str) -> None:
    with pytest.raises(Unsupported, match=f"^{re.escape(line)}$"):
        HeLinear.check(work, options)


@pytest.mark.parametrize("work", [Argmax(9), Nonlinear("softmax", (3, 5))])
def test_functions_are_the_user_s_own(work: Workload) -> None:
    """No key, no message."""
    assert not any(matrices(work))
    assert plain_bits(work, CHOSEN) == 0
    assert not any(phase.hops or phase.payload_bytes for phase in declared(HeLinear, work).values())


def test_all_matrices_have_one_modulus_and_precision() -> None:
    """The narrower ones have finer inputs, not larger weights."""
    bits = plain_bits(Layer(GPT2, 1, 8), CHOSEN)
    made = [packing(shape, bits, 11) for shape in matrices(Layer(GPT2, 1, 8))]
    for one in made:
        assert one.weight_bits + one.input_bits == pytest.approx(bits - 1)
        error = one.shape.columns / 12 * (4**-one.weight_bits + 4**-one.input_bits)
        assert error**0.5 == pytest.approx(2**-11)
    assert made[0].weight_bits < made[-1].weight_bits


def spoilt(message: int, change: Any, monkeypatch: pytest.MonkeyPatch, sender: Role) -> None:
    """Change message number `message` of a role."""
    send, sent = MemoryParty.send, [0]

    def changed(party: MemoryParty, to: Role, *tensors: Tensor) -> None:
        if party.role == sender:
            tensors = change(*tensors) if sent[0] == message else tensors
            sent[0] += 1
        send(party, to, *tensors)

    monkeypatch.setattr(MemoryParty, "send", changed)


@pytest.mark.parametrize(
    ("sender", "message", "change", "line"),
    [
        (P1, 0, lambda key, seed: (key[1:], seed), "public key: P1 sent torch.uint8 (49151,)"),
        (P1, 0, lambda key, seed: (key | 255, seed), "public key: public key is corrupt"),
        (P0, 0, lambda scale: (scale * torch.inf,), "linear: P0 sent a number that is not finite"),
        (P0, 0, lambda scale: (-scale,), "linear: P0 sent a scale that is not positive"),
        (
            P1,
            1,
            lambda seed, x: (seed, x[:, :, 1:]),
            "linear: P1 sent torch.uint8 (16,), torch.uin",
        ),
        (P1, 1, lambda seed, x: (seed, x | 255), "linear: query is corrupt: a word is not below"),
        (
            P1,
            1,
            lambda seed, x: (seed, x.short()),
            "linear: P1 sent torch.uint8 (16,), torch.int16",
        ),
        (
            P1,
            1,
            lambda seed, x: (seed,),
            "linear: P1 sent torch.uint8 (16,), not torch.uint8 (16,)",
        ),
        (P0, 1, lambda c0, c1: (c0, c1 | 255), "linear: reply is corrupt: a word is not below"),
        (P0, 1, lambda c0, c1: (c0[:, 6:], c1), "linear: P0 sent torch.uint8 (2, 138)"),
    ],
)
def test_bad_messages_end_the_run_with_the_step_s_name(
    sender: Role, message: int, change: Any, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoilt(message, change, monkeypatch, sender)
    with pytest.raises(PeerError, match=re.escape(line)):
        play(HeLinear, Linear(2, 30, 24), evaluations=1)


def test_inputs_that_are_no_numbers_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """By P1, before it sends anything of them."""
    monkeypatch.setattr(
        "protocols.shares.experiments.linear_input",
        lambda n, d, seed: torch.full((n, d), torch.nan, dtype=torch.float64),
    )
    with pytest.raises(OutOfRange, match="linear: an input is not a finite number"):
        play(HeLinear, Linear(1, 8, 8), evaluations=1)


def test_a_position_beyond_the_table_s_scale_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("protocols.transformer.model.POSITION_STD", 1e9)
    with pytest.raises(OutOfRange, match=r"embedding: a position of .*, the table's scale takes"):
        play(HeLinear, Generation(small("gpt2"), 2, 1), evaluations=1)


def test_p0_rounds_within_its_norm() -> None:
    weight = torch.randn(40, 1000, generator=torch.Generator().manual_seed(1))
    integers, scale = linear.rounded(weight, 14.3)
    norms = integers.double().norm(dim=1)
    assert 0.98 * 2**14.3 < float(norms.max()) < 2**14.3
    assert torch.equal(integers, (weight.double() * scale).round().int())
    assert linear.rounded(torch.zeros(2, 3), 9.0)[0].abs().max() == 0
    assert PRIMES[0] < PRIMES[1]
