"""Parties that have proved who they are and say what cannot be: one line, in bounded time and memory."""

import random
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch

from baselines.shamir.share import encode
from harness.parties import group
from harness.parties.control import Control
from harness.records.record import Record
from harness.transport import frame
from harness.transport.stream import Outgoing
from protocols.events import Stamp
from protocols.expected_answer import answer
from protocols.party import ALL_ROLES, Role
from protocols.workload import Nonlinear
from tests.faults.puppets import Act, Listening, Say, Stage, measure

Fields = dict[str, Any]
NO_STAMP = Stamp("prepare", 0, 0, 0)
ESCAPES = "\x1b[2Jgone\x07\x9b31m\u202etxt"


@pytest.fixture(autouse=True)
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Others need no second to report: there is nothing to wait for here."""
    monkeypatch.setattr(group, "SETTLE_S", 0.1)


def test_honest_puppets_are_a_run() -> None:
    record = measure(Stage())
    assert (record.status, record.error) == ("ok", None)


def saying(kind: str, change: Callable[[Fields], Any]) -> Say:
    """Honest but for the notices of one kind."""

    def say(said: str, fields: Fields) -> Fields:
        if said == kind:
            change(fields)
        return fields

    return say


def online(change: Callable[[Fields], Any]) -> Callable[[Fields], Any]:
    return lambda fields: change(fields["phases"]["online"][0])


WRONG: dict[str, tuple[str, Callable[[Fields], Any]]] = {
    "hops of 10^40": ("result", online(lambda phase: phase.update(depth=10**40))),
    "hops of 10^15": ("result", online(lambda phase: phase.update(depth=10**15))),
    "hops below nothing": ("result", online(lambda phase: phase.update(depth=-1))),
    "hops and a half": ("result", online(lambda phase: phase.update(depth=1.5))),
    "an end before the start": ("result", online(lambda phase: phase.update(end_ns=1))),
    "an end to come": ("result", online(lambda phase: phase.update(end_ns=1 << 62))),
    "work of no time": ("result", online(lambda phase: phase.update(cpu_ns=-5))),
    "no number": ("result", online(lambda phase: phase.update(cpu_ns=float("nan")))),
    "messages to nobody": ("result", online(lambda phase: phase.update(sent={"P7": {}}))),
    "no traffic in it": ("result", online(lambda phase: phase.update(sent={"P0": 3}))),
    "a phase too few": ("result", lambda fields: fields["phases"].update(online=[])),
    "phases of a text": ("result", lambda fields: fields.update(phases="many")),
    "a peak of a text": ("result", lambda fields: fields["peak_rss_bytes"].update(online="all")),
    "a port beyond": ("hello", lambda fields: fields.update(port=1 << 20)),
    "a host of escapes": ("hello", lambda fields: fields.update(host=ESCAPES)),
    "a version of escapes": ("hello", lambda fields: fields.update(version=ESCAPES)),
    "no clock": ("clock", lambda fields: fields.update(now_ns=None)),
    "another kind": ("connected", lambda fields: fields.update(kind=ESCAPES)),
    "no kind": ("connected", lambda fields: fields.update(kind=["connected"])),
    "an error of nothing": ("ready", lambda fields: fields.update(kind="error")),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_value_that_cannot_be_is_refused_by_the_name_of_its_party(case: str) -> None:
    kind, change = WRONG[case]
    record = measure(Stage({"P1": saying(kind, change)}))
    assert_clear(record)
    assert str(record.error).startswith("P1")


def test_a_link_of_less_than_nothing_is_refused() -> None:
    change = saying("calibrated", lambda fields: fields.update(measured={"rtt_s": -1}))
    record = measure(Stage({"P0": change}))
    assert_clear(record)
    assert "P0 reports rtt_s '-1', which cannot be" in str(record.error)


SEVEN = (
    *("system=shamir", "system.parties=7"),
    *("experiment=nonlinear", "experiment.op=comparison", "experiment.shape=[5]"),
)
LIES: dict[str, Callable[[torch.Tensor], list[torch.Tensor]]] = {
    "P6: torch.int64 [4] came": lambda share: [share[:-1]],
    "P4: torch.int64 [1, 5] came": lambda share: [share[None]],
    "P1: torch.int32 [5] came": lambda share: [share.to(torch.int32)],
    "P0: nothing came": lambda share: [],
}


@pytest.mark.parametrize("said", [*LIES, None])
def test_one_of_seven_whose_part_of_the_answer_is_of_another_shape_is_named(
    said: str | None,
) -> None:
    """All others have shares of the right answer, by polynomials of degree 0."""
    right = encode(answer(Nonlinear("comparison", (5,)), 1))

    def parts(role: Role) -> list[torch.Tensor]:
        return LIES[said](right) if said and said.startswith(role) else [right]

    stage = Stage(roles=ALL_ROLES[:7], parts=parts)
    record = measure(stage, words=SEVEN)
    if said is None:
        assert (record.status, record.error) == ("ok", None)
        return
    assert_clear(record)
    assert f"answer: shares of {said}, expected torch.int64 [5]" in str(record.error)


def assert_clear(record: Record) -> None:
    """A failure of one line, which no terminal obeys."""
    assert record.status in ("failed", "timeout")
    text = str(record.error)
    assert text
    assert text.isprintable()
    assert len(text) < 4100
    assert "Error:" not in text  # of the harness itself


def test_no_terminal_obeys_what_a_party_says() -> None:
    shown = Listening()
    stages = saying("stage", lambda fields: fields.update(text=ESCAPES))
    assert measure(Stage({"P1": stages}), shown).status == "ok"
    assert any("gone" in line for line in shown.shown)
    assert all(line.isprintable() for line in shown.shown)
    failure = {"kind": "error", "reason": "failed", "text": ESCAPES}
    record = measure(Stage({"P1": saying("ready", lambda fields: fields.update(failure))}))
    assert record.error == "P1: [2Jgone31mtxt"


def trickle(control: Control) -> None:
    """One byte now and then, of a notice without end."""
    head = b"PBFR\x02" + bytes(1000)
    for at in range(len(head)):
        control._connection.sock.sendall(head[at : at + 1])
        time.sleep(0.1)


def much_text(control: Control) -> None:
    """Of a text of megabytes; a list of so many would take a hundred times that."""
    control.send("result", [], phases="0" * 3_000_000)


def deep_text(control: Control) -> None:
    """Lists in lists, deeper than the interpreter's stack."""
    text = '{"kind": "result", "phases": ' + "[" * 100_000 + "]" * 100_000 + "}"
    head = torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)
    Outgoing(control._connection, frame.encode(NO_STAMP, [head]).views).push(wait=True)


