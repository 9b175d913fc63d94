"""The listener that a traced run adds to each party, and the tensors that carry its events.

A row holds one operation: kind, peer, wire bytes, then wall and CPU ns of the compute before it and
of the operation itself. Occurrences of the online phase follow each other; each ends with an END.
"""

import numpy as np
import torch
from torch import Tensor

from protocols.events import Event
from protocols.party import ROLES

SEND, RECV, END = 0, 1, 2  # kinds of operations
NOBODY = -1  # the peer of an END
COLUMNS = 7
_KINDS = {"send": SEND, "recv": RECV, "phase_end": END}
_PEERS = {None: NOBODY} | {role: place for place, role in enumerate(ROLES)}


class TraceRecorder:
    """Keeps the events of every online phase that ends well."""

    def __init__(self) -> None:
        self._events: list[Event] = []
        self._begins_ns: list[int] = []
        self._rows: list[np.ndarray[tuple[int, int], np.dtype[np.int64]]] = []

    def __call__(self, event: Event) -> None:
        """Keep one event; what is more than that waits for the end of the phase."""
        if event.phase != "online":
            return
        if event.kind == "phase_begin":
            self._events = []
            return
        self._events.append(event)
        if event.kind == "phase_end":
            self._close(event)

    def _close(self, end: Event) -> None:
        pairs = zip(self._events[::2], self._events[1::2], strict=True)
        self._rows.append(np.array([_row(before, event) for before, event in pairs], np.int64))
        self._begins_ns.append(end.t_ns - end.wall_ns)
        self._events = []

    def tensors(self, clock_ahead_ns: int) -> tuple[Tensor, Tensor]:
        """When each occurrence began (int64, on the clock that this one is ahead of), and all rows
        (int64, operations × COLUMNS)."""
        begins = torch.tensor(self._begins_ns, dtype=torch.int64) - clock_ahead_ns
        rows = np.concatenate(self._rows) if self._rows else np.empty((0, COLUMNS), np.int64)
        return begins, torch.from_numpy(rows)


def _row(before: Event, event: Event) -> tuple[int, ...]:
    wall_ns, cpu_ns = (0, 0) if event.kind == "phase_end" else (event.wall_ns, event.cpu_ns)
    operation = (_KINDS[event.kind], _PEERS[event.peer], event.wire_bytes)
    # CPU time less that of a wait: two clocks, whose difference may fall below nothing.
    return (*operation, before.wall_ns, max(0, before.cpu_ns), wall_ns, max(0, cpu_ns))
