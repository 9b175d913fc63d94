"""The listener that a traced run adds to each party, and the tensors that carry its events.

A row holds one operation: kind, peer, wire bytes, payload bytes, and its label's place in a table;
then wall and CPU ns of the compute before it and of the operation itself. Where a step begins or ends
a LOCAL row ends the compute, so that every segment is of one step. Occurrences of the online phase
follow each other; each ends with an END.
"""

import json

import numpy as np
import torch
from torch import Tensor

from protocols.events import Event
from protocols.party import ALL_ROLES

SEND, RECV, END, LOCAL = 0, 1, 2, 3  # kinds of operations
NOBODY = -1  # the peer of an END and of a LOCAL
FIXED = 5  # columns that are the same in all evaluations
COLUMNS = FIXED + 4
_KINDS = {"send": SEND, "recv": RECV, "phase_end": END, "compute": LOCAL}
_PEERS = {None: NOBODY} | {role: place for place, role in enumerate(ALL_ROLES)}


class TraceRecorder:
    """Keeps the events of every online phase that ends well."""

    def __init__(self) -> None:
        self._events: list[Event] = []
        self._begins_ns: list[int] = []
        self._rows: list[np.ndarray[tuple[int, int], np.dtype[np.int64]]] = []
        self._labels: dict[str, int] = {}

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
        rows, before = [], self._events[0]
        for event in self._events[1:]:
            # After a message comes its successor's segment; a segment after another is a LOCAL.
            if before.kind == "compute":
                rows.append(self._row(before, event))
            before = event
        self._rows.append(np.array(rows, np.int64))
        self._begins_ns.append(end.t_ns - end.wall_ns)
        self._events = []

    def _row(self, before: Event, event: Event) -> tuple[int, ...]:
        """What came after the compute segment `before`: an operation, or another segment."""
        label = self._labels.setdefault(before.label, len(self._labels))
        operation = (_KINDS[event.kind], _PEERS[event.peer], event.wire_bytes, event.payload_bytes)
        took = (event.wall_ns, max(0, event.cpu_ns)) if event.peer else (0, 0)
        # CPU time less that of a wait: two clocks, whose difference may fall below nothing.
        return (*operation, label, before.wall_ns, max(0, before.cpu_ns), *took)

    def tensors(self, clock_ahead_ns: int) -> tuple[Tensor, Tensor, Tensor]:
        """When each occurrence began (int64, on the clock that this one is ahead of), all rows (int64,
        operations × COLUMNS), and the table of labels (JSON, uint8)."""
        begins = torch.tensor(self._begins_ns, dtype=torch.int64) - clock_ahead_ns
        rows = np.concatenate(self._rows) if self._rows else np.empty((0, COLUMNS), np.int64)
        labels = bytearray(json.dumps(list(self._labels)).encode())
        return begins, torch.from_numpy(rows), torch.frombuffer(labels, dtype=torch.uint8)
