"""CKKS as a system: right answers at the declared cost, secure parameters, refusals in one line."""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
import tenseal.sealapi as seal
import torch
from torch import Tensor

from baselines.ckks.encrypted import Encrypted
from baselines.ckks.keys import EvaluationKeys, Needed, SecretKey
from baselines.ckks.options import CkksOptions
from baselines.ckks.parameters import (
    LIMITS,
    PRECISION,
    VALUE_BITS,
    circuit_parameters,
    estimated_error,
)
from baselines.ckks.plan import plan
from baselines.ckks.reencryption import BASE_PRIMES, mask_bits, reencrypt, reencrypted
from baselines.ckks.scheme import Scheme
from baselines.ckks.system import Ckks
from harness.cli.main import main
from protocols.errors import OutOfRange, PeerError, Unsupported
from protocols.in_process_party import MemoryParty, run_parties
from protocols.party import P0, P1
from protocols.workload import Argmax, Attention, Generation, Layer, Linear, Nonlinear, Workload
from tests.play import SEED, declared, play, relative, small

PARAMETERS = circuit_parameters(16384, 40)
WORK: list[tuple[Workload, CkksOptions]] = [
    *[(Linear(*shape), CkksOptions()) for shape in ((1, 40, 24), (3, 33, 7), (1, 64, 64))],
    (Linear(1, 5000, 3), CkksOptions()),
    (Linear(1, 3, 5000), CkksOptions()),
    (Linear(1, 1, 1), CkksOptions(degree="16384")),
    *[(Nonlinear(op, (5, 20)), CkksOptions()) for op in ("exp", "reciprocal", "rsqrt")],
    (Nonlinear("gelu", (9000,)), CkksOptions()),
    (Nonlinear("softmax", (4, 3, 50)), CkksOptions()),
    (Nonlinear("layernorm", (8, 96)), CkksOptions()),
    (Attention(2, 100, 20), CkksOptions()),
]


@pytest.mark.parametrize(("work", "options"), WORK, ids=str)
def test_answers_and_costs(work: Workload, options: CkksOptions) -> None:
    """Against the exact function, within the stated bound and the estimate; twice, where that is quick."""
    deep = len(plan(work, options).reencryptions) > 1
    played = play(Ckks, work, options, evaluations=1 if deep else 2)
    for (answer,) in played.answers:
        error = relative(answer, Ckks.plaintext(work, SEED, options))
        assert error <= PRECISION
        if not isinstance(work, Linear):
            assert error <= estimated_error(16384, 40, PARAMETERS.levels)
    assert played.cost == declared(Ckks, work, options)


def test_1024_by_1024() -> None:
    work = Linear(1, 1024, 1024)
    played = play(Ckks, work, evaluations=1)
    assert relative(played.answers[0][0], Ckks.plaintext(work, SEED, CkksOptions())) <= 1e-3
    assert played.cost == declared(Ckks, work)


def test_limits_are_seals() -> None:
    assert {
        n: seal.CoeffModulus.MaxBitCount(n, seal.SEC_LEVEL_TYPE.TC128) for n in LIMITS
    } == LIMITS


@pytest.mark.parametrize(("work", "options"), WORK, ids=str)
def test_parameters_are_secure_and_said(work: Workload, options: CkksOptions) -> None:
    """SEAL itself accepts them at 128 bits; the record's line names them."""
    parameters = plan(work, options).parameters
    assert sum(parameters.prime_bits) <= LIMITS[parameters.degree]
    context = Scheme(parameters).context
    assert context.parameters_set()
    assert context.key_context_data().total_coeff_modulus_bit_count() <= LIMITS[parameters.degree]
    line = Ckks.parameters(work, options)
    assert f"degree {parameters.degree}, scale 2^{parameters.scale_bits}" in line
    assert "128-bit security" in line


