"""Puma as a system: closeness to the exact model, who learns what, its limits, and its cost algebra."""

import pytest
import torch

from baselines.puma.cost import Cost, one_round, rotation
from baselines.puma.memory_limit import weight_bytes
from baselines.puma.options import PumaOptions
from baselines.puma.system import Puma
from protocols.errors import Unsupported
from protocols.expected_answer import answer
from protocols.party import P0, P1, P2, ROLES
from protocols.system import PhaseCost
from protocols.transformer.spec import Family, TransformerSpec
from protocols.workload import Argmax, Generation, Layer, Nonlinear, Sampling, UserInput
from tests.play import FAMILIES, SEED, play, relative, small


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("q_len", "kv_len"), [(1, 37), (16, 16)])
def test_layers_are_close_to_exact_plaintext(family: Family, q_len: int, kv_len: int) -> None:
    workload = Layer(small(family), q_len, kv_len)
    (got,) = play(Puma, workload, evaluations=1).answers[0]
    assert relative(got, answer(workload, SEED)) <= 1e-2


def test_hidden_states_of_bert_reach_the_user_alone() -> None:
    prompt = (3, 199, 0, 17)
    workload = Generation(small("bert"), len(prompt), 0)
    played = play(Puma, workload, user=UserInput(prompt))
    right = Puma.plain_model(workload, SEED, PumaOptions()).encode(prompt)
    assert relative(played.answers[1][0], right) <= 1e-3
    assert played.parts[0][0][P0] == played.parts[0][0][P2] == ()


def test_tokens_and_indices_reach_the_user_alone() -> None:
    (parts,) = play(Puma, Argmax(10), evaluations=1).parts[0]
    assert [len(parts[role]) for role in ROLES] == [0, 1, 0]
    (parts,) = play(Puma, Generation(small("gpt2"), 3, 1), evaluations=1).parts[0]
    assert [len(parts[role]) for role in ROLES] == [1, 2, 1]


def test_pads_are_fresh_in_every_evaluation() -> None:
    """With a seed a run repeats itself, but its evaluations do not; without one nothing does."""
    workload = Nonlinear("gelu", (500,))
    runs = [play(Puma, workload, key_seed=key_seed) for key_seed in (SEED, SEED, None)]
    shares = [part[P0][0] for run in runs for (part,) in run.parts]
    assert torch.equal(shares[0], shares[2])
    assert torch.equal(shares[1], shares[3])
    for i, j in ((0, 1), (0, 4), (4, 5), (1, 5)):
        assert not (shares[i] == shares[j]).any()


def test_what_puma_cannot_do() -> None:
    """It says why, before any party starts."""
    huge = TransformerSpec("huge", "glm", 28, 65536, 32, 262144, 130528, 2048)
    for workload in (Generation(huge, 4, 1), Layer(huge, 1, 1)):
        with pytest.raises(Unsupported, match="GB"):
            Puma.check(workload, PumaOptions())
    with pytest.raises(Unsupported, match="no protocol"):
        Puma.check(Nonlinear("cosine", (3,)), PumaOptions())  # type: ignore[arg-type]
    user = UserInput(sampling=Sampling(temperature=1.0))
    with pytest.raises(Unsupported, match="sample"):
        Puma.check(Generation(small("gpt2"), 3, 1), PumaOptions(), user)
    Puma.check(Argmax(100_000), PumaOptions())


def test_memory_of_a_layer() -> None:
    """Two parts of 8 bytes for each of ChatGLM-6B's 201 million weights and biases."""
    chatglm = TransformerSpec("chatglm-6b", "glm", 28, 4096, 32, 16384, 130528, 2048)
    weights = 12 * 4096 * 4096 + (3 + 1 + 4 + 1) * 4096 + 4 * 4096
    assert weight_bytes(Layer(chatglm, 1, 128)) == 16 * weights


def test_costs_add_up_in_sequence_and_side_by_side() -> None:
    turn, word = rotation(8), one_round({(P2, P1): 5, (P0, P1): 0})
    assert (turn + word).hops == 2
    assert (turn | word).hops == 1
    assert (turn | word).payload_bytes == {(P0, P2): 8, (P1, P0): 8, (P2, P1): 13}
    assert (turn * 3).hops == 3
    assert (word + word).hops == 1  # P2 hears nothing and waits for nobody
    assert Cost().phase() == PhaseCost(0, {})
