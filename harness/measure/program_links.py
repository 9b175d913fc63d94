"""The links between programs of others: switched with their phases, and counted from outside."""

from abc import ABC, abstractmethod

from harness.parties.group import PartyGroup
from harness.parties.job import Shaping, hash_seed
from harness.records.record import Sent
from harness.runners.proxied import Proxied

HEADER_BYTES = 14 + 20 + 32  # of a packet: Ethernet, IP, TCP with time stamps
Counts = dict[str, Sent]  # by "P0>P1"


class ProgramLinks(ABC):
    """Where a group's programs meet their links."""

    def begin(self, on: bool) -> None:
        """Before links are measured, and again before they are used."""

    @abstractmethod
    def switch(self, on: bool) -> None:
        """Links as they are shaped, or at full speed."""

    @abstractmethod
    def counts(self, until_ns: int | None = None) -> Counts:
        """What had been sent at `until_ns`, a moment ago, as far as that can be told; None: now."""

    def problems(self) -> list[str]:
        """Why what was counted cannot be right; empty if it can."""
        return []


class ProxiedLinks(ProgramLinks):
    """TCP proxies: messages are bursts, and the bytes those of TCP's payload."""

    def __init__(self, runner: Proxied, shaping: Shaping) -> None:
        self._runner, self._shaping = runner, shaping

    def begin(self, on: bool) -> None:
        """See `ProgramLinks.begin`. Jitter starts afresh."""
        links = self._shaping.profiles
        seeds = {direction: hash_seed(self._shaping.seed, direction) for direction in links}
        self._runner.shape(links, seeds)
        self._runner.switch(on)

    def switch(self, on: bool) -> None:
        """See `ProgramLinks.switch`."""
        self._runner.switch(on)

    def counts(self, until_ns: int | None = None) -> Counts:
        """See `ProgramLinks.counts`."""
        found = self._runner.counts(until_ns).items()
        return {direction: Sent(each.bursts, each.bytes, each.bytes) for direction, each in found}


class KernelLinks(ProgramLinks):
    """Kernel links (shaper=tc): messages are packets, wire bytes whole frames, and payload bytes what is
    left without headers."""

    def __init__(self, parties: PartyGroup, shaping: Shaping) -> None:
        self._parties, self._shaping = parties, shaping
        self._dropped: dict[str, int] = {}

    def switch(self, on: bool) -> None:
        """See `ProgramLinks.switch`."""
        self._parties.switch(on)

    def counts(self, until_ns: int | None = None) -> Counts:
        """See `ProgramLinks.counts`. Interfaces tell what they have counted until now."""
        found: Counts = {}
        for role, counted in self._parties.count().items():
            for to, each in counted.items():
                payload = max(0, each["bytes"] - HEADER_BYTES * each["packets"])
                found[f"{role}>{to}"] = Sent(each["packets"], payload, each["bytes"])
                self._dropped[f"{role}>{to}"] = each["dropped"]
        return found

    def problems(self) -> list[str]:
        """See `ProgramLinks.problems`."""
        return [
            f"{direction}: {dropped} packets dropped on a link without loss"
            for direction, dropped in self._dropped.items()
            if dropped and not self._shaping.profiles[direction].loss
        ]


def links_of(parties: PartyGroup, shaping: Shaping) -> ProgramLinks:
    """Those of a group that lives where programs can."""
    if isinstance(parties.runner, Proxied):
        return ProxiedLinks(parties.runner, shaping)
    return KernelLinks(parties, shaping)
