"""Every key is documented, once, and all that is said of keys comes from there."""

from dataclasses import dataclass, fields
from pathlib import Path

import pytest

from harness.cli.key_help import about, every_key
from harness.cli.main import main
from harness.config import reference
from harness.config.compose import compose_all, compose_run
from harness.config.config_hash import flatten
from harness.config.groups import GROUPS, options
from harness.config.overrides import expand_sweep
from harness.config.reference import CALL, KeyDoc, keys
from harness.config.schema import RunConfig
from protocols.options import doc

ROOT = Path(__file__).parents[3]


def test_every_key_has_a_meaning_and_says_what_it_takes() -> None:
    bare = [doc.key for doc in keys() if not (doc.meaning and doc.values)]
    assert not bare


def test_no_key_of_a_configuration_is_left_out() -> None:
    """What a record of each option holds is what the reference lists."""
    points = [
        ["experiment=generate", "experiment.tokens=[3]"],
        ["runner=docker"],
        ["runner=remote"],
    ]
    points += [
        [f"experiment={e}", *(["system=orion"] if e == "bootstrapping" else [])]
        for e in options("experiment")
        if e != "generate"
    ]
    points += [[f"system={s}"] for s in options("system") if s != "external"]
    points += [["system=external", f"system.file={ROOT}/examples/external/tally.yaml"]]
    from harness.config.config_hash import resolved  # noqa: PLC0415

    held = {key for config in compose_all(points) for key in flatten(resolved(config))}
    held -= {f"{group}.name" for group in GROUPS if group not in ("model", "network")}
    listed = {doc.key for doc in keys() if doc.of != CALL and doc.key not in GROUPS}
    assert held == listed


def test_defaults_are_those_of_a_run() -> None:
    """Each default, given as an argument, changes nothing."""
    for option in options("experiment"):
        head = [
            f"experiment={option}",
            *(["experiment.tokens=[3]"] if option == "generate" else []),
            *(["system=orion"] if option == "bootstrapping" else []),
        ]
        own = [
            d for d in reference.option_keys("experiment", option) if d.key != "experiment.tokens"
        ]
        given = [f"{d.key}={d.default}" for d in own if d.default]
        assert compose_run([*head, *given]) == compose_run(head)
    plain = [
        f"{doc.key}={doc.default}" for doc in (*reference.group_keys(), *reference.plain_keys())
    ]
    assert compose_run(plain) == compose_run([])
    assert len(plain) >= len(fields(RunConfig))


def test_help_names_every_key_with_its_default() -> None:
    text = "\n".join(every_key())
    missing = [d.key for d in keys() if f"  {d.key}={d.default or '…'}" not in text]
    assert not missing


def test_list_explains_a_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "layer", "puma"]) == 0
    output = capsys.readouterr().out
    assert "experiment=layer: One transformer layer" in output
    assert "experiment.kv_len=128" in output
    assert "keys in all, those of the new tokens included" in output
    assert "system=puma: Puma: three computing parties" in output  # both of that name
    assert "network.rate_mbit=5000 " in output
    assert "network.source=the Puma paper" in output


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("network", "  nexus           100 Mbit/s, 80 ms RTT: NEXUS's WAN"),
        ("generate", "  it sets repeat=1 threads=2 warmup=0 timeout_s=600 too"),
        ("kv_len", "key of experiment=layer:"),
        ("mpcformer.approx", "key of system=mpcformer:"),
        ("calibration.strict", "key of every run:"),
        ("sweep.order", "key of a call of permbench run:"),
    ],
)
def test_groups_options_and_keys_can_be_asked_for(name: str, line: str) -> None:
    assert line in about(name)


def test_an_unknown_name_gets_a_guess(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "kvlen"]) == 2
    assert "did you mean kv_len?" in capsys.readouterr().err


@dataclass(frozen=True)
class Options:
    bare: int = 3


def test_an_option_without_words_is_listed_all_the_same() -> None:
    assert list(reference._keys_of(Options, "system.")) == [
        KeyDoc("system.bare", "", "a whole number", "3")
    ]
    assert doc("why")["values"] == ""


def test_a_key_of_one_system_multiplies_its_points_alone() -> None:
    texts = [
        "system=permllm,mpcformer,puma",
        "mpcformer.reuse_weight_masks=true,false",
        "experiment.n=1,2",
    ]
    assert expand_sweep(texts) == [
        ["system=permllm", "experiment.n=1"],
        ["system=permllm", "experiment.n=2"],
        *(
            ["system=mpcformer", f"system.reuse_weight_masks={reuse}", f"experiment.n={n}"]
            for reuse in ("True", "False")  # as Hydra spells them
            for n in (1, 2)
        ),
        ["system=puma", "experiment.n=1"],
        ["system=puma", "experiment.n=2"],
    ]
    early = expand_sweep(
        ["permllm.weight_bits=16,32"]
    )  # of the default system, and before it is named
    assert early == [["system.weight_bits=16"], ["system.weight_bits=32"]]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (
            ["-m", "system=permllm,puma", "mpcformer.approx=exact"],
            "mpcformer.approx: no run of this call is of system mpcformer; it has permllm, puma",
        ),
        (["mpcformer.approx=exact"], "mpcformer.approx: no run of this call"),
        (["system=mpcformer", "mpcformer.aprox=exact"], "did you mean mpcformer.approx?"),
        (["system=puma", "puma.frac=3"], "puma.frac: unknown key; allowed: approx"),
        (
            ["system=mpcformer", "mpcformer.approx=1"],
            "system.approx: got 1, must be one of quad+2quad",
        ),
        (["mpcformr.approx=exact"], "did you mean mpcformer?"),
        (
            ["-m", "system=permllm,", "puma"],
            "system: a list has no spaces: write system=permllm,puma",
        ),
        (
            ["-m", "experiment.n=1", ",2"],
            "experiment.n: a list has no spaces: write experiment.n=1,2",
        ),
    ],
)
def test_what_is_wrong_with_a_list_or_a_system_is_one_line(
    arguments: list[str], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "--dry-run", *arguments]) == 2
    errors = capsys.readouterr().err
    assert problem in errors
    assert errors.count("\n") == 1