def test_a_dry_run_says_the_parameters(capsys: pytest.CaptureFixture[str]) -> None:
    run = ["run", "--dry-run", "experiment=linear", "system=ckks", "shaper=none"]
    assert main([*run, "experiment.d_in=1024", "experiment.d_out=1024"]) == 0
    assert "degree 8192, scale 2^96, primes 44+44+44+44 = 176 bits" in capsys.readouterr().out
    assert main([*run, "system.degree=4096"]) == 2
    assert "system.degree" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("work", "options", "reason"),
    [
        (Argmax(5), CkksOptions(), "a comparison is no polynomial"),
        (Layer(small("gpt2"), 1, 4), CkksOptions(), "without bootstrapping"),
        (Generation(small("gpt2"), 2, 1), CkksOptions(), "without bootstrapping"),
        (Nonlinear("comparison", (5,)), CkksOptions(), "comparison is no polynomial"),
        (Nonlinear("gelu", (5,)), CkksOptions("8192"), r"system\.degree=8192 has 1"),
        (Nonlinear("softmax", (2, 8)), CkksOptions(reencrypt=False), r"system\.reencrypt=true"),
        (Nonlinear("gelu", (5,)), CkksOptions(scale_bits=30), r"system\.scale_bits=30: an error"),
        (Nonlinear("gelu", (5,)), CkksOptions(scale_bits=50), r"7 levels at once, .* has 5"),
        (Nonlinear("gelu", (5,)), CkksOptions(scale_bits=70), "too large for an answer"),
        (Nonlinear("softmax", (2, 9000)), CkksOptions(), r"longer than the 8192 slots"),
        (Attention(1, 200, 64), CkksOptions(), r"more than the 8192 slots"),
        (Linear(1, 64, 64), CkksOptions(scale_bits=60), r"system\.scale_bits=60: the noise"),
        (Linear(1, 64, 64), CkksOptions(scale_bits=150), r"system\.degree=8192 allows 218"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused(work: Workload, options: CkksOptions, reason: str) -> None:
    """In one line, before anything starts."""
    with pytest.raises(Unsupported, match=reason) as caught:
        Ckks.check(work, options)
    assert "\n" not in str(caught.value)


def test_what_a_refusal_recommends_is_accepted() -> None:
    for work in (Nonlinear("exp", (5,)), Linear(1, 64, 64)):
        with pytest.raises(Unsupported) as caught:
            Ckks.check(work, CkksOptions(scale_bits=36))
        Ckks.check(work, CkksOptions(scale_bits=int(str(caught.value).split()[-2])))
    with pytest.raises(ValueError, match="scale_bits is 0"):
        CkksOptions(scale_bits=0)


def test_an_input_out_of_range_is_refused_before_anything_is_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("baselines.ckks.tasks.RANGES", {"gelu": (-2.0, 2.0)})
    sent: list[Tensor] = []
    monkeypatch.setattr(MemoryParty, "send", lambda party, to, *tensors: sent.extend(tensors))
    with pytest.raises(OutOfRange, match=r"ckks: gelu -?\d.* is outside \[-2, 2\]"):
        play(Ckks, Nonlinear("gelu", (100,)))
    assert not sent


@cache
def parties() -> tuple[Scheme, SecretKey, EvaluationKeys]:
    scheme = Scheme(PARAMETERS)
    key, needed = SecretKey(scheme), Needed((1,), relinearises=True)
    return scheme, key, EvaluationKeys(scheme, needed, key.public(needed))


def test_operations() -> None:
    """Sum, product, rotation: of ciphertexts, and of ciphertexts and constants."""
    scheme, key, keys = parties()

    def walk(party: MemoryParty) -> None:
        ops = Encrypted(party, scheme, keys)
        generator = np.random.default_rng(5)
        x, y = generator.uniform(-2, 2, (2, 1, PARAMETERS.slots))
        a, b = (ops.fresh(scheme.fresh(key.encrypt(v), 1, "request")) for v in (x, y))
        lower = ops.multiply(a, b)
        found = {
            "multiply": (lower, x * y),
            "square": (ops.multiply(a, a), x * x),
            "levels meet": (ops.add(a, lower), x + x * y),
            "plus": (ops.plus(a, 0.25), x + 0.25),
            "times": (ops.times(ops.plus(lower, y[0]), x[0]), (x * y + y) * x),
            "negative": (ops.negative(a), -x),
            "rotate": (ops.rotate(lower, 1), np.roll(x * y, -1)),
        }
        for name, (got, right) in found.items():
            assert np.abs(key.decrypt(got.parts) - right).max() < 1e-4, name

    run_parties({P0: walk})


@pytest.mark.parametrize("value", [0.0, 2.0**VALUE_BITS])
def test_a_re_encryption_shows_p1_nothing(value: float) -> None:
    """The same value comes back with all levels; P1 sees integers uniform in ±2^B, whatever it is."""
    scheme, key, _ = parties()
    seen: list[int] = []

    def provider(party: MemoryParty) -> Any:
        with party.phase("online"):
            slots = np.full((1, PARAMETERS.slots), value)
            spent = scheme.fresh(key.encrypt(slots), 1, "request")
            return reencrypted(party, scheme, spent)

    def user(party: MemoryParty) -> Any:
        class Watching(SecretKey):
            def __init__(self) -> None:
                self.__dict__.update(key.__dict__)

            def decrypt_integers(self, ciphertext: Any, primes: int) -> list[int]:
                seen.extend(found := super().decrypt_integers(ciphertext, primes))
                return found

        with party.phase("online"):
            reencrypt(party, scheme, Watching(), 1)

    (back,) = run_parties({P0: provider, P1: user})[P0]
    assert np.abs(key.decrypt([back]) - value).max() < 1e-6
    assert back.coeff_modulus_size() == PARAMETERS.top
    of_bound = np.array(seen, float) / 2.0 ** mask_bits(PARAMETERS)
    assert len(of_bound) == PARAMETERS.degree
    assert np.abs(of_bound).max() < 1 + 2.0**-30
    assert abs(np.abs(of_bound).mean() - 0.5) < 5 * 0.289 / len(of_bound) ** 0.5
    assert abs(of_bound.mean()) < 5 * 0.577 / len(of_bound) ** 0.5
    room = scheme.moduli[0] * scheme.moduli[1] // 2
    largest = 2 ** (PARAMETERS.scale_bits + VALUE_BITS)
    assert 2 ** mask_bits(PARAMETERS) + largest < room
    assert mask_bits(PARAMETERS) + 1 - (PARAMETERS.scale_bits + VALUE_BITS) - 14 >= 40


def test_two_encryptions_share_nothing() -> None:
    _, key, _ = parties()
    slots = np.zeros((2, PARAMETERS.slots))
    one, two = key.encrypt(slots)
    assert (one == two).float().mean() < 0.1
    assert not torch.equal(one[-64:], two[-64:])


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda m: m[:, :-1], r"request is torch\.uint8"),
        (lambda m: m.repeat(2, 1), r"request is torch\.uint8"),
        (lambda m: m.long(), r"request is torch\.int64"),
        (lambda m: torch.full_like(m, 255), "request: a word is not below its prime"),
    ],
)
def test_a_bad_request_is_refused(spoil: Callable[[Tensor], Tensor], reason: str) -> None:
    scheme, key, _ = parties()
    message = key.encrypt(np.zeros((1, PARAMETERS.slots)))
    with pytest.raises(PeerError, match=reason):
        scheme.fresh(spoil(message), 1, "request")


