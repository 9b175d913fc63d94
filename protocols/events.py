"""What a party's transport tells its listeners: one `Event` for everything that happens."""

from collections.abc import Callable
from typing import Literal, NamedTuple

from protocols.party import Phase, Role

EventKind = Literal["phase_begin", "phase_end", "compute", "send", "recv"]


class Event(NamedTuple):
    """One thing that happened at one party.

    kind: a compute segment lies between the return of one transport call and the entry of the next; to
    an observer (`MeteredParty.observed_by`) it also ends where a step begins or ends.
    t_ns: CLOCK_MONOTONIC at its beginning; for `phase_end` at its end.
    depth: hop depth: of the message for `send`, of the party after it for all others.
    peer, message_id: of a message; ids count up from 0 for each ordered pair of roles.
    payload_bytes, wire_bytes: size of a message without and with its framing (TLS records too).
    wall_ns: duration; for `recv` it includes the wait, for `phase_end` it is the whole phase.
    cpu_ns: processor time of the process in the same interval, less that of the listeners.
    label: the step under way (`Party.step`), as "layer 3/softmax/reveal"; "" outside all steps.
    """

    kind: EventKind
    phase: Phase
    t_ns: int
    depth: int
    peer: Role | None = None
    message_id: int = -1
    payload_bytes: int = 0
    wire_bytes: int = 0
    wall_ns: int = 0
    cpu_ns: int = 0
    label: str = ""


Listener = Callable[[Event], None]


class Stamp(NamedTuple):
    """What every message carries about its sender: where in the run it was sent, and its depth."""

    phase: Phase
    occurrence: int
    depth: int
    message_id: int
