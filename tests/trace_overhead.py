"""What `trace=true` costs: `python -m tests.trace_overhead [KEY=VALUE …]`, with the keys of `permbench run`;
without any where it costs most for each message, an argmax under MPCFormer.

The same three processes, connected as a run's parties are, evaluate in turns with and without a recorder, so
that what two sets of parties differ by for as long as they live is in both. Nothing is shaped. Prints the
ratios of online times and of the processor time that all three took.
"""

import gc
import multiprocessing
import os
import socket
import sys
import time
from collections.abc import Mapping
from multiprocessing.connection import Connection

from harness.config.compose import compose_run
from harness.parties.trace_recorder import TraceRecorder
from harness.records.ratio import paired
from harness.registry import system_class
from harness.transport import Credentials, SocketParty, Trust, connect_all, listen
from protocols.arith import ring
from protocols.counters import Counters
from protocols.party import P1, ROLES, Role
from protocols.workload import steps

WORDS = ("experiment=argmax", "experiment.n=10000", "system=mpcformer")
PAIRS, WARMUP = 300, 5  # of evaluations
SECRET = os.urandom(32)


def traced(number: int) -> bool:
    """Whether that evaluation is: of each pair one, in turns the first and the second."""
    return number % 4 in (1, 2)


def live(
    role: Role,
    listener: socket.socket,
    addresses: Mapping[Role, tuple[str, int]],
    secret: bytes,
    arguments: list[str],
    out: Connection,
) -> None:
    """One party: when it began and ended the online phase of each evaluation, and its processor time."""
    config = compose_run(arguments or WORDS)
    ring.use_threads(config.threads)
    workload = config.workload()
    (step,) = range(len(steps(workload)))
    recorder, spans = TraceRecorder(), []
    trusts = {peer: Trust(secret) for peer in ROLES if peer != role}
    connections = connect_all(Credentials(role), listener, addresses, trusts)
    with SocketParty(role, connections, 60, [Counters()]) as party:
        make = system_class(config.system.name)
        user = config.experiment.user() if role == P1 else None
        system = make(party, workload, config.seed, config.system.options(), user)
        with party.phase("prepare"):
            system.prepare()
        gc.freeze()
        gc.disable()  # a collection is no part of a protocol
        for number in range(2 * (WARMUP + PAIRS)):
            with party.observed_by(*([recorder] if traced(number) else [])):
                with party.phase("offline"):
                    system.offline(step)
                with party.phase("input"):
                    system.share_input(step)
                with party.phase("calibrate"):
                    for peer in ROLES:
                        if peer != role:
                            party.exchange(peer)  # all are here
                with party.phase("online"):
                    begin = time.monotonic_ns(), time.process_time_ns()
                    system.online(step)
                    cpu_ns = time.process_time_ns() - begin[1]
                    spans.append((begin[0], time.monotonic_ns(), cpu_ns))
            system.output()
            gc.collect()
    out.send(spans)


def main(arguments: list[str]) -> None:
    """Measure and print."""
    listeners = {role: listen() for role in ROLES}
    addresses = {role: listener.getsockname() for role, listener in listeners.items()}
    context = multiprocessing.get_context("spawn")
    connections: list[Connection] = []
    for role, listener in listeners.items():
        ours, theirs = context.Pipe()
        given = (role, listener, addresses, SECRET, arguments, theirs)
        context.Process(target=live, args=given, daemon=True).start()
        theirs.close()
        connections.append(ours)
    spans = list(zip(*(ours.recv() for ours in connections), strict=True))
    wall = [max(end for _, end, _ in one) - max(begin for begin, *_ in one) for one in spans]
    cpu = [sum(cpu_ns for *_, cpu_ns in one) for one in spans]
    for name, took in (("online time", wall), ("processor time", cpu)):
        parts = [[ns for i, ns in enumerate(took) if traced(i) == which] for which in (False, True)]
        without, with_trace = (part[WARMUP:] for part in parts)
        print(f"{name}, traced / not traced: {paired(without, with_trace)}, {PAIRS} pairs")


if __name__ == "__main__":
    if "--help" in sys.argv:
        print(__doc__, end="")
    else:
        main(sys.argv[1:])
