"""Damaged records: each is one warning that names what is wrong, and the good ones are shown."""

import json
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.cli.main import main
from harness.records import store
from harness.records.record import Correctness, NetworkRecord, Record, StepRecord

MakeRecord = Callable[..., Record]
CASES, SEED = 100, 6
WRONG = [
    None,
    True,
    -1,
    7,
    2**70,
    1e308,
    0.5,
    "",
    "x",
    "nan",
    [],
    [None],
    ["x"],
    {},
    {"x": 1},
    [[1]],
]
DIRECTION = {
    "ladder": [{"bytes": 4000, "seconds": 0.005, "expected_s": 0.005, "error": 0.0}],
    "expected_bit_s": 1e9,
    "bulk_bit_s": 1e9,
    "both_bit_s": 1e9,
    "bulk_error": None,
    "both_error": 0.01,
}
LINK = {"rtt_s": 0.01, "expected_rtt_s": 0.01, "rtt_error": 0.0}


def whole(make_record: MakeRecord) -> Record:
    """A record that has something of everything."""
    record = make_record(["experiment=layer", "model=gpt2", "experiment.q_len=1"])
    network = NetworkRecord(
        "permllm-wan",
        record.network.profile,
        {"P0-P1": {**LINK, "forward": DIRECTION, "backward": DIRECTION}},
        True,
        {"P0": {"queue": 3}},
        "2025-01-02",
    )
    environment = {
        **record.environment,
        "cpu_model": "Xeon",
        "usable_cores": 2,
        "load_average": [0.1, 0.2, 0.3],
        "git": {"commit": "abcdef0123", "dirty": False},
        "packages": {"torch": "2"},
    }
    return replace(
        record,
        network=network,
        environment=environment,
        steps=[StepRecord(0, "decode", 1, 5, 6, 4, 100)],
        correctness=Correctness("relative rms", 2e-4, 2e-3, True, float("inf")),
        logs={"link": ["a line"]},
        generated={"prompt_tokens": [1], "tokens": [2], "text": "x"},
        stored_bytes={"P0": 1, "P1": 2},
    )


def places(data: Any) -> Iterator[tuple[Any, Any]]:
    """Every value inside: its container, and its key there."""
    for key in data if isinstance(data, dict) else range(len(data)):
        yield data, key
        if isinstance(data[key], dict | list):
            yield from places(data[key])


def damaged(text: str, rng: random.Random) -> str:
    """The text of a record with one thing wrong: a value of another type, a key less or more, bytes."""
    data = json.loads(text)
    container, key = rng.choice(list(places(data)))
    kind = rng.randrange(5)
    if kind <= 2:
        container[key] = rng.choice(WRONG)
    elif kind == 3:
        del container[key]
    else:
        cut = rng.randrange(len(text))
        return text[:cut] + rng.choice(["", "NaN", "1e999", "[" * 5000, "\0"]) + text[cut + 7 :]
    return json.dumps(data)


@pytest.mark.parametrize("form", [[], ["--format", "csv"], ["--format", "markdown", "--steps"]])
def test_show_survives_any_damage(
    form: list[str], tmp_path: Path, make_record: MakeRecord, capsys: pytest.CaptureFixture[str]
) -> None:
    rng, good = random.Random(SEED), make_record(["experiment=layer", "model=tiny"])
    store.save(tmp_path, good)
    text = whole(make_record).to_json()
    for number in range(CASES):
        path = tmp_path / "layer" / f"{number:016x}.json"
        path.write_text(damaged(text, rng), encoding="utf-8")
    assert main(["show", f"results_dir={tmp_path}", *form]) == 0
    out, error = capsys.readouterr()
    assert "tiny" in out
    warnings = error.splitlines()
    assert all(line.startswith(f"warning: {tmp_path}") for line in warnings)
    named = [re.match(r"warning: (\S+\.json): not ", line) for line in warnings]
    assert all(named)
    assert len({match[1] for match in named if match}) == len(warnings) > CASES / 2


def test_a_record_that_is_read_can_be_shown_whole(
    tmp_path: Path, make_record: MakeRecord, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever damage gets by, no view of it fails."""
    rng, text = random.Random(SEED + 1), whole(make_record).to_json()
    path = store.save(tmp_path, whole(make_record))
    for _ in range(CASES):
        path.write_text(damaged(text, rng), encoding="utf-8")
        found = store.load_or_warn(path)
        if found is not None and re.fullmatch("[0-9a-f]{16}", found.id):
            assert main(["show", found.id, f"results_dir={tmp_path}"]) == 0
    assert "link" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("at", "value", "problem"),
    [
        (
            ("phases", "online", "wall_ns", 0),
            "5",
            "phases.online.wall_ns[0]: got 5, must be a whole number",
        ),
        (
            ("config", "experiment", "kv_len"),
            None,
            "config.experiment.kv_len: got null, must be a whole",
        ),
        (
            ("config", "network", "rate_mbit"),
            "x",
            "config.network.rate_mbit: got x, must be a number or",
        ),
        (
            ("config", "system", "weight_bits"),
            [],
            "config.system.weight_bits: got a list, must be a whole",
        ),
        (
            ("network", "measured", "P0-P1", "forward"),
            1,
            "network.measured.P0-P1.forward: got 1, must be an",
        ),
        (
            ("correctness", "value"),
            "big",
            "correctness.value: got big, must be a number or nan or inf or",
        ),
        (
            ("steps", 0, "kind"),
            "half",
            "steps[0].kind: got half, must be whole or prefill or decode",
        ),
    ],
)
def test_the_warning_names_the_key(
    at: tuple[Any, ...],
    value: Any,
    problem: str,
    tmp_path: Path,
    make_record: MakeRecord,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = store.save(tmp_path, whole(make_record))
    data = json.loads(path.read_text())
    inner = data
    for key in at[:-1]:
        inner = inner[key]
    inner[at[-1]] = value
    path.write_text(json.dumps(data))
    assert store.load_or_warn(path) is None
    assert f"{path}: not a record: {problem}" in capsys.readouterr().err
