"""A traced run of real processes, and what replay makes of it."""

from itertools import permutations
from pathlib import Path

import numpy as np
import pytest

from harness.config.compose import compose_run
from harness.progress import make_progress
from harness.record import Record
from harness.replay import file
from harness.replay.costs import costs_of
from harness.replay.simulate import TIME, lines_of, simulate
from harness.replay.trace import SEND, Trace, sizes
from harness.session import Session
from netem.profile import LinkProfile
from protocols.party import ROLES

pytestmark = pytest.mark.slow

QUICK = ["experiment.n=300", "repeat=3", "warmup=1", "calibration.strict=false"]
UNSHAPED, SHAPED = ["shaper=none"], ["network.rtt_ms=2", "network.rate_mbit=1000"]


def ends_ns(trace: Trace) -> list[int]:
    """For each evaluation, how long after the common start its last role ended."""
    (step,) = trace.steps
    ends = [
        p.begin_ns + (p.times.before_wall + p.times.during_wall).sum(axis=1)
        for p in step.programs.values()
    ]
    return [int(end) for end in np.max(ends, axis=0) - step.start_ns]


def test_a_trace_holds_the_run_to_the_nanosecond(tmp_path: Path) -> None:
    """Its times, messages and hops are those of the record, shaped or not; without it, no file."""
    records: list[Record] = []
    with Session() as session:
        for words in ([*UNSHAPED, "trace=true"], [*SHAPED, "trace=true"], UNSHAPED):
            config = compose_run([*QUICK, *words, "system=mpcformer", f"results_dir={tmp_path}"])
            records.append(session.run(config, make_progress()))
    assert [record.status for record in records] == ["ok"] * 3
    assert len(list((tmp_path / file.FOLDER).iterdir())) == 2
    for record, shaped in zip(records[:2], (False, True), strict=True):
        trace = file.load(tmp_path, record.id)
        assert trace.shaped == shaped
        online = record.phases["online"]
        assert ends_ns(trace) == online.wall_ns
        programs = trace.steps[0].programs
        for role, counted in online.roles.items():
            for peer, sent in counted.sent.items():
                traced = sizes(programs, role, peer, SEND)  # type: ignore[arg-type]
                assert (len(traced), sum(traced)) == (sent.messages, sent.wire_bytes)
        profiles = dict.fromkeys(permutations(ROLES, 2), LinkProfile(delay_s=0.001))
        (costs,) = costs_of(trace, "cpu", 0.0)
        times = simulate(trace.steps[0], costs, lines_of([profiles]))[TIME]
        assert times.tolist() == [[online.hops * 1e6]] * 3
