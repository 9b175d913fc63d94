"""The file of an external system: what it says, and one line for each way in which it can be wrong."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from baselines.external import answers, input_file
from baselines.external.placeholders import filled, gaps
from baselines.external.program_file import ProgramError, ProgramFile, read
from protocols.expected_answer import answer
from protocols.transformer.rotary import rotary_tables
from protocols.transformer.weights import synthetic_layer
from protocols.workload import Argmax, Layer, Linear, Nonlinear
from tests.play import small

GOOD: dict[str, Any] = {
    "ready": "ready",
    "memory": "1.5 GB",
    "go": True,
    "environment": {"LEVEL": 1},
    "roles": {
        "P0": {"command": "server {listen} --name 'two words'", "environment": {"LEVEL": "{seed}"}},
        "P1": {
            "command": ["client", "{address:P0}", 7],
            "ready": "^connected",
            "memory": "20MB",
        },
    },
    "answer": {"role": "P1", "pattern": "sum (.*)", "expected": [1, 2.5], "tolerance": 0.1},
    "markers": {"offline": "triples"},
}
WRONG: dict[str, tuple[Any, str]] = {
    "rolls": ({}, "the file: no key rolls; did you mean roles?"),
    "roles.P3": ({"command": "x"}, "roles: no key P3; allowed: P0, P1, P2"),
    "roles.P0.command": ("server 'open", "roles.P0.command: no closing quotation"),
    "roles.P0.comand": ("server", "roles.P0: no key comand; did you mean command?"),
    "roles.P1.command": ("client {adress:P0}", "no value {adress:P0}; did you mean address:P0?"),
    "roles.P1": ({"command": "client"}, "nobody connects to anybody"),
    "roles": ({"P0": {"command": "alone"}}, "must be at least two of P0, P1, P2"),
    "ready": ("(", "ready: no regular expression"),
    "memory": (
        1.5,
        "memory: got 1.5, must be a number > 0 with a unit (B, kB, MB, GB, TB), as 1.5 GB",
    ),
    "roles.P0.memory": ("2 GiB", "roles.P0.memory: got 2 GiB, must be a number > 0 with a unit"),
    "roles.P1.memory": ("0 MB", "roles.P1.memory: got 0 MB, must be a number > 0 with a unit"),
    "go": ("yes", "go: got yes, must be true or false"),
    "answer.role": ("P2", "answer.role: got P2, must be one of P0, P1"),
    "answer.pattern": ("sum", "answer.pattern: must have a group"),
    "answer.tolerance": (-1, "answer.tolerance: got -1, must be a number ≥ 0"),
    "peer": (7, "peer: got 7, must be a text"),
    "answer.functions": ("puma", "answer.functions: needs expected: plaintext"),
    "answer.expected": ([True], "answer.expected: must be numbers, a text, or plaintext"),
    "environment.LEVEL": ([1], "environment.LEVEL: must be a text or a number"),
    "experiments": ("argmax", "experiments: must be a list of names"),
}


def file(folder: Path, data: Any) -> Path:
    path = folder / "some.yaml"
    path.write_text(yaml.safe_dump(data))
    return path


def changed(key: str, value: Any) -> dict[str, Any]:
    """`GOOD` with one value replaced, by its dotted key."""
    made: dict[str, Any] = yaml.safe_load(yaml.safe_dump(GOOD))
    *groups, last = key.split(".")
    inner = made
    for group in groups:
        inner = inner[group]
    inner[last] = value
    return made


@pytest.fixture
def good(tmp_path: Path) -> ProgramFile:
    return read(file(tmp_path, GOOD))


def test_what_a_file_says(good: ProgramFile) -> None:
    assert good.roles["P0"].command == ("server", "{listen}", "--name", "two words")
    assert good.roles["P1"].command == ("client", "{address:P0}", "7")
    assert good.connections == (("P1", "P0"),)
    assert good.roles["P0"].environment == {"LEVEL": "{seed}"}
    assert good.roles["P1"].environment == {"LEVEL": "1"}
    assert [role.ready.pattern for role in good.roles.values() if role.ready] == [
        "ready",
        "^connected",
    ]
    assert [role.memory_bytes for role in good.roles.values()] == [1_500_000_000, 20_000_000]
    assert good.answer.expected == (1.0, 2.5)


@pytest.mark.parametrize("key", WRONG)
def test_a_wrong_file_is_refused_in_one_line_that_names_the_key(key: str, tmp_path: Path) -> None:
    value, said = WRONG[key]
    with pytest.raises(ProgramError) as caught:
        read(file(tmp_path, changed(key, value)))
    assert said in str(caught.value)
    assert str(caught.value).startswith(f"{tmp_path / 'some.yaml'}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [("a: [", "no YAML"), ("just a text", "must be a mapping"), ("{}", "roles is missing")],
)
def test_what_is_no_such_file(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "other.yaml"
    path.write_text(text)
    with pytest.raises(ProgramError, match=said):
        read(path)
    with pytest.raises(ProgramError, match="no such file"):
        read(tmp_path / "absent.yaml")


def test_rules_between_keys(tmp_path: Path) -> None:
    for key, value, said in (
        ("go", False, "go: must be true with stays: true"),
        ("ready", None, "roles.P0.ready: must be a pattern with stays: true"),
    ):
        with pytest.raises(ProgramError, match=said):
            read(file(tmp_path, changed(key, value) | {"stays": True}))
    with pytest.raises(ProgramError, match="plaintext needs experiments other than program"):
        read(file(tmp_path, changed("answer.expected", "plaintext")))


def test_files_that_commands_name_are_part_of_the_result(tmp_path: Path) -> None:
    (tmp_path / "client").write_text("#!/bin/sh\n")
    found = read(file(tmp_path, GOOD)).named_files()
    assert list(found) == [tmp_path / "some.yaml", tmp_path / "client"]


def test_inputs_are_those_of_our_own_systems(tmp_path: Path) -> None:
    work = Layer(small("gpt2"), 2, 5)
    path = input_file.write(tmp_path, work, 3)
    given = np.load(path, allow_pickle=False)
    assert path.stat().st_mode & 0o777 == 0o600
    assert "cos" not in given
    weights = synthetic_layer(work.spec, 3)
    assert given["qkv.weight"].tolist() == weights.qkv.weight.tolist()
    assert given["ffn_norm.gain"].tolist() == weights.ffn_norm.gain.tolist()
    assert given["past_k"].shape == (work.spec.n_heads, 3, work.spec.d_head)
    linear = np.load(input_file.write(tmp_path, Linear(3, 5, 4), 3), allow_pickle=False)
    got = linear["x"] @ linear["weight"].T.astype(float) + linear["bias"]
    assert np.allclose(got, answer(Linear(3, 5, 4), 3).numpy(), atol=1e-12)


def test_rotary_tables_are_among_the_inputs() -> None:
    work = Layer(small("glm"), 2, 5)
    given = input_file.arrays(work, 3)
    cos, sin = rotary_tables(work.spec, torch.tensor([3, 4]))
    assert given["cos"].tolist() == cos.tolist()
    assert given["sin"].tolist() == sin.tolist()


def test_gaps() -> None:
    text = "{host:P1} ${HOME} {{braces}} {'a': 1} {seed}"
    assert list(gaps(text)) == ["host:P1", "seed"]
    assert filled(text, {"host:P1": "h", "seed": "{seed}"}) == "h ${HOME} {braces} {'a': 1} {seed}"


def test_numbers_of_an_answer() -> None:
    assert answers.numbers("[1, -2.5e-3,\t+4 .5] x=7") == [1, -2.5e-3, 4, 0.5, 7]


def test_answers_that_are_given_in_the_file(good: ProgramFile) -> None:
    def error(text: str) -> float:
        return answers.error(good.answer, text)

    assert answers.metric(good.answer, None) == "largest difference"
    assert error("1 2.5") == 0
    assert error("1, 2.25") == 0.25
    assert error("1") == error("1 2.5 3") == error("1 nan") == float("inf")


def test_answers_of_our_own_experiments(good: ProgramFile) -> None:
    work, seed = Nonlinear("gelu", (4, 5)), 3
    right = answer(work, seed)
    text = " ".join(map(str, right.reshape(-1).tolist()))
    assert answers.error(good.answer, text, right) == 0
    off = " ".join(map(str, (1.01 * right).reshape(-1).tolist()))
    assert answers.error(good.answer, off, right) == pytest.approx(0.01)
    assert answers.error(good.answer, text + " 1", right) == float("inf")
    index = answer(Argmax(50), seed)
    assert answers.error(good.answer, f"{index}", index) == 0
    assert answers.error(good.answer, f"{index + 1}", index) == 1
