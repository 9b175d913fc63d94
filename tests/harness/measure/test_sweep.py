"""A sweep over any keys: its points, its order, where it stops, and how it goes on."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from harness.cli.compose_call import compose_call, split_arguments
from harness.cli.main import main
from harness.config.compose import compose_all
from harness.config.config_hash import config_hash
from harness.config.overrides import expand_sweep
from harness.errors import ConfigError
from harness.machine import resource_check
from harness.measure import sweep as runs
from harness.records import code_digest, store
from harness.records.record import Status
from tests.fake_session import FakeSession

SWEEP = ["run", "-m", "experiment.n=range(1,7)"]


@pytest.mark.parametrize(
    ("argument", "values"),
    [
        ("experiment.n=range(2,8,2)", ["2", "4", "6"]),
        ("experiment.n=choice(3,1)", ["3", "1"]),
        ("experiment.n=sort(3,1,2,reverse=true)", ["3", "2", "1"]),
        ("network=glob([bolt*,puma],exclude=*-lan)", ["bolt-wan", "puma"]),
        ("experiment.shape=[1,2],[3,4]", ["[1,2]", "[3,4]"]),
        ("network.rate_mbit=null,100", ["null", "100"]),
        ("system.domain=ring64,float32", ["ring64", "float32"]),
        ("experiment.prompt='a, b','c'", ["'a, b'", "'c'"]),
        ("repeat=7", ["7"]),
    ],
)
def test_points_of_one_key(argument: str, values: list[str]) -> None:
    key = argument.partition("=")[0]
    assert expand_sweep([argument]) == [[f"{key}={value}"] for value in values]


@pytest.mark.parametrize(
    ("argument", "problem"),
    [
        ("experiment.n=interval(1,5)", "interval() has no points"),
        ("network=glob(zz*)", "matches no option"),
        ("experiment.n=range(5,1)", "has no points"),
        ("sweep.order=grid,shuffled", "is a key of `permbench run` alone"),
    ],
)
def test_sweeps_without_points(argument: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        expand_sweep([argument])
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("argument", "problem"),
    [
        (
            "sweep.order=random",
            "sweep.order: got random, must be one of interleaved, grid, shuffled",
        ),
        ("sweep.oder=grid", "did you mean sweep.order?"),
        ("sweep.order=grid,shuffled", "is a sweep; a call has one value of it"),
        ("sweep.jobs=0", "sweep.jobs: got 0, must be a whole number ≥ 1"),
        ("continue_on_error=3.5", "continue_on_error: got 3.5, must be true or false"),
        ("hydra/launcher=slurm", "allowed: basic, submitit_local, submitit_slurm"),
        ("hydra.launcher.partition=cpu", "needs hydra/launcher=submitit_local or submitit_slurm"),
        ("hydra.sweep.dir=x", "only hydra/launcher and hydra.launcher"),
    ],
)
def test_bad_keys_of_a_call(argument: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compose_call([argument])
    assert problem in str(caught.value)


def test_keys_of_a_call_are_no_part_of_a_run(session: FakeSession) -> None:
    arguments = [
        "sweep.order=shuffled",
        "continue_on_error=false",
        "hydra/launcher=basic",
        "repeat=3",
    ]
    assert split_arguments(arguments) == (arguments[:3], arguments[3:])
    assert main([*SWEEP, *arguments[:3]]) == 0
    assert main(SWEEP) == 0
    assert len(session.configs) == 6


def test_a_shuffled_sweep_goes_on_in_its_order(session: FakeSession) -> None:
    assert main([*SWEEP, "sweep.order=shuffled"]) == 0
    drawn = session.sizes()
    assert sorted(map(str, drawn)) == list("123456")
    assert drawn != [1, 2, 3, 4, 5, 6]
    for record in store.load_all(Path("results/runs")):
        if record.config["experiment"]["n"] in drawn[3:]:
            store.path_of(Path("results/runs"), "argmax", record.id).unlink()
    session.configs.clear()
    assert main([*SWEEP, "sweep.order=shuffled"]) == 0
    assert session.sizes() == drawn[3:]
    assert main([*SWEEP, "sweep.order=shuffled", "sweep.seed=2", "force=true"]) == 0
    assert session.sizes()[3:] != drawn


SYSTEMS = ["run", "-m", "system=permllm,mpcformer,puma", "mpcformer.reuse_weight_masks=true,false"]
LAYERS = ["experiment=layer", "model=tiny", "experiment.q_len=1,2"]


@pytest.mark.parametrize(
    ("arguments", "together"),
    [
        ([], [["permllm", "mpcformer", "mpcformer", "puma"]] * 2),
        (["sweep.order=grid"], []),
        (["sweep.order=shuffled"], []),
        (["memory.check=false"], [["permllm", "mpcformer", "mpcformer", "puma"]] * 2),
    ],
)
def test_runs_that_differ_in_the_system_alone_take_turns(
    arguments: list[str], together: list[list[str]], session: FakeSession
) -> None:
    assert main([*SYSTEMS, *LAYERS, *arguments]) == 0
    assert session.together == together
    assert len(session.configs) == len(store.load_all(Path("results/runs"))) == 8


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "of memory, 3.00 GB are available"),
        (
            ["runner=remote", "runner.listen=127.0.0.1:18732", "runner.secret_file=s"],
            "one party for each",
        ),
        (
            ["permllm.weight_bits=16,32", "mpcformer.truncation=local,exact"],
            "21 parties, which are too many at once",
        ),
    ],
)
def test_systems_that_cannot_take_turns_say_why_and_run_one_after_another(
    arguments: list[str],
    reason: str,
    session: FakeSession,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(resource_check, "available_bytes", lambda: 3_000_000_000)
    assert main([*SYSTEMS, *LAYERS[:2], *arguments]) == 0
    assert session.together == []
    (told,) = [line for line in capsys.readouterr().err.splitlines() if "take turns" in line]
    assert reason in told


def test_of_runs_in_turns_those_that_are_stored_or_held_are_left_out(session: FakeSession) -> None:
    """And a bad one ends a sweep only once the others of its turns have been told of."""
    assert main(["run", *LAYERS[:2], "system=mpcformer"]) == 0
    session.status = lambda config: "failed" if config.system.name == "permllm" else "ok"
    three = "system=permllm,mpcformer,puma"
    assert main(["run", "-m", three, *LAYERS[:2], "continue_on_error=false"]) == 1
    assert session.together == [["permllm", "puma"]]
    statuses = {r.config["system"]["name"]: r.status for r in store.load_all(Path("results/runs"))}
    assert statuses == {"permllm": "failed", "puma": "ok", "mpcformer": "ok"}


@pytest.mark.parametrize("status", ["failed", "timeout", "incorrect"])
def test_a_sweep_may_stop_at_the_first_bad_run(
    status: Status, session: FakeSession, capsys: pytest.CaptureFixture[str]
) -> None:
    session.status = lambda config: status if "n=2" in config.title() else "ok"
    assert main([*SWEEP, "continue_on_error=false"]) == 1
    assert session.sizes() == [1, 2]
    (told,) = [line for line in capsys.readouterr().err.splitlines() if "not measured" in line]
    assert "argmax n=3 permllm" in told
    assert "and 1 more" in told
    session.status = lambda config: "ok"
    assert main([*SWEEP, "continue_on_error=false"]) == 0
    assert session.sizes() == [1, 2, 2, 3, 4, 5, 6]


def test_runs_are_told_apart_by_what_is_swept() -> None:
    configs = compose_all(expand_sweep(["network.rtt_ms=1,2", "seed=1,2", "network=puma,nexus"]))
    titles = runs.plan(configs).titles
    assert len(set(titles.values())) == len(titles) == 8
    assert titles[config_hash(configs[0])].endswith("puma emulated network.rtt_ms=1.0 seed=1")


class Edited:
    """Code as if it had been edited: another digest."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch, self._count = monkeypatch, 0

    def __call__(self) -> None:
        self._count += 1
        digest = f"{self._count:016}"
        self._monkeypatch.setattr(code_digest, "code_digest", lambda: digest)


