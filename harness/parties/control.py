"""The control channel between the harness and one party: notices, apart from all protocol traffic.

A notice is a kind, some JSON fields and tensors, in the same framing as protocol messages.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor

from harness.errors import FrameError
from harness.transport.frame import decode, encode
from harness.transport.stream import Connection, Outgoing, Reader
from protocols.events import Stamp
from protocols.party import Role

HARNESS = cast(Role, "H0")  # its name in the handshake; it is no role of any protocol
VERSION = 3  # of the notices and their order; another one's parties are refused
MAX_NOTICE_BYTES = 1 << 30
_STAMP = Stamp("prepare", 0, 0, 0)


@dataclass(frozen=True)
class Notice:
    """One message of the control channel."""

    kind: str
    fields: dict[str, Any] = field(default_factory=dict)
    tensors: tuple[Tensor, ...] = ()


class Control:
    """One end of a control channel over a connection, which it then owns."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._reader = Reader(connection)

    @property
    def fingerprint(self) -> bytes | None:
        """Of the other end's certificate; None without TLS."""
        return self._connection.fingerprint

    def fileno(self) -> int:
        """For selectors."""
        return self._connection.sock.fileno()

    @property
    def pending(self) -> bool:
        """Whether bytes were read ahead of the last notice."""
        return self._reader.buffered

    def send(self, kind: str, tensors: Sequence[Tensor] = (), **fields: Any) -> None:
        """Send one notice. Raises OSError where the other end is gone."""
        text = json.dumps({"kind": kind, **fields}).encode()
        head = torch.frombuffer(bytearray(text), dtype=torch.uint8)
        frame = encode(_STAMP, [head, *tensors], max_bytes=MAX_NOTICE_BYTES)
        Outgoing(self._connection, frame.views).push(wait=True)

    def recv(self) -> Notice:
        """The next notice. Raises EOFError, OSError; FrameError or ValueError for what is none."""
        message = decode(self._reader.read_into, MAX_NOTICE_BYTES)
        if not message.tensors or message.tensors[0].dtype != torch.uint8:
            raise FrameError("a notice begins with its text")
        fields = json.loads(message.tensors[0].numpy().tobytes())
        if not isinstance(fields, dict) or "kind" not in fields:
            raise FrameError("a notice has a kind")
        return Notice(fields.pop("kind"), fields, message.tensors[1:])

    def close(self) -> None:
        """Close the connection."""
        self._connection.sock.close()
