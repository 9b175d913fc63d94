"""The parties of a run: start them, talk to them, watch them, and leave none behind."""

import secrets
import select
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

from harness.errors import FrameError, HandshakeError, PartyFailure, Refused, RunnerError
from harness.parties.control import HARNESS, VERSION, Control, Notice
from harness.parties.job import Shaping
from harness.parties.link_check import Calibration
from harness.runners.base import HarnessAddress, Runner, RunningParty
from harness.transport.handshake import SECRET_BYTES, Credentials, Trust, answer, listen
from harness.transport.tls import Identity
from protocols.party import ROLES, Phase, Role

ONE_SECRET = (
    "one secret for all roles lets any party join as another: give three, one each for P0, P1 and P2, "
    "or say runner.shared_secret=true where one operator runs all parties"
)
LOG_LINES = 40
HANDSHAKE_S = 5.0
POLL_S = 0.2
GRACE_S = 0.05  # to end by themselves
CLOCK_PINGS = 15
SETTLE_S = 1.0  # after a first failure, how long the others may still report theirs
LEAD_NS = 3_000_000  # from the go to the common start, so that it reaches every party in time


class PartyGroup:
    """One party per role, placed by `runner`, connected to each other and to the harness.

    threads: of compute, per party. timeout_s: longest silence. tls: on every connection. Raises
    PartyFailure from any call once a party has failed; the group is then of no more use. The group
    opens and closes the runner.
    """

    def __init__(self, runner: Runner, threads: int, timeout_s: float, tls: bool = False) -> None:
        self.threads, self.timeout_s = threads, timeout_s
        self._me = Credentials(HARNESS, Identity.fresh(HARNESS) if tls else None)
        self.logs: dict[Role, deque[str]] = {role: deque(maxlen=LOG_LINES) for role in ROLES}
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
        self._runner.open()
        with self._listener() as listener:
            address = self._runner.host, listener.getsockname()[1]
            for role in ROLES:
                harness = HarnessAddress(*address, trusts[role].secret.hex(), self._tls)
                self._running[role] = self._launch(role, harness)
            self._accept(listener, trusts)
        hello = self.gather("hello")
        for role, notice in hello.items():
            if (found := notice.fields.get("version")) != VERSION:
                text = f"{role} is of another version of permbench (control channel {found}"
                raise PartyFailure(f"{text}, the harness's {VERSION})")
        addresses = {role: (n.fields["host"], n.fields["port"]) for role, n in hello.items()}
        self.send_all(
            "peers",
            addresses=addresses,
            threads=self.threads,
            timeout_s=self.timeout_s,
            tc=self._runner.tc,
            **self._introductions(),
        )
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
            return {role: secrets.token_bytes(SECRET_BYTES) for role in ROLES}
        return dict.fromkeys(ROLES, secrets.token_bytes(SECRET_BYTES))

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
                _, notice = next(self._notices(lambda _: None))
                took_ns = time.monotonic_ns() - begin_ns
                if took_ns < best_ns:
                    best_ns = took_ns
                    offset_ns = notice.fields["now_ns"] - begin_ns - took_ns // 2
            self.clock_offsets_ns[role] = offset_ns if abs(offset_ns) > best_ns else 0
            self.send(role, "clock_ahead", ns=self.clock_offsets_ns[role])

    def go(self, phase: Phase, step: int = 0) -> int:
        """Let all parties, which are ready, begin a phase at one instant of the harness's clock.

        Returns that instant. Raises PartyFailure.
        """
        self._switch_interfaces(phase in self._shaping.phases)
        start_ns = time.monotonic_ns() + LEAD_NS
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
            self._interfaces_on = on
            self.send_all("switch", on=on)
            self.gather("ready")

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
        return measured

    @property
    def image(self) -> str | None:
        """The container image of the parties; None for processes."""
        return self._runner.image

    @property
    def roles(self) -> tuple[Role, ...]:
        """The roles that take part."""
        return tuple(self._controls)

    def send(self, role: Role, kind: str, **fields: Any) -> None:
        """Send one notice to one party."""
        with suppress(OSError):  # a dead party is reported by what it last said
            self._controls[role].send(kind, **fields)

    def send_all(self, kind: str, **fields: Any) -> None:
        """Send one notice to every party."""
        for role in self._controls:
            self.send(role, kind, **fields)

    def gather(
        self, kind: str, on_stage: Callable[[str], None] = lambda _: None
    ) -> dict[Role, Notice]:
        """One notice of `kind` from each party. Raises PartyFailure."""
        found: dict[Role, Notice] = {}
        early, self._early = self._early, []
        for role, notice in chain(early, self._notices(on_stage)):
            if role in found:
                self._early.append((role, notice))  # a fast party's next report
            elif notice.kind != kind:
                raise PartyFailure(f"{role} sent {notice.kind!r} where {kind!r} was expected")
            else:
                found[role] = notice
            if len(found) == len(self._controls):
                break
        return found

    def _notices(self, on_stage: Callable[[str], None]) -> Iterator[tuple[Role, Notice]]:
        """Notices as they come, stages and failures apart. Raises PartyFailure."""
        while True:
            role, notice = self._next(self.timeout_s)
            if notice is None or notice.kind == "error":
                raise self._failure(role, notice)
            if notice.kind == "stage":
                on_stage(notice.fields["text"])
                continue
            yield role, notice

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
            self.logs[role].append(line)

    def _accept(self, listener: Any, trusts: Mapping[Role, Trust]) -> None:
        patience_s, why = self._runner.start_timeout_s, ""
        deadline = time.monotonic() + patience_s
        while missing := [role for role in ROLES if role not in self._controls]:
            dead = [role for role in missing if self._running[role].exit_code() is not None]
            if dead:
                failure = self._failure(dead[0], None)
                raise PartyFailure(f"{failure}{why}", failure.timed_out)
            if time.monotonic() > deadline:
                raise PartyFailure(f"{missing[0]} did not start in {patience_s:g} s{why}", True)
            if not select.select([listener], [], [], POLL_S)[0]:
                continue
            expected = {role: trusts[role] for role in missing}
            try:
                until = time.monotonic() + HANDSHAKE_S
                role, connection = answer(listener, self._me, expected, until)
            except Refused as error:
                raise PartyFailure(str(error)) from None
            except HandshakeError as error:  # a stranger
                why = f" ({error})"
                continue
            connection.sock.settimeout(self.timeout_s)
            self._controls[role] = control = Control(connection)
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
        reports = {role: notice}
        deadline = time.monotonic() + SETTLE_S
        while len(reports) < len(self._controls) and time.monotonic() < deadline:
            try:
                role, notice = self._next(deadline - time.monotonic())
            except PartyFailure:
                break
            if notice is None or notice.kind == "error":
                reports.setdefault(role, notice)
        return min((self._explain(r, n) for r, n in reports.items()), key=lambda f: f[0])[1]

    def _explain(self, role: Role, notice: Notice | None) -> tuple[int, PartyFailure]:
        if notice is not None:
            reason = notice.fields["reason"]
            rank = {"failed": 0, "timeout": 2, "gone": 3}[reason]
            text = f"{role}: {notice.fields['text']}"
            return rank, PartyFailure(text, timed_out=reason == "timeout")
        code = self._running[role].exit_code(SETTLE_S)
        how = "closed its control channel" if code is None else _exit_text(code)
        return 1, PartyFailure(f"{role} {how}")


def _exit_text(code: int) -> str:
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"exited with code {code}"


def kernel_environment(threads: int) -> dict[str, str]:
    """Environment of a party: its number of threads, huge pages, and full vector width for numba
    (compilers halve it by default, which halves the speed of 64-bit products)."""
    import llvmlite.binding as llvm  # noqa: PLC0415 - slow to import, and only needed here

    features = f"{llvm.get_host_cpu_features().flatten()},-prefer-256-bit"
    counts = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
    return counts | {
        "THP_MEM_ALLOC_ENABLE": "1",
        "NUMBA_CPU_NAME": llvm.get_host_cpu_name(),
        "NUMBA_CPU_FEATURES": features,
        "PYTHONUNBUFFERED": "1",
    }
