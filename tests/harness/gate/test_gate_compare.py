"""Counts are compared exactly, and every difference has a name."""

from dataclasses import replace

import pytest

from harness.gate.baseline import Counts
from harness.gate.check import Difference, differences
from harness.records.record import Sent

SENT = Sent(2, 800, 900)
PHASES = {
    "offline": Counts(1, {"P2>P1": Sent(1, 16, 70)}),
    "online": Counts(4, {"P0>P1": SENT, "P1>P0": SENT}),
}
Phases = dict[str, Counts]


def online(**pairs: Sent | None) -> Phases:
    """PHASES with the online traffic of some pairs ("P0_P1") replaced or taken away."""
    new = dict(PHASES["online"].sent)
    for name, sent in pairs.items():
        new.pop(name.replace("_", ">"), None)
        if sent is not None:
            new[name.replace("_", ">")] = sent
    return PHASES | {"online": replace(PHASES["online"], sent=new)}


def without(phase: str) -> Phases:
    return {name: counts for name, counts in PHASES.items() if name != phase}


CASES: dict[str, tuple[Phases, list[Difference]]] = {
    "hops": (
        PHASES | {"online": replace(PHASES["online"], hops=5)},
        [Difference("online", "hops", 4, 5)],
    ),
    "messages": (
        online(P0_P1=replace(SENT, messages=3)),
        [Difference("online P0>P1", "messages", 2, 3)],
    ),
    "payload": (
        online(P1_P0=replace(SENT, payload_bytes=808)),
        [Difference("online P1>P0", "payload bytes", 800, 808)],
    ),
    "wire": (
        online(P0_P1=replace(SENT, wire_bytes=899)),
        [Difference("online P0>P1", "wire bytes", 900, 899)],
    ),
    "a pair more": (
        online(P2_P0=Sent(1, 0, 36)),
        [Difference("online P2>P0", "messages", 0, 1), Difference("online P2>P0", "wire bytes", 0, 36)],
    ),
    "a pair less": (
        online(P1_P0=None),
        [
            Difference("online P1>P0", "messages", 2, 0),
            Difference("online P1>P0", "payload bytes", 800, 0),
            Difference("online P1>P0", "wire bytes", 900, 0),
        ],
    ),
    "a phase less": (without("offline"), [Difference("offline", "hops", 1, None)]),
    "a phase more": (PHASES | {"input": Counts(0, {})}, [Difference("input", "hops", None, 0)]),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_every_difference_is_found_and_named(case: str) -> None:
    found, expected = CASES[case]
    assert list(differences(PHASES, found)) == expected


def test_what_is_equal_is_fine_and_silence_needs_no_name() -> None:
    assert differences(PHASES, PHASES) == ()
    assert differences(PHASES, online(P2_P0=Sent(0, 0, 0))) == ()


SPELLED = [
    (Difference("online P0>P1", "messages", 2, 3), "online P0>P1: messages 3, expected 2 (+1)"),
    (
        Difference("offline", "hops", 1, None),
        "offline: the baseline has this phase, the run has not",
    ),
    (Difference("input", "hops", None, 0), "input: the run has this phase, the baseline has not"),
]


@pytest.mark.parametrize(("difference", "text"), SPELLED)
def test_a_difference_reads_well(difference: Difference, text: str) -> None:
    assert str(difference) == text
