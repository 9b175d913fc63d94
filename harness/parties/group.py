"""The parties of a run: start them, talk to them, watch them, and leave none behind."""

import secrets
import selectors
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import chain
from typing import Any

from harness.errors import FrameError, PartyFailure, Refused, RunnerError
from harness.machine.interrupts import deferred
from harness.parties import notice_checks as checks
from harness.parties.control import HARNESS, TEXT_BYTES, Control, Notice, readable
from harness.parties.job import Shaping
from harness.parties.link_check import Calibration
from harness.runners.base import HarnessAddress, Runner, RunningParty
from harness.transport.handshake import SECRET_BYTES, Credentials, Trust, listen
from harness.transport.reception import Reception
from harness.transport.stream import Connection
from harness.transport.tls import Identity
from protocols.party import Phase, Role

ONE_SECRET = (
    "one secret for all roles lets any party join as another: give one for each role, P0's first, "
    "or say runner.shared_secret=true where one operator runs all parties"
)
LOG_LINES = 40
ERROR_CHARACTERS = 4000
RANKS = {"failed": 0, "timeout": 2, "gone": 3}  # of a party's reasons, causes first
POLL_S = 0.2
GRACE_S = 0.05  # to end by themselves
CLOCK_PINGS = 15
SETTLE_S = 1.0  # after a first failure, how long the others may still report theirs
CAUSE_S = 5.0  # the same while all that was reported are lost peers
LEAD_NS = 1_000_000  # for each party, from the go to the common start: it reaches all in time


