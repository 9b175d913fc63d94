"""Small traces, made by hand and by parties that are threads, for tests of replay."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from harness.measure.collect_trace import collect, links_of_delays
from harness.measure.evaluation import Evaluation, JobResult
from harness.parties.trace_recorder import END, NOBODY, RECV, SEND, TraceRecorder
from harness.replay.trace import RoleTrace, Step, Times, Trace, check
from protocols.in_process_party import MemoryParty, run_parties
from protocols.party import P0, P1, Phase, Role
from protocols.system import System
from protocols.workload import Workload, steps

US, MS = 1_000, 1_000_000
PHASES: tuple[Phase, ...] = ("offline", "input", "online")
EVALUATIONS = 3  # of `traced`, the first a warm-up


def program(
    begin_ns: Sequence[int], *rows: tuple[int, int, int, list[int], list[int]]
) -> RoleTrace:
    """Rows of kind, peer, bytes, then wall and CPU µs: [before, before CPU], [during, during CPU]. Its
    steps have no names."""
    kind, peer, size = (np.array(column, np.int64) for column in list(zip(*rows, strict=True))[:3])
    table = np.array([[*before, *during] for *_, before, during in rows], np.int64) * US
    times = Times(*(np.repeat(column[None], len(begin_ns), 0) for column in table.T))
    labels = ("",) * len(rows)
    return RoleTrace(kind, peer, size, size, labels, times, np.array(begin_ns, np.int64))


def echo_trace(record_id: str, compute_us: int = 700, rounds: int = 1) -> Trace:
    """P0 sends 1 MB and waits for 8 bytes, `rounds` times; P1 computes in between, 40 % of it idle.

    P0 enters 20 µs late, P1 30. Over this machine a message takes 90 µs beyond the send's own 10.
    """
    cpu = compute_us * 6 // 10
    at_p0, at_p1 = [], []
    for i in range(rounds):
        wait = 100 - 10 + compute_us + 100
        at_p0 += [
            (SEND, 1, 1_000_000, [5, 5], [10, 10]),
            (RECV, 1, 8, [0, 0], [wait, 6]),
        ]
        first = 20 + 5 + 100 - 30
        between = 100 - 10 + 5 + 100
        at_p1 += [
            (RECV, 0, 1_000_000, [0, 0], [between if i else first, 6]),
            (SEND, 0, 8, [compute_us, cpu], [10, 10]),
        ]
    finish = (END, NOBODY, 0, [0, 0], [0, 0])
    programs: dict[Role, RoleTrace] = {
        P0: program([20 * US] * 3, *at_p0, finish),
        P1: program([30 * US] * 3, *at_p1, finish),
    }
    return check(Trace(record_id, (P0, P1), False, (Step(np.zeros(3, np.int64), programs),)))


def traced(system: type[System], workload: Workload, options: Any = None) -> tuple[Trace, int]:
    """The trace of parties as threads, and the online hops of one evaluation. That of one step has two
    more evaluations, as if over slower links."""
    options = system.Options() if options is None else options
    count = len(steps(workload))
    roles = system.roles(options)
    links = [None] * EVALUATIONS + (list(links_of_delays(roles)[:2]) if count == 1 else [])
    recorders = {role: TraceRecorder() for role in roles}

    def walk(party: MemoryParty) -> MemoryParty:
        role = system(party, workload, 7, options)
        with party.phase("prepare"):
            role.prepare()
        acts = dict(zip(PHASES, (role.offline, role.share_input, role.online), strict=True))
        with party.observed_by(recorders[party.role]):
            for step in list(range(count)) * len(links):
                for phase, act in acts.items():
                    with party.phase(phase):
                        act(step)
                role.output()
        return party

    parties = run_parties(dict.fromkeys(roles, walk))
    depths = [[c.depth for c in party.counters.of("online")] for party in parties.values()]
    hops = [max(step) for step in zip(*depths, strict=True)]
    sent: dict[Role, tuple[Tensor, ...]] = {
        role: recorder.tensors(0) for role, recorder in recorders.items()
    }
    starts: list[dict[Phase, int]] = [{"online": 0} for _ in range(count)]
    evaluations = [Evaluation(i * count, over, starts, []) for i, over in enumerate(links)]
    result = JobResult(steps(workload), 1, 0, evaluations, {}, sent)
    trace = collect(result, "0123456789abcdef", system.online_roles(options), shaped=False)
    return trace, sum(hops[-count:])
