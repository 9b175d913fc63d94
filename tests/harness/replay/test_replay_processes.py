"""A traced run of real processes, and what replay makes of it."""

from itertools import permutations
from pathlib import Path

import numpy as np
import pytest

from harness.config.compose import compose_run
from harness.measure.collect_trace import DELAYS_S
from harness.measure.run import EVALUATIONS_PER_DELAY
from harness.measure.session import Session
from harness.parties.trace_recorder import RECV, SEND
from harness.progress import make_progress
from harness.records.record import Record
from harness.replay import trace_file as file
from harness.replay.compute_times import costs_of, delayed_costs
from harness.replay.simulate import TIME, links_of, simulate
from harness.replay.trace import Step, sizes
from netem.profile import LinkProfile
from protocols.party import ROLES

pytestmark = pytest.mark.slow

QUICK = [
    "experiment.n=300",
    "repeat=3",
    "warmup=1",
    "calibration.strict=false",
    "calibration.patience_s=0",
]
UNSHAPED, SHAPED = ["shaper=none"], ["network.rtt_ms=2", "network.rate_mbit=1000"]


def ends_ns(step: Step) -> list[int]:
    """For each evaluation, how long after the common start its last role ended."""
    ends = [
        p.begin_ns + (p.times.before_wall + p.times.during_wall).sum(axis=1)
        for p in step.roles.values()
    ]
    return [int(end) for end in np.max(ends, axis=0) - step.start_ns]


def waits_ms(step: Step) -> float:
    """What P0's receives took, in the middle of the evaluations."""
    program = step.roles["P0"]
    waits = program.times.during_wall[:, program.kind == RECV].sum(axis=1)
    return float(np.median(waits)) / 1e6


@pytest.mark.parametrize(("repeat", "each"), [(1, 1), (4, EVALUATIONS_PER_DELAY)])
def test_a_traced_run_is_walked_after_waits_too(tmp_path: Path, repeat: int, each: int) -> None:
    """4 hops, of which P0 waits for 2: over each slower link for twice its delay and more."""
    keys = [text for text in QUICK if not text.startswith("repeat=")]
    config = compose_run(
        [*keys, *UNSHAPED, f"repeat={repeat}", "trace=true", f"results_dir={tmp_path}"]
    )
    with Session() as session:
        record = session.run(config, make_progress())
    assert len(record.phases["online"].wall_ns) == repeat
    trace = file.load(tmp_path, record.id)
    assert [delayed_step.delay_s for delayed_step in trace.delayed] == list(DELAYS_S)
    for delayed_step in trace.delayed:
        assert len(delayed_step.step.start_ns) == each
        assert waits_ms(delayed_step.step) > 3 * delayed_step.delay_s * 1e3
    assert waits_ms(trace.steps[0]) < waits_ms(trace.delayed[-1].step) / 2


def test_a_walk_over_its_own_links_takes_what_it_took(tmp_path: Path) -> None:
    """What a walk says of its parties is all that there is beyond the delay."""
    arguments = [*QUICK, *UNSHAPED, "trace=true", "system=mpcformer", f"results_dir={tmp_path}"]
    with Session() as session:
        record = session.run(compose_run(arguments), make_progress())
    trace = file.load(tmp_path, record.id)
    for delayed_step in trace.delayed:
        links = dict.fromkeys(permutations(ROLES, 2), LinkProfile(delay_s=delayed_step.delay_s))
        costs = delayed_costs(delayed_step, trace.steps[0], "wall", 1.0)
        times = simulate(delayed_step.step, costs, links_of([links]))[TIME][:, 0]
        assert times == pytest.approx(ends_ns(delayed_step.step), rel=0.03)


def test_runs_in_turns_are_those_that_they_are_alone(tmp_path: Path) -> None:
    """Each over its own links, with its own samples; one whose link cannot be had is left out."""
    here = [*QUICK, f"results_dir={tmp_path}"]
    networks = (["network.rtt_ms=30"], ["network.rtt_ms=8"], ["network.rate_mbit=1000000"])
    traced = compose_run([*here, *UNSHAPED, "trace=true"])
    shaped = [compose_run([*here, *arguments]) for arguments in networks[:2]]
    refused = compose_run([*here, *networks[2], "calibration.strict=true"])
    with Session() as session:
        records = session.run_interleaved([traced, *shaped, refused], make_progress())
        alone = session.run(shaped[1], make_progress())
    assert [record.status for record in records] == ["ok", "ok", "ok", "failed"]
    assert "link outside tolerance" in str(records[3].error)
    online = [record.phases["online"] for record in records[:3]]
    assert [len(phase.wall_ns) for phase in online] == [3, 3, 3]
    assert max(online[0].wall_ns) < min(online[1].wall_ns)
    assert min(online[1].wall_ns) >= 4 * 15e6
    assert 4 * 4e6 <= min(online[2].wall_ns) < 4 * 15e6
    assert records[2].id == alone.id
    assert online[2].hops == alone.phases["online"].hops
    assert online[2].roles["P0"].sent == alone.phases["online"].roles["P0"].sent
    trace = file.load(tmp_path, records[0].id)
    assert ends_ns(trace.steps[0]) == online[0].wall_ns
    for delayed_step in trace.delayed:
        assert waits_ms(delayed_step.step) > 3 * delayed_step.delay_s * 1e3


def test_a_trace_holds_the_run_to_the_nanosecond(tmp_path: Path) -> None:
    """Its times, messages and hops are those of the record, shaped or not; without it, no file."""
    records: list[Record] = []
    with Session() as session:
        for arguments in ([*UNSHAPED, "trace=true"], [*SHAPED, "trace=true"], UNSHAPED):
            config = compose_run(
                [*QUICK, *arguments, "system=mpcformer", f"results_dir={tmp_path}"]
            )
            records.append(session.run(config, make_progress()))
    assert [record.status for record in records] == ["ok"] * 3
    assert len(list((tmp_path / file.FOLDER).iterdir())) == 2
    for record, shaped in zip(records[:2], (False, True), strict=True):
        trace = file.load(tmp_path, record.id)
        assert trace.shaped == shaped
        assert len(trace.delayed) == (0 if shaped else len(DELAYS_S))
        online = record.phases["online"]
        assert ends_ns(trace.steps[0]) == online.wall_ns
        programs = trace.steps[0].roles
        for role, counted in online.roles.items():
            for peer, sent in counted.sent.items():
                traced = sizes(programs, role, peer, SEND)  # type: ignore[arg-type]
                assert (len(traced), sum(traced)) == (sent.messages, sent.wire_bytes)
        profiles = dict.fromkeys(permutations(ROLES, 2), LinkProfile(delay_s=0.001))
        (costs,) = costs_of(trace, "cpu", 0.0)
        times = simulate(trace.steps[0], costs, links_of([profiles]))[TIME]
        assert times.tolist() == [[(online.hops or 0) * 1e6]] * 3
