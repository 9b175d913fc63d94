"""MPCFormer as a system: its approximations, the user's part, the paper's layer, its limits."""

import pytest
import torch

from baselines.additive.functions import function
from baselines.mpcformer.options import Settings
from baselines.mpcformer.system import MPCFormer
from protocols.errors import Unsupported
from protocols.expected_answer import answer
from protocols.token_sampling import Picker
from protocols.transformer.spec import Family, TransformerSpec
from protocols.workload import Argmax, Generation, Layer, Sampling, UserInput
from tests.play import FAMILIES, SEED, play, relative, small

FAITHFUL = Settings()
WIDE = TransformerSpec("glm", "glm", 28, 4096, 32, 16384, 130528, 2048)


@pytest.mark.parametrize("family", FAMILIES)
def test_exact_approximations_are_close_to_plaintext(family: Family) -> None:
    """`exact` computes the model itself, up to what the original's approximations leave."""
    work, chosen = Layer(small(family), 4, 9), Settings("exact", True, "exact")
    played = play(MPCFormer, work, chosen, evaluations=1)
    assert relative(played.answers[0][0], answer(work, SEED)) <= 5e-3


def test_the_user_picks() -> None:
    """A prompt and a sampling rule of P1's own."""
    work = Generation(small("gpt2"), 3, 3)
    user = UserInput((1, 2, 3), Sampling(temperature=5.0, top_k=40, seed=2))
    answers = play(MPCFormer, work, user=user).answers
    model = MPCFormer.plain_model(work, SEED, FAITHFUL)
    assert relative(answers[0][0][1:], model.step([1, 2, 3])) <= 1e-3
    picks = Picker(user.sampling)
    for got in answers:
        assert [int(step[0]) for step in got] == [picks(step[1:]) for step in got]
        assert any(int(step[0]) != int(step[1:].argmax()) for step in got)


def test_the_papers_layer() -> None:
    """3,073 MiB over both parties at d = 4096, one token; under 2 MiB with weights opened once."""

    def online_mib(length: int, chosen: Settings) -> float:
        cost = MPCFormer.cost(Layer(WIDE, 1, length), chosen)["online"]
        return sum(cost.payload_bytes.values()) / 2**20

    for length in (1, 128):
        assert online_mib(length, FAITHFUL) == pytest.approx(3073, rel=0.01)
        assert online_mib(length, Settings(reuse_weight_masks=True)) < 2


def test_a_comparison_is_of_fixed_point() -> None:
    """A value that rounds to 0 is not negative."""
    x = torch.tensor([-(2.0**-18), -(2.0**-16), 0.0], dtype=torch.float64)
    assert function("comparison", Settings("exact")).plain(x).tolist() == [0.0, 1.0, 0.0]


def test_what_cannot_be_run_says_why() -> None:
    with pytest.raises(Unsupported, match="GiB"):
        MPCFormer.check(Generation(WIDE, 4, 1), FAITHFUL)
    for work in (Layer(WIDE, 1, 128), Generation(small("gpt2"), 4, 1), Argmax(10)):
        MPCFormer.check(work, FAITHFUL)
