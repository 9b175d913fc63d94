"""The TCP proxy of one pair of roles, in a process of its own: started, told what to do, ended."""

import json
import select
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from netem.profile import LinkProfile

ANSWER_S = 10.0  # for one command, on a busy machine


@dataclass(frozen=True)
class Entered:
    """What has entered one direction: bytes of TCP's payload, and bursts of them, each of which began
    after the other direction had been used."""

    bytes: int = 0
    bursts: int = 0

    def since(self, before: "Entered") -> "Entered":
        """What entered between two readings."""
        return Entered(self.bytes - before.bytes, self.bursts - before.bursts)


class ProxyError(RuntimeError):
    """A proxy has ended, or does not answer."""


class ProxiedPair:
    """A link between roles `first` and `second`, at full speed until it is shaped and switched on. Every
    call raises ProxyError."""

    def __init__(self, first: str, second: str) -> None:
        self.ends = (first, second)
        self.directions = (f"{first}>{second}", f"{second}>{first}")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "netem.tcp_proxy"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for the harness, which then ends it
        )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def listen(self, role: str, host: str, port: int) -> int:
        """The port of loopback where `role` reaches the other role, which listens at (host, port).

        It stays the same. Connections that wait for an earlier place are closed.
        """
        return int(self._ask("listen", end=self.ends.index(role), host=host, port=port))

    def shape(
        self, profiles: Mapping[str, LinkProfile], seeds: Mapping[str, int] | None = None
    ) -> None:
        """What each direction, as "P0>P1", is to be like while it is switched on, which it is not yet;
        one without a profile is at full speed. seeds: of the jitter. Raises ValueError for loss."""
        given = [profiles.get(direction, LinkProfile()) for direction in self.directions]
        if any(profile.loss for profile in given):
            raise ValueError("loss needs a packet-level shaper (tc): a proxy delivers every byte")
        own = [(seeds or {}).get(direction, 0) for direction in self.directions]
        self._ask("shape", profiles=[asdict(profile) for profile in given], seeds=own)

    def switch(self, on: bool) -> None:
        """Delay and rate from now on, or full speed; what is under way keeps its time, and its place."""
        self._ask("switch", on=on)

    def counts(self, until_ns: int | None = None) -> dict[str, Entered]:
        """What had entered each direction at `until_ns` of CLOCK_MONOTONIC, which must be after it was last
        switched; None: now."""
        found = self._ask("count", until_ns=until_ns)
        return {way: Entered(*each) for way, each in zip(self.directions, found, strict=True)}

    def close(self) -> None:
        """End it, and all connections with it."""
        with suppress(OSError):
            self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()

    def _ask(self, do: str, **given: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        line = b""
        with suppress(OSError):
            self._process.stdin.write(json.dumps({"do": do, **given}).encode() + b"\n")
            self._process.stdin.flush()
            if select.select([self._process.stdout], [], [], ANSWER_S)[0]:
                line = self._process.stdout.readline()
        if not line:
            raise ProxyError(f"the proxy between {' and '.join(self.ends)} does not answer")
        return json.loads(line)
