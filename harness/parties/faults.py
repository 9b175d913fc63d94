"""Faults that `permbench gate --self-test` must find.

They reach a party in its job, from the gate's own code: no configuration key and no environment variable
leads here, and a run without a fault does not pass through this module.
"""

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch

from protocols.party import P0, P1

if TYPE_CHECKING:
    from protocols.system import System


@dataclass(frozen=True)
class Fault:
    """What is wrong with a party's online phase.

    slow: P1 computes for so much longer, as a part of the time that its step took. extra_message: P0
    sends P1 one message of 8 bytes that no protocol asks for.
    """

    slow: float = 0.0
    extra_message: bool = False


def with_fault(system: "System", fault: Fault) -> "System":
    """`system` with a fault in its online phase."""
    return cast("System", _Faulty(system, fault))


class _Faulty:
    """Everything of a system but its online phase is its own."""

    def __init__(self, system: "System", fault: Fault) -> None:
        self._system, self._fault = system, fault

    def __getattr__(self, name: str) -> Any:
        return getattr(self._system, name)

    def online(self, step: int) -> None:
        """See `System.online`."""
        begin_ns = time.monotonic_ns()
        party = self._system.party
        if self._fault.extra_message and party.role == P0:
            party.send(P1, torch.zeros(1, dtype=torch.int64))
        if self._fault.extra_message and party.role == P1:
            party.recv(P0)
        self._system.online(step)
        if self._fault.slow and party.role == P1:
            _compute_until(begin_ns, 1 + self._fault.slow)


def _compute_until(begin_ns: int, times: float) -> None:
    """Keep the core busy until `times` what has passed since `begin_ns`."""
    end_ns = begin_ns + round((time.monotonic_ns() - begin_ns) * times)
    while time.monotonic_ns() < end_ns:
        pass
