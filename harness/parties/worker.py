"""One party's process: `python -m harness.parties.worker ROLE HOST PORT`.

It connects to the harness, then to its peers, and runs jobs until the harness closes the control
channel. If the harness dies the process ends at once.
"""
# ruff: noqa: E402 - the slow imports come after it

from harness.machine.parent_process import end_with_parent

end_with_parent()

import argparse
import gc
import os
import socket
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any, cast

from harness.errors import HandshakeError, NotAwaited, Refused
from harness.machine.resource_check import require_own
from harness.parties.control import HARNESS, VERSION, Control, Notice
from harness.parties.faults import with_fault
from harness.parties.job import Job, Shaping
from harness.parties.trace_recorder import TraceRecorder
from harness.records.environment import usable_cores
from harness.registry import system_class
from harness.transport.handshake import (
    SECRET_BYTES,
    Credentials,
    Trust,
    connect,
    listen,
)
from harness.transport.reception import connect_all
from harness.transport.socket_party import SocketParty
from harness.transport.stream import Connection
from harness.transport.tls import Identity
from netem import nic
from netem.calibrate import End, initiate, respond
from netem.emulated_link import wait_until
from netem.profile import LinkProfile
from netem.shaped_interface import ShapedInterface
from netem.tc_show import Count
from netem.tolerance import PACKETS, judge
from protocols.arith import byte_products, ring, tiles
from protocols.counters import Counters
from protocols.errors import PeerError, PeerGone, PeerTimeout
from protocols.party import ALL_ROLES, P0, Phase, Role
from protocols.system import System

AGAIN_S = 0.5  # until a party asks again whether it is wanted


