"""TFHE: numbers of few bits, refusals; with the extra answers, costs, messages, what P1 could learn."""

from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import pytest
import torch

from baselines.tfhe import circuit as tfhe_circuit
from baselines.tfhe.circuit import PACKAGE, Evaluator, User, circuit
from baselines.tfhe.options import TfheOptions
from baselines.tfhe.quantise import (
    RANGES,
    dequantised,
    input_scale,
    quantised_input,
    quantised_linear,
    table,
)
from baselines.tfhe.system import Tfhe
from protocols.errors import PeerError, Unsupported
from protocols.expected_answer import apply_nonlinear
from protocols.transformer.weights import Linear as LinearWeights
from protocols.transformer.weights import synthetic_linear
from protocols.workload import Argmax, Linear, Nonlinear, NonlinearOp, Workload
from tests.play import SEED, declared, play, relative


def installed() -> bool:
    try:
        version(PACKAGE)
    except PackageNotFoundError:
        return False
    return True


needs_concrete = pytest.mark.skipif(not installed(), reason="needs the extra tfhe")
SMALL = TfheOptions(linear_bits=4, table_bits=3)


@pytest.mark.parametrize("bits", [3, 8])
def test_a_linear_layer_of_few_bits(bits: int) -> None:
    """Every value within half a step, clipped at the ends; whole numbers within the bits."""
    x = torch.linspace(-9, 9, 1001, dtype=torch.float64)
    q = quantised_input(x, bits)
    step, half = input_scale(bits), 1 << (bits - 1)
    assert (int(q.min()), int(q.max())) == (-half, half - 1)
    inside = x.abs() < 4 - step
    assert float((q * step - x)[inside].abs().max()) <= step / 2
    layer = synthetic_linear(24, 40, SEED)
    made = quantised_linear(layer, bits)
    assert int(made.weight.abs().max()) == half - 1
    assert float((made.weight * made.scale - layer.weight).abs().max()) <= made.scale / 2
    assert layer.bias is not None
    told = dequantised(made.bias, made.scale, bits)
    assert float((told - layer.bias).abs().max()) <= step * made.scale / 2
    nothing = quantised_linear(LinearWeights(torch.zeros(2, 3), None), bits)
    assert not nothing.weight.any()
    assert nothing.scale > 0


@pytest.mark.parametrize("op", RANGES)
def test_tables_are_their_functions(op: NonlinearOp) -> None:
    """At the middle of every bin within half a level; a comparison is right everywhere."""
    low, high = RANGES[op]
    made = table(op, 6)
    x = torch.linspace(low - 1, high + 1, 4001, dtype=torch.float64)
    bins = made.bin_of(x)
    assert (int(bins.min()), int(bins.max())) == (0, 63)
    assert (int(made.levels.min()), int(made.levels.max())) == (0, 63)
    middles = made.low + made.step * (torch.arange(64) + 0.5)
    missed = made.value_of(made.levels) - apply_nonlinear(op, middles)
    assert float(missed.abs().max()) <= made.rise / 2 + 1e-12
    if op == "comparison":
        assert torch.equal(made.value_of(made.levels[bins]).round(), (x < 0).double())


@pytest.mark.parametrize(
    ("work", "told"),
    [
        (Argmax(5), "tfhe computes experiment=linear, and experiment=nonlinear with op gelu, "),
        (Nonlinear("softmax", (2, 4)), "tfhe computes experiment=linear"),
        (Nonlinear("gelu", (33, 32)), "1056 values; at most 1024: choose a smaller"),
        (Linear(1, 4096, 4096), "products; at most 4194304: choose a smaller experiment.d_in"),
    ],
)
def test_what_it_cannot_compute_is_refused(work: Workload, told: str) -> None:
    with pytest.raises(Unsupported, match=told):
        Tfhe.check(work, TfheOptions())


