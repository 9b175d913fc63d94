"""Tokens that overlap (variant=fused): choice and embedding in one hop, the token beside the next step."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from torch import Tensor

from protocols.in_process_party import MemoryParty
from protocols.party import P0, P1, Role
from protocols.permllm.chosen_token import ChosenToken
from protocols.permllm.masked_value import Masked
from protocols.permllm.oblivious_transfer import TransferLookup
from protocols.permllm.options import Lookups, PermLLMOptions
from protocols.permllm.private_lookup import Lookup
from protocols.permllm.system import PermLLM
from protocols.workload import Generation
from tests.play import play, small

WORK = Generation(small("gpt2"), 4, 6)


def options(lookup: Lookups = "ot", **chosen: Any) -> PermLLMOptions:
    return PermLLMOptions(variant="fused", selection=lookup, **chosen)


@pytest.mark.parametrize("lookup", ["bfv", "ot"])
@pytest.mark.parametrize("batch", [1, 2, None])
def test_tokens_are_those_of_steps_that_do_not_overlap(lookup: Lookups, batch: int | None) -> None:
    """A batch's first input comes from the batch before."""
    plain = play(PermLLM, WORK)
    played = play(PermLLM, WORK, options(lookup, offline_batch=batch))
    assert [int(step[0]) for step in played.answers[1]] == [int(s[0]) for s in plain.answers[1]]


def test_a_step_ends_without_its_token_and_the_last_one_waits_for_it() -> None:
    parts = play(PermLLM, WORK, options()).parts[1]
    tokens = [int(part[P1][0]) for part in parts]
    assert tokens[:-1] == [-1] * 5
    right = [PermLLM.token(part) for part in parts]
    assert tokens[-1] == right[-1]
    assert [int(part[P1][3]) for part in parts[1:]] == right[:-1]


def test_a_token_that_comes_out_wrong_shows_in_the_step_after(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    checked, calls = Lookup.checked, []

    def third_is_wrong(self: Lookup, entry: int) -> int:
        calls.append(entry)
        return checked(self, entry) ^ (len(calls) == 3)

    monkeypatch.setattr(TransferLookup, "checked", third_is_wrong)
    answers = play(PermLLM, WORK, options(), evaluations=1).answers[0]
    assert [bool(answer.isnan().any()) for answer in answers] == [step == 3 for step in range(6)]


def test_p0_answers_while_p1_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    """After its first message of the next step, and before it waits: beside the critical path."""
    order: list[str] = []
    asked, send = TransferLookup.asked, MemoryParty.send

    def noted(self: TransferLookup) -> Callable[[], None]:
        answer = asked(self)

        def answers() -> None:
            order.append("answer")
            answer()

        return answers

    def sent(self: MemoryParty, to: Role, *tensors: Tensor) -> None:
        if (self.role, self._current()) == (P0, "online"):
            order.append(f"message of step {self.occurrences('online') - 1}")
        send(self, to, *tensors)

    monkeypatch.setattr(TransferLookup, "asked", noted)
    monkeypatch.setattr(MemoryParty, "send", sent)
    play(PermLLM, replace(WORK, new_tokens=3), options(), evaluations=1)
    second, third = "message of step 1", "message of step 2"
    assert order[order.index(second) :][:3] == [second, "answer", second]
    assert order[order.index(third) :][:3] == [third, "answer", third]
    assert order[-2:] == ["answer", third]  # the last token is answered at once


def test_one_hots_are_as_many_as_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last token's too: P0 must not tell an answer that ended from one that was cut off."""
    sent, send = 0, ChosenToken.send

    def counted(self: ChosenToken, slot: int) -> Masked:
        nonlocal sent
        sent += 1
        return send(self, slot)

    monkeypatch.setattr(ChosenToken, "send", counted)
    play(PermLLM, WORK, options(), evaluations=1)
    assert sent == WORK.new_tokens