class Worker:
    """A party between jobs: its control channel, its transport, its counters."""

    def __init__(
        self,
        role: Role,
        control: Control,
        party: SocketParty,
        counters: Counters,
        addresses: dict[str, str],
        one_machine: bool,
    ) -> None:
        self._role = role
        self._one_machine = one_machine
        self._addresses = addresses
        self._clock_ahead_ns = 0  # of the harness's, to which all instants refer
        self._control = control
        self._party = party
        self._counters = counters
        self._inbox: SimpleQueue[Notice] = SimpleQueue()
        self._peaks: dict[str, int] = {}
        self._shaping = Shaping()
        self._interface: ShapedInterface | None = None
        party.reporter = lambda text: control.send("stage", text=text)
        threading.Thread(target=self._listen, daemon=True).start()

    def serve(self) -> int:
        """Do what the harness asks until it says stop; returns the exit code."""
        try:
            self._serve_requests()
        except Exception as error:
            traceback.print_exc()
            text = f"{type(error).__name__}: {error}"
            self._control.send("error", reason=_reason(error), text=text)
            return 1
        return 0

    def _serve_requests(self) -> None:
        while (notice := self._inbox.get()).kind != "stop":
            if notice.kind == "clock":
                self._control.send("clock", now_ns=time.monotonic_ns())
            elif notice.kind == "clock_ahead":
                self._clock_ahead_ns = notice.fields["ns"]
            elif notice.kind == "calibrate":
                self._calibrate([(a, b) for a, b in notice.fields["pairs"]])
            elif notice.kind == "shape":
                self._shape(Shaping.from_json(notice.fields))
            elif notice.kind == "switch":
                self._switch(notice.fields["on"])
            elif notice.kind == "count":
                counted = self._interface.counters() if self._interface else {}
                interface = {to: asdict(each) for to, each in counted.items()}
                self._control.send("counted", interface=interface)
            elif notice.kind == "run":
                self._run(Job.from_json(notice.fields))

    def _listen(self) -> None:
        try:
            while True:
                self._inbox.put(self._control.recv())
        finally:
            if self._interface:
                self._interface.take_down()
            os._exit(0)  # the harness is gone: whatever this process does is for nobody

    def _shape(self, shaping: Shaping) -> None:
        if self._interface and shaping != self._shaping:
            self._interface.take_down()
            self._interface = None
        self._shaping = shaping
        self._party.shape(shaping.emulated_to(self._role), set(shaping.phases))
        if shaping.shaper == "tc" and not self._interface:
            profiles = {str(to): p for to, p in shaping.profiles_from(self._role).items()}
            self._interface = ShapedInterface.set_up(
                self._role, self._addresses, profiles, shaping.seed
            )
        self._control.send("shaped", **(self._interface.settings() if self._interface else {}))

    def _calibrate(self, pairs: list[tuple[Role, Role]]) -> None:
        """Take part in measuring the link of each pair that this role belongs to."""
        self._party.start_run()
        briefly = self._shaping.measured_briefly(pairs)
        for a, b in pairs:
            measured: dict[str, Any] = {}
            there, back = self._shaping.profile(a, b), self._shaping.profile(b, a)
            brief = (a, b) in briefly
            with self._phase("calibrate", self._barrier().fields["start_ns"]):
                if self._role == a:
                    measured = self._measure(b, there, back, brief)
                if self._role == b:
                    respond(self._end(a), there, back, brief)
            self._control.send("calibrated", **measured)

    def _measure(
        self, peer: Role, there: LinkProfile, back: LinkProfile, brief: bool
    ) -> dict[str, Any]:
        measurement = initiate(self._end(peer), there, back, brief)
        allowed = PACKETS if self._shaping.shaper == "tc" else None
        outside = judge(measurement, (there, back), allowed)
        return {"measured": measurement.to_dict(), "outside": [asdict(each) for each in outside]}

    def _end(self, peer: Role) -> End:
        send, recv = partial(self._party.send, peer), partial(self._party.recv, peer)
        return End(send, recv, self._clock_ahead_ns)

    def _run(self, job: Job) -> None:
        self._party.start_run()
        self._counters.clear()
        self._peaks.clear()
        if self._role == P0:
            self._control.send("stage", text="building the model")
        ring.warm_up()
        tiles.warm_up()
        byte_products.warm_up()
        make = system_class(job.system)
        if job.check_memory:
            require_own(self._role, make.needs(job.workload, job.options))
        gc.freeze()  # what is there now stays: no collection between evaluations looks at it
        system = make(self._party, job.workload, job.seed, job.options, job.user, job.key_seed)
        if self._one_machine:
            system.offline_threads = max(1, usable_cores() // make.offline_busy)
        if job.fault:
            system = with_fault(system, job.fault)
        before = self._interface.counters() if self._interface else {}
        recorders = [TraceRecorder()] if job.trace else []
        with self._party.observed_by(*recorders):
            while (go := self._barrier()).kind == "go":
                self._run_phase(
                    system, go.fields["phase"], go.fields["step"], go.fields["start_ns"]
                )
            system.close()
        recorded = [
            part for recorder in recorders for part in recorder.tensors(self._clock_ahead_ns)
        ]
        self._control.send("result", recorded, **self._report(), interface=self._counted(before))
        del system
        gc.collect()

    def _counted(self, before: Mapping[str, Count]) -> dict[str, Any]:
        """What the interface's queues counted since `before`, and what the protocol sent."""
        after = self._interface.counters() if self._interface else {}
        shaped = [c for c in self._counters.phases if c.phase in self._shaping.phases]
        return {
            to: asdict(count.since(before[to]))
            | {
                "wire_bytes": sum(
                    t.wire_bytes for c in shaped for r, t in c.sent.items() if r == to
                )
            }
            for to, count in after.items()
        }

    def _run_phase(self, system: System, phase: Phase, step: int, start_ns: int) -> None:
        """One phase of one step."""
        acts = {"offline": system.offline, "input": system.share_input, "online": system.online}
        gc.disable()  # a collection is no part of a protocol
        with self._phase(phase, start_ns):
            acts[phase](step) if phase in acts else system.prepare()
        gc.enable()
        if phase == "input":
            gc.collect()
        if phase == "online":
            self._control.send("output", [part.contiguous() for part in system.output()])

    def _barrier(self) -> Notice:
        """Tell the harness that this party is ready, and wait for what it says."""
        _reset_peak()
        self._control.send("ready")
        while (notice := self._inbox.get()).kind in ("switch", "shape"):
            if notice.kind == "shape":
                self._shape(Shaping.from_json(notice.fields))
                continue
            self._switch(notice.fields["on"])
        return notice

    def _switch(self, on: bool) -> None:
        if self._interface:
            self._interface.switch(on)
        self._control.send("ready")

    @contextmanager
    def _phase(self, name: Phase, start_ns: int) -> Iterator[None]:
        """All parties enter a phase at the same instant."""
        wait_until(start_ns + self._clock_ahead_ns)
        with self._party.phase(name):
            yield
        self._peaks[name] = max(self._peaks.get(name, 0), _peak_rss_bytes())

    def _report(self) -> dict[str, Any]:
        phases: dict[str, list[dict[str, Any]]] = {}
        for counts in self._counters.phases:
            sent = {to: asdict(traffic) for to, traffic in counts.sent.items()}
            phases.setdefault(counts.phase, []).append(
                {
                    "end_ns": counts.end_ns - self._clock_ahead_ns,
                    "cpu_ns": counts.cpu_ns,
                    "depth": counts.depth,
                    "sent": sent,
                }
            )
        return {"phases": phases, "peak_rss_bytes": self._peaks}


def _reason(error: Exception) -> str:
    """A peer that is lost, silent or ends a handshake is a consequence; what else a party raises is a
    cause, and so is its own refusal of a peer."""
    unmet = isinstance(error, HandshakeError) and not isinstance(error, Refused)
    if unmet or isinstance(error, PeerGone):
        return "gone"
    return "timeout" if isinstance(error, PeerTimeout) else "failed"


def _reset_peak() -> None:
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return  # the peak then covers the process's life so far


def _peak_rss_bytes() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def arrive(
    harness: tuple[str, int], me: Credentials, trust: Trust, patience_s: float
) -> Connection:
    """Connect to the harness once there is a call that wants this role. Raises HandshakeError."""
    deadline, said = time.monotonic() + patience_s, False
    while True:
        try:
            left_s = max(0.0, deadline - time.monotonic())
            return connect(harness, me, HARNESS, trust, timeout_s=left_s)
        except NotAwaited as error:
            if time.monotonic() + AGAIN_S > deadline:
                raise
            if not said:
                print(f"{me.role} waits for another call: {error}", file=sys.stderr)
            said = True
        time.sleep(AGAIN_S)


def _start(me: Credentials, host: str, port: int, secret: bytes, patience_s: float) -> Worker:
    connection = arrive((host, port), me, Trust(secret), patience_s)
    control = Control(connection)
    here = connection.sock.getsockname()[0]  # peers reach this party where the harness does
    listener = listen(here)
    control.send("hello", host=here, port=listener.getsockname()[1], version=VERSION)
    if (peers := control.recv()).kind != "peers":
        raise PeerError(f"the harness said {peers.kind}")
    try:
        return _connect_peers(me, control, listener, secret, peers.fields)
    except PeerError as error:
        control.send("error", reason=_reason(error), text=f"{type(error).__name__}: {error}")
        raise


def _trusts(role: Role, secret: bytes, peers: Mapping[str, Any]) -> dict[Role, Trust]:
    """What each peer must prove, as the harness says where it can say so in confidence."""
    others = [peer for peer in peers["addresses"] if peer != role]
    if not (pinned := peers.get("fingerprints")):
        return {peer: Trust(secret) for peer in others}
    fresh = bytes.fromhex(peers["secret"])
    return {peer: Trust(fresh, bytes.fromhex(pinned[peer])) for peer in others}


def _connect_peers(
    me: Credentials,
    control: Control,
    listener: socket.socket,
    secret: bytes,
    peers: dict[str, Any],
) -> Worker:
    """Connect with the peers that the harness names."""
    if peers["tc"]:
        nic.open_windows(nic.interface_of(listener.getsockname()[0]).name)
    addresses = {cast(Role, name): (h, p) for name, (h, p) in peers["addresses"].items()}
    trusts = _trusts(me.role, secret, peers)
    connections = connect_all(me, listener, addresses, trusts, timeout_s=peers["timeout_s"])
    listener.close()
    ring.use_threads(peers["threads"])
    counters = Counters()
    party = SocketParty(me.role, connections, peers["timeout_s"], [counters])
    control.send("connected")
    hosts: dict[str, str] = {name: host for name, (host, _) in addresses.items()}
    return Worker(me.role, control, party, counters, hosts, peers["one_machine"])


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m harness.parties.worker",
        description="One party of a run. The harness starts it, except with runner=remote.",
        epilog=f"The run's secret, {SECRET_BYTES} bytes in hex, comes from --secret-file, or else from "
        "standard input.",
    )
    parser.add_argument("role", choices=ALL_ROLES)
    parser.add_argument("host", help="where the harness listens")
    parser.add_argument("port", type=int)
    parser.add_argument("--secret-file", type=Path, help="file with the run's secret")
    parser.add_argument(
        "--wait-s", type=float, default=10.0, help="how long to try to reach the harness (10)"
    )
    parser.add_argument("--tls", action="store_true", help="of a run with transport.tls=true")
    return parser.parse_args()


def _secret(file: Path | None) -> bytes:
    """The run's secret. Raises ValueError, OSError."""
    text = file.read_text() if file else sys.stdin.readline()
    return bytes.fromhex(text.strip())


def main() -> int:
    """Run one party; every failure becomes a notice to the harness and lines on stderr."""
    args = _arguments()
    try:
        secret = _secret(args.secret_file)
        me = Credentials(args.role, Identity.fresh(args.role) if args.tls else None)
        worker = _start(me, args.host, args.port, secret, args.wait_s)
    except (ValueError, OSError, EOFError, PeerError) as error:
        print(f"{args.role} cannot join: {error}", file=sys.stderr)
        return 2
    return worker.serve()


if __name__ == "__main__":
    sys.exit(main())