@pytest.fixture
def edit(monkeypatch: pytest.MonkeyPatch) -> Edited:
    return Edited(monkeypatch)


def test_what_other_code_made_is_measured_again_and_kept(
    session: FakeSession, edit: Edited, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(SWEEP) == 0
    assert main(SWEEP) == 0
    assert len(session.configs) == 6
    stored = (
        "6 of 6 runs are stored already, 6 of them on another machine; force=true measures again"
    )
    assert stored in capsys.readouterr().out
    edit()
    assert main([*SWEEP[:2], "experiment.n=1,2"]) == 0
    assert session.sizes()[6:] == [1, 2]
    told = capsys.readouterr().out
    assert "2 of 2 runs: stored, but made by other code (commit unknown, 2025-01-02)" in told
    assert "measured again" in told
    assert main([*SWEEP[:2], "experiment.n=1,2"]) == 0
    assert len(session.configs) == 8
    folder = Path("results/runs")
    assert (len(store.load_current(folder)), len(store.load_all(folder))) == (6, 8)


def test_force_keeps_the_old_record(session: FakeSession) -> None:
    assert main(["run"]) == 0
    session.make_record = partial(session.make_record, wall_ns=[7])
    assert main(["run", "force=true"]) == 0
    records = store.load_all(Path("results/runs"))
    assert sorted(r.phases["online"].wall_ns[0] for r in records) == [7, 30_000_000]
    (last,) = store.load_current(Path("results/runs"))
    assert last.phases["online"].wall_ns == [7]


@pytest.mark.parametrize(
    "argument", ["timeout_s=5", "calibration.strict=false", "calibration.max_age_s=0"]
)
def test_keys_that_cannot_change_a_number_are_no_other_run(
    argument: str, session: FakeSession
) -> None:
    assert main(["run"]) == main(["run", argument]) == 0
    assert len(session.configs) == 1


def test_a_strict_run_does_not_take_a_link_outside_tolerance(
    session: FakeSession, capsys: pytest.CaptureFixture[str]
) -> None:
    make = session.make_record
    off = replace(make().network, within_tolerance=False)
    session.make_record = lambda **given: replace(make(**given), network=off)
    assert main(["run", "calibration.strict=false"]) == 0
    assert main(["run", "calibration.strict=false"]) == 0
    assert len(session.configs) == 1
    session.make_record = make
    assert main(["run"]) == 0
    assert len(session.configs) == 2
    assert "stored, but over a link outside tolerance" in capsys.readouterr().out
    assert main(["run", "calibration.strict=false"]) == 0
    assert len(session.configs) == 2