def test_a_missing_package_is_refused_with_what_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(tfhe_circuit, "version", missing)
    with pytest.raises(
        Unsupported, match=r"needs concrete-python: pip install 'permbench\[tfhe\]'"
    ):
        Tfhe.check(Nonlinear("gelu", (4,)), TfheOptions())


@needs_concrete
@pytest.mark.parametrize(
    "work",
    [Linear(2, 16, 8), *[Nonlinear(op, (2, 3)) for op in ("gelu", "comparison")]],
    ids=str,
)
def test_answers_and_costs(work: Workload) -> None:
    """Exact on the quantised numbers, at exactly the declared cost, with fresh keys."""
    cost = declared(Tfhe, work, SMALL)
    played = play(Tfhe, work, SMALL, key_seed=None)
    for answers in played.answers:
        assert relative(answers[0], Tfhe.plaintext(work, SEED, SMALL)) <= 1e-12
    assert played.cost == cost


@needs_concrete
def test_keys_masks_and_noise_are_drawn_anew() -> None:
    """Without a seed, which Concrete takes for 0, as its sign to ask the operating system."""
    made = circuit(Linear(1, 4, 2), SMALL)
    users, x = [User(made, None), User(made, None)], torch.zeros(1, 4).long()
    sent = [user.encrypt(x) for user in users for _ in range(2)]
    assert len({bytes(message.numpy()) for message in sent}) == 4
    assert len({user._client.keys.serialize() for user in users}) == 2


@needs_concrete
def test_messages_of_others_are_refused() -> None:
    """Wrong in type, size, form or parameters, with the step's name."""
    work = Nonlinear("gelu", (4,))
    made = circuit(work, SMALL)
    user, evaluator = User(made, SEED), Evaluator(made)
    keys = user.evaluation_keys()
    evaluator.take_keys(keys)
    request = user.encrypt(torch.tensor([[0, 1, 6, 7]]))
    other = User(circuit(work, TfheOptions(table_bits=4)), SEED).encrypt(torch.zeros(1, 4).long())
    assert other.shape == request.shape
    bad = {"not uint8": request.int(), "not uint8 ": request[:-1]}
    bad |= {"cannot be read": torch.zeros_like(request), "does not fit": other}
    for told, message in bad.items():
        with pytest.raises(PeerError, match=f"request: the encrypted input .*{told}"):
            evaluator.evaluate(message)
    reply = evaluator.evaluate(request)
    assert torch.equal(user.decrypt(reply), table("gelu", 3).levels[[0, 1, 6, 7]][None])
    with pytest.raises(PeerError, match=r"reply: the encrypted answer .*not uint8"):
        user.decrypt(reply[1:])
    with pytest.raises(PeerError, match=r"keys: the evaluation keys .*not uint8"):
        evaluator.take_keys(keys[1:])
    with pytest.raises(PeerError, match=r"request: the encrypted input is nothing, not uint8"):
        evaluator.evaluate()


@needs_concrete
def test_masks_of_a_reply_are_the_weights_times_masks_that_p1_drew() -> None:
    """Why P1 could solve for the weights: the same circuit without seeds, whose masks can be read."""
    from concrete import fhe  # noqa: PLC0415 - an optional extra

    w = np.random.default_rng(SEED).integers(-7, 8, (8, 3))
    function, arguments, inputs = tfhe_circuit._linear(Linear(1, 8, 3), 4)
    made = fhe.Compiler(function, arguments).compile(inputs)
    user = fhe.Client(made.client.specs)
    user.keygen(force=True)
    x = user.encrypt(np.ones((1, 8), np.int64), None, None)[0]
    c = np.zeros((1, 3), np.int64)
    reply = made.server.run(x, w, c, evaluation_keys=user.evaluation_keys)

    def masks(value: Any, count: int) -> Any:
        data = np.frombuffer(value.serialize()[64:-200], np.uint64)
        return data.reshape(count, -1)[:, :-1]

    assert np.array_equal(w.T.astype(np.uint64) @ masks(x, 8), masks(reply, 3))
