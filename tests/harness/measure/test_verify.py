"""How wrong an answer is, against what a system says it computes and against the exact model."""

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from harness.measure.verify import Answers, relative_error, relative_rms
from harness.parties.job import Job
from harness.registry import system_class
from protocols.expected_answer import answer
from protocols.inputs import fed_tokens, prompt_tokens
from protocols.system import PlainRun, System
from protocols.workload import Argmax, Generation, Nonlinear, Workload
from tests.play import SEED, play, small

GELU = Nonlinear("gelu", (200,))


def job(name: str, workload: Workload) -> Job:
    return Job(name, system_class(name).Options(), workload, SEED)


@pytest.mark.parametrize(("name", "approximates"), [("permllm", False), ("mpcformer", True)])
def test_of_a_function(name: str, approximates: bool) -> None:
    system, asked = system_class(name), job(name, GELU)
    own, exact = system.plaintext(GELU, SEED, asked.options), answer(GELU, SEED)
    answers = Answers()
    for revealed in (own, own * 1.001):
        found = answers.check(system, asked, [[revealed], [own]])
        assert found.value == relative_rms(revealed, own)
        assert found.exact == relative_rms(revealed, exact)
        assert (found.exact > 0.05) == approximates


def test_one_memory_serves_systems_in_turns() -> None:
    """The exact answer is common to all; each system's own is not."""
    answers = Answers()
    for name in ("mpcformer", "puma", "permllm", "mpcformer"):
        asked = job(name, GELU)
        own = system_class(name).plaintext(GELU, SEED, asked.options)
        found = answers.check(system_class(name), asked, [[own]])
        assert (found.value, found.exact) == (0.0, relative_rms(own, answer(GELU, SEED)))


def test_of_an_index() -> None:
    right = answer(Argmax(50), SEED)
    found = Answers().check(system_class("puma"), job("puma", Argmax(50)), [[right], [right + 1]])
    assert (found.value, found.exact, found.ok) == (1.0, 1.0, False)


@pytest.mark.parametrize("family", ["gpt2", "bert"])
def test_of_a_model(family: Any) -> None:
    work = Generation(small(family), 5, 0 if family == "bert" else 3)
    system, asked = system_class("mpcformer"), job("mpcformer", work)
    own = played(system.plain_model(work, SEED, asked.options), work)
    found = Answers().check(system, asked, [own])
    assert found.ok
    assert found.value < 1e-12  # sums in another order
    assert found.exact is not None
    assert 1e-6 < found.exact < 2
    exact = Answers().check(system, asked, [played(System.plain_model(work, SEED, None), work)])
    assert exact.exact is not None
    assert exact.exact < 1e-12
    assert exact.value > 1e-6


@pytest.mark.parametrize(("gap", "ok"), [(0.0, True), (3e-5, True), (0.05, False)])
def test_a_token_within_the_tolerance_of_the_likeliest_is_right(
    gap: float, ok: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tie within the error of the numbers; a token that is clearly less likely stays wrong."""
    work = Generation(small("gpt2"), 5, 2)
    logits = torch.linspace(-1, 0, work.spec.vocab, dtype=torch.float64)
    logits[3], logits[7] = 1.0, 1.0 - gap
    monkeypatch.setattr(System, "plain_model", classmethod(lambda *_: Constant(logits)))
    revealed = [torch.cat([torch.tensor([7.0]), logits])] * work.new_tokens
    found = Answers().check(system_class("permllm"), job("permllm", work), [revealed])
    assert found.ok == ok
    assert ("2 tokens differ" in found.metric) == (not ok)


class Constant:
    """A model that always gives the same logits."""

    def __init__(self, logits: Tensor) -> None:
        self._logits = logits

    def reset(self) -> None: ...

    def step(self, tokens: object) -> Tensor:
        return self._logits

    def verify(self, tokens: Sequence[int]) -> Tensor:
        return self._logits.expand(len(tokens), -1)


@pytest.mark.parametrize("key_seed", [1, 2])
def test_a_run_is_right_where_its_numbers_decide_a_tie_otherwise(key_seed: int) -> None:
    """A shrunk GPT-2 whose plaintext logits of two tokens differ by 3e-5 at one of 13 tokens."""
    work, seed, system = Generation(small("gpt2"), 4, 13), 4, system_class("permllm")
    answers = play(system, work, evaluations=1, seed=seed, key_seed=key_seed).answers
    assert Answers().check(system, Job("permllm", system.Options(), work, seed), answers).ok


def played(plain: PlainRun, work: Generation) -> list[Tensor]:
    """What a system would reveal that computes as `plain` does, greedily."""
    prompt = prompt_tokens(work.spec, work.prompt_len, SEED)
    if work.spec.family == "bert":
        return [plain.encode(prompt)]
    plain.reset()
    steps, tokens = [], list(prompt)
    for step in range(work.new_tokens):
        logits = plain.step(tokens)
        picked = [int(logits.argmax())]
        steps.append(torch.cat([torch.tensor(picked, dtype=torch.float64), logits]))
        tokens = fed_tokens(work, step + 1, picked, SEED)
    if work.drafted:
        rows = plain.verify(tokens)
        steps.append(torch.cat([rows.argmax(-1)[:, None].double(), rows], dim=1))
    return steps


def test_of_drafted_tokens() -> None:
    """Each row counts, and each is compared after the tokens that it saw."""
    work = Generation(small("gpt2"), 5, 2, drafted=3)
    system, asked = system_class("permllm"), job("permllm", work)
    right = played(system.plain_model(work, SEED, asked.options), work)
    assert Answers().check(system, asked, [right]).value == 0.0
    for row in range(4):
        wrong = [*right[:-1], right[-1].clone()]
        wrong[-1][row, 0] = wrong[-1][row, 1:].argmin()
        found = Answers().check(system, asked, [wrong])
        assert (found.ok, "1 tokens differ" in found.metric) == (False, True)


def test_a_large_coordinate_hides_no_error_of_the_others() -> None:
    right = torch.randn(3, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    got = right * 1.05
    got[:, 5] = right[:, 5] = 20_000.0
    assert relative_rms(got, right) < 1e-4
    assert 0.04 < relative_error(got, right) < 0.06


def test_an_error_of_a_large_coordinate_counts_too() -> None:
    right = torch.ones(2, 64, dtype=torch.float64)
    right[:, 5] = 20_000.0
    got = right.clone()
    got[1, 5] = -20_000.0
    assert relative_error(got, right) > 1


def test_what_cannot_be_compared_is_infinitely_wrong() -> None:
    right = torch.ones(2, 64, dtype=torch.float64)
    assert relative_error(right[:1], right) == math.inf
    assert relative_error(right * math.nan, right) == math.inf
    assert relative_error(right, right) == 0.0