def test_bad_replies_and_keys_are_refused() -> None:
    scheme, key, _ = parties()
    reply = torch.zeros((1, PARAMETERS.reply_bytes(BASE_PRIMES) - 1), dtype=torch.uint8)
    with pytest.raises(PeerError, match=r"re-encrypt is torch\.uint8"):
        scheme.worked_on(reply, 1, BASE_PRIMES, 1.0, "re-encrypt")
    needed = Needed((1,), rerandomises=True)
    good = key.public(needed)
    assert sum(part.numel() for part in good) == needed.payload_bytes(PARAMETERS)
    for bad in ((good[0][:, :, :-1], good[1]), (good[0], good[1][:-1])):
        with pytest.raises(PeerError, match=r"keys is torch\.uint8"):
            EvaluationKeys(scheme, needed, bad)
    with pytest.raises(PeerError, match="keys has 1 tensors, not 2"):
        EvaluationKeys(scheme, needed, good[:1])
    with pytest.raises(PeerError, match="keys: a word is not below its prime"):
        EvaluationKeys(scheme, needed, (torch.full_like(good[0], 255), good[1]))


def test_the_secret_key_does_not_travel() -> None:
    """Nor what P1 decrypts: P1 sends keys, a request, and ciphertexts in the place of ciphertexts."""
    made = plan(Nonlinear("softmax", (2, 8)), CkksOptions())
    sizes: list[int] = []
    send = MemoryParty.send

    def listen(party: MemoryParty, to: str, *tensors: Tensor) -> None:
        if party.role == P1:
            sizes.extend(tensor.numel() for tensor in tensors)
        send(party, to, *tensors)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MemoryParty, "send", listen)
        play(Ckks, Nonlinear("softmax", (2, 8)), evaluations=1)
    fresh = made.parameters.fresh_bytes()
    keys = made.needed.payload_bytes(made.parameters)
    assert sizes == [keys, *[fresh] * (1 + len(made.reencryptions))]