@pytest.mark.parametrize(
    ("act", "error"),
    [
        (trickle, "P1 stopped in the middle of a report"),
        (much_text, "P1 is of another version of permbench, or no party at all: frame begins with"),
        (
            deep_text,
            "P1 is of another version of permbench, or no party at all: a notice of JSON in",
        ),
    ],
)
@pytest.mark.parametrize("kind", ["hello", "result"])
def test_what_has_no_end_is_cut_off(act: Act, error: str, kind: str) -> None:
    record = measure(Stage(acts={"P1": {kind: act}}))
    assert_clear(record)
    assert str(record.error).startswith(error)


def scrambled(rng: random.Random) -> Say:
    """Honest, until in some notice one value becomes another."""
    chosen = rng.choice(("hello", "connected", "clock", "shaped", "calibrated", *["result"] * 5))
    left = 1
    values: list[Any] = [
        None,
        True,
        -1,
        1 << 70,
        1e308,
        "",
        ESCAPES,
        [],
        {},
        [[1]],
        {"a": "b"},
        0.5,
    ]

    def say(kind: str, fields: Fields) -> Fields:
        nonlocal left
        if kind == chosen and left:
            left = 0
            where: Any = fields
            while isinstance(where, dict | list) and where:
                key: Any = rng.choice(list(where) if isinstance(where, dict) else range(len(where)))
                if not isinstance(where[key], dict | list) or not where[key] or rng.random() < 0.3:
                    where[key] = rng.choice(values)
                    break
                where = where[key]
        return fields

    return say


def fuzz_control(seed: int) -> Record:
    """One run with a scrambled notice in it."""
    rng = random.Random(seed)
    role = rng.choice(("P0", "P1", "P2"))
    record = measure(Stage({role: scrambled(rng)}))  # type: ignore[dict-item]
    if record.status != "ok":
        assert_clear(record)
    text = record.to_json()
    assert "\\u001b" not in text
    assert "\\u202e" not in text
    for phase in record.phases.values():
        assert phase.hops is not None
        assert 0 <= phase.hops < 1 << 32
        assert all(0 <= ns < 60e9 for ns in phase.wall_ns)
    return record


def test_scrambled_notices_end_in_a_line_or_change_nothing() -> None:
    statuses = [fuzz_control(seed).status for seed in range(24)]
    assert "failed" in statuses