class PartyGroup:
    """One party per role, placed by `runner`, connected to each other and to the harness.

    roles: those of the runner. threads: of compute, per party. timeout_s: longest silence. tls: on
    every connection. Raises PartyFailure from any call once a party has failed; the group is then of no
    more use. The group opens and closes the runner.
    """

    def __init__(self, runner: Runner, threads: int, timeout_s: float, tls: bool = False) -> None:
        self.threads, self.timeout_s = threads, timeout_s
        self._me = Credentials(HARNESS, Identity.fresh(HARNESS) if tls else None)
        self.roles = runner.roles
        self.logs: dict[Role, deque[str]] = {role: deque(maxlen=LOG_LINES) for role in self.roles}
        self.clock_offsets_ns: dict[Role, int] = {}
        self._runner = runner
        self.calibration: Calibration | None = None  # of the links as they are shaped now
        self._shaping = Shaping()
        self._interfaces_on = False
        self._running: dict[Role, RunningParty] = {}
        self._controls: dict[Role, Control] = {}
        self._selector = selectors.DefaultSelector()
        self._readers: list[threading.Thread] = []
        self._early: list[tuple[Role, Notice]] = []

    def start(self) -> None:
        """Start and connect all parties. Raises RunnerError, PartyFailure; `close` is needed all
        the same."""
        trusts = {role: Trust(secret) for role, secret in self._secrets().items()}
        with deferred():
            self._runner.open()
        with self._listener() as listener:
            address = self._runner.host, listener.getsockname()[1]
            for role in self.roles:
                harness = HarnessAddress(*address, trusts[role].secret.hex(), self._tls)
                with deferred():
                    self._running[role] = self._launch(role, harness)
            self._accept(listener, trusts)
        hello = self.gather("hello")
        addresses = {role: checks.address(role, notice.fields) for role, notice in hello.items()}
        common = {"threads": self.threads, "timeout_s": self.timeout_s, "tc": self._runner.tc}
        common |= {"one_machine": self._runner.one_machine} | self._introductions()
        for role in self._controls:
            self.send(role, "peers", addresses=self._runner.addresses(role, addresses), **common)
        self.gather("connected")

    @property
    def _tls(self) -> bool:
        return self._me.identity is not None

    def _secrets(self) -> Mapping[Role, bytes]:
        """What each party proves itself by: with TLS each has a secret of its own, where nobody has
        given them one for all. Raises RunnerError."""
        if (given := self._runner.secrets) is not None:
            several = len(set(given.values())) > 1
            if several and not self._tls:
                raise RunnerError("a secret for each role needs transport.tls=true")
            if self._tls and not several and not self._runner.shared_secret:
                raise RunnerError(ONE_SECRET)
            return given
        if self._tls:
            return {role: secrets.token_bytes(SECRET_BYTES) for role in self.roles}
        return dict.fromkeys(self.roles, secrets.token_bytes(SECRET_BYTES))

    def _introductions(self) -> dict[str, Any]:
        """With TLS, what the parties know each other by: the certificate that each has shown here, and
        a fresh secret."""
        if not self._tls:
            return {}
        shown = {role: control.fingerprint or b"" for role, control in self._controls.items()}
        fingerprints = {role: fingerprint.hex() for role, fingerprint in shown.items()}
        return {"fingerprints": fingerprints, "secret": secrets.token_hex(SECRET_BYTES)}

    def _listener(self) -> socket.socket:
        """Where parties find the harness. Raises RunnerError."""
        host, port = self._runner.host, self._runner.port
        try:
            return listen(host, port)
        except OSError as error:
            raise RunnerError(f"cannot listen at {host}:{port}: {error.strerror}") from None

    def compare_clocks(self) -> None:
        """How far each party's CLOCK_MONOTONIC is ahead of the harness's; 0 where it is the same.

        Of several exchanges the fastest one counts; it leaves an error of at most half its time. Clocks
        of hosts drift apart, by some 10 µs a second: to be called before each run.
        """
        for role in self._controls:
            best_ns, offset_ns = 1 << 62, 0
            for _ in range(CLOCK_PINGS):
                begin_ns = time.monotonic_ns()
                self.send(role, "clock")
                notice = self._reply(role, "clock")
                took_ns = time.monotonic_ns() - begin_ns
                if took_ns < best_ns:
                    best_ns = took_ns
                    now_ns = checks.integer(role, notice.fields, "now_ns")
                    offset_ns = now_ns - begin_ns - took_ns // 2
            self.clock_offsets_ns[role] = offset_ns if abs(offset_ns) > best_ns else 0
            self.send(role, "clock_ahead", ns=self.clock_offsets_ns[role])

    def go(self, phase: Phase, step: int = 0) -> int:
        """Let all parties, which are ready, begin a phase at one instant of the harness's clock.

        Returns that instant. Raises PartyFailure.
        """
        self._switch_interfaces(phase in self._shaping.phases)
        start_ns = time.monotonic_ns() + LEAD_NS * len(self.roles)
        self.send_all("go", phase=phase, step=step, start_ns=start_ns)
        return start_ns

    def shape(self, shaping: Shaping) -> dict[Role, dict[str, Any]]:
        """Shape the links from now on; returns what each party set its interface to (tc only)."""
        if shaping != self._shaping:
            self.calibration = None
        self.send_all("shape", **shaping.to_json())
        self._shaping, self._interfaces_on = shaping, False
        return {role: notice.fields for role, notice in self.gather("shaped").items()}

    @contextmanager
    def relinked(self, links: Shaping | None) -> Iterator[None]:
        """With other links inside, between evaluations of a job; None: with those that there are."""
        if links is None:
            yield
            return
        before, calibration = self._shaping, self.calibration
        self.shape(links)
        yield
        self.shape(before)
        self.calibration = calibration

    def _switch_interfaces(self, on: bool) -> None:
        """Kernel links do not know phases: parties, which are ready, switch them between phases."""
        if self._shaping.shaper == "tc" and on != self._interfaces_on:
            self.switch(on)

    def calibrate(
        self, pairs: Sequence[tuple[Role, Role]]
    ) -> dict[tuple[Role, Role], dict[str, Any]]:
        """Measure the links of `pairs`, one after the other, as they are shaped now.

        For each: `measured`, and `outside`, in what it is not what its profile says (`Deviation`).
        """
        self.send_all("calibrate", pairs=pairs)
        measured = {}
        for pair in pairs:
            self.gather("ready")
            self.go("calibrate")
            notices = self.gather("calibrated")
            measured[pair] = notices[pair[0]].fields
            checks.check_calibrated(pair[0], measured[pair])
        return measured

    def switch(self, on: bool) -> None:
        """Between jobs: kernel links as they were shaped, or at full speed."""
        self._interfaces_on = on
        self.send_all("switch", on=on)
        self.gather("ready")

    def count(self) -> dict[Role, dict[str, dict[str, int]]]:
        """Between jobs: what each party's interface has counted so far, by receiving role."""
        self.send_all("count")
        notices = self.gather("counted")
        return {role: checks.counted(role, notice.fields) for role, notice in notices.items()}

    @property
    def runner(self) -> Runner:
        """Where the parties live."""
        return self._runner

    @property
    def image(self) -> str | None:
        """The container image of the parties; None for processes."""
        return self._runner.image

    def send(self, role: Role, kind: str, **fields: Any) -> None:
        """Send one notice to one party."""
        with suppress(OSError):  # a dead party is reported by what it last said
            self._controls[role].send(kind, **fields)

    def send_all(self, kind: str, **fields: Any) -> None:
        """Send one notice to every party."""
        for role in self._controls:
            self.send(role, kind, **fields)

    def gather(
        self,
        kind: str,
        on_stage: Callable[[str], None] = lambda _: None,
        text_bytes: int = TEXT_BYTES,
    ) -> dict[Role, Notice]:
        """One notice of `kind`, with at most so much JSON, from each party. Raises PartyFailure."""
        for control in self._controls.values():
            control.text_bytes = text_bytes
        found: dict[Role, Notice] = {}
        early, self._early = self._early, []
        for role, notice in chain(early, self._notices(on_stage)):
            if role in found:
                self._early.append((role, notice))  # a fast party's next report
            elif notice.kind != kind:
                raise _unexpected(role, notice, kind)
            else:
                found[role] = notice
            if len(found) == len(self._controls):
                break
        return {role: found[role] for role in self.roles}

    def _reply(self, role: Role, kind: str) -> Notice:
        """The next notice, which is to be one party's answer of that kind. Raises PartyFailure."""
        sender, notice = next(self._notices(lambda _: None))
        if (sender, notice.kind) != (role, kind):
            raise _unexpected(sender, notice, kind)
        return notice

    def _notices(self, on_stage: Callable[[str], None]) -> Iterator[tuple[Role, Notice]]:
        """Notices as they come, stages and failures apart. Raises PartyFailure."""
        while True:
            role, notice = self._next(self.timeout_s)
            if notice is None or notice.kind == "error":
                raise self._failure(role, notice)
            if notice.kind == "stage":
                on_stage(checks.text_of(notice.fields))
                continue
            yield role, notice

    @deferred()
    def close(self) -> None:
        """End every process, at once and for certain."""
        self.send_all("stop")
        for place in self._running.values():
            place.exit_code(GRACE_S)
            place.kill()
        for control in self._controls.values():
            control.close()
        for reader in self._readers:
            reader.join(1.0)
        self._controls = {}
        self._selector.close()
        self._runner.close()

    def pids(self) -> dict[Role, int | None]:
        """Process ids, for tests and for looking at parties from outside."""
        return {role: place.pid for role, place in self._running.items()}

    def _launch(self, role: Role, harness: HarnessAddress) -> RunningParty:
        place = self._runner.launch(role, harness, kernel_environment(self.threads))
        reader = threading.Thread(target=self._keep_log, args=(role, place), daemon=True)
        reader.start()
        self._readers.append(reader)
        return place

    def _keep_log(self, role: Role, place: RunningParty) -> None:
        for line in place.lines():
            self.logs[role].append(readable(line))

    def _accept(self, listener: socket.socket, trusts: Mapping[Role, Trust]) -> None:
        patience_s = self._runner.start_timeout_s
        deadline = time.monotonic() + patience_s
        with Reception(listener, self._me, trusts) as reception:
            while missing := [role for role in self.roles if role not in self._controls]:
                why = f" ({reception.last})" if reception.last else ""  # a stranger
                dead = [role for role in missing if self._running[role].exit_code() is not None]
                if dead:
                    failure = self._failure(dead[0], None)
                    raise PartyFailure(f"{failure}{why}", failure.timed_out)
                if time.monotonic() > deadline:
                    raise PartyFailure(f"{missing[0]} did not start in {patience_s:g} s{why}", True)
                try:
                    arrival = reception.next(POLL_S)
                except Refused as error:
                    raise PartyFailure(str(error)) from None
                if arrival is not None:
                    self._add(*arrival)

    def _add(self, role: Role, connection: Connection) -> None:
        self._controls[role] = control = Control(connection, self.timeout_s)
        self._selector.register(control.fileno(), selectors.EVENT_READ, role)

    def _next(self, timeout_s: float) -> tuple[Role, Notice | None]:
        """The next notice of any party, or None where its connection has ended."""
        for role, control in self._controls.items():
            if control.pending:
                return role, self._read(role)
        events = self._selector.select(timeout_s)
        if not events:
            raise PartyFailure(f"no party reported anything for {timeout_s:g} s", timed_out=True)
        role = events[0][0].data
        return role, self._read(role)

    def _read(self, role: Role) -> Notice | None:
        try:
            return self._controls[role].recv()
        except TimeoutError:
            raise PartyFailure(f"{role} stopped in the middle of a report", True) from None
        except (FrameError, ValueError) as error:
            text = f"{role} is of another version of permbench, or no party at all: {error}"
            raise PartyFailure(text) from None
        except (OSError, EOFError):
            with suppress(KeyError):
                self._selector.unregister(self._controls[role].fileno())
            return None

    def _failure(self, role: Role, notice: Notice | None) -> PartyFailure:
        """The cause, once the others had a moment to report: a death or an error of its own comes
        before a lost peer, which is only its consequence."""
        explained = {role: self._explain(role, notice)}
        begin = time.monotonic()
        while len(explained) < len(self._controls):
            only_lost = min(rank for rank, _ in explained.values()) == RANKS["gone"]
            left_s = begin + (CAUSE_S if only_lost else SETTLE_S) - time.monotonic()
            if left_s <= 0:
                break
            try:
                role, notice = self._next(left_s)
            except PartyFailure:
                break
            if role not in explained and (notice is None or notice.kind == "error"):
                explained[role] = self._explain(role, notice)
        return min(explained.values(), key=lambda f: f[0])[1]

    def _explain(self, role: Role, notice: Notice | None) -> tuple[int, PartyFailure]:
        if notice is not None:
            reason = checks.text_of(notice.fields, "reason")
            text = f"{role}: {checks.text_of(notice.fields, most=ERROR_CHARACTERS)}"
            return RANKS.get(reason, 0), PartyFailure(text, timed_out=reason == "timeout")
        code = self._running[role].exit_code(SETTLE_S)
        how = "closed its control channel" if code is None else exit_text(code)
        return 1, PartyFailure(f"{role} {how}")


def _unexpected(role: Role, notice: Notice, kind: str) -> PartyFailure:
    return PartyFailure(f"{role} sent {notice.kind[: checks.SHORT]!r} where {kind!r} was expected")


def exit_text(code: int) -> str:
    """How a process ended (−N: by signal N)."""
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"exited with code {code}"


def kernel_environment(threads: int) -> dict[str, str]:
    """Environment of a party: its number of threads, huge pages, and full vector width for numba
    (compilers halve it by default, which halves the speed of 64-bit products)."""
    import llvmlite.binding as llvm  # noqa: PLC0415 - slow to import, and only needed here

    features = f"{llvm.get_host_cpu_features().flatten()},-prefer-256-bit"
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "GOMAXPROCS")
    counts = dict.fromkeys(names, str(threads))
    return counts | {
        "THP_MEM_ALLOC_ENABLE": "1",
        "NUMBA_CPU_NAME": llvm.get_host_cpu_name(),
        "NUMBA_CPU_FEATURES": features,
        "PYTHONUNBUFFERED": "1",
    }
