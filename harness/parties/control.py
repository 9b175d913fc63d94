"""The control channel between the harness and one party: notices, apart from all protocol traffic.

A notice is a kind, some JSON fields and tensors, in the same framing as protocol messages. What the other
end may say is bounded in size, time and value, whoever it is.
"""

import json
import math
import time
import unicodedata
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
VERSION = 5  # of the notices and their order; another one's parties are refused
MAX_NOTICE_BYTES = 1 << 30
TEXT_BYTES = 1 << 20  # of a notice's JSON, where nobody expects more
RATE_BYTES_S = 100_000  # the slowest that a notice may come in
MAX_INTEGER = (1 << 63) - 1
MAX_DEPTH = 16  # of JSON in JSON
REORDERING = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c"
_STAMP = Stamp("prepare", 0, 0, 0)


@dataclass(frozen=True)
class Notice:
    """One message of the control channel."""

    kind: str
    fields: dict[str, Any] = field(default_factory=dict)
    tensors: tuple[Tensor, ...] = ()


class Control:
    """One end of a control channel over a connection, which it then owns.

    timeout_s: where the other end need not be honest: for a notice to come in once it has begun, on top of
    what its size takes, and for one to be taken. Then its JSON is `plain`, and has `text_bytes` at most.
    None: the other end is trusted.
    """

    def __init__(self, connection: Connection, timeout_s: float | None = None) -> None:
        self._connection = connection
        self._reader = Reader(connection)
        self._timeout_s = timeout_s
        self.text_bytes = TEXT_BYTES

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
        if self._timeout_s is not None:
            self._connection.sock.settimeout(self._timeout_s)
        Outgoing(self._connection, frame.views).push(wait=True)

    def recv(self) -> Notice:
        """The next notice. Raises EOFError, OSError; FrameError or ValueError for what is none."""
        self._allow(0)
        trusted = self._timeout_s is None
        message = decode(
            self._reader.read_into,
            MAX_NOTICE_BYTES,
            lambda _, size: self._allow(size),
            None if trusted else self.text_bytes,
        )
        if not message.tensors or message.tensors[0].dtype != torch.uint8:
            raise FrameError("a notice begins with its text")
        fields = _parsed(message.tensors[0].numpy().tobytes())
        fields = fields if trusted else plain(fields)
        return Notice(fields.pop("kind"), fields, message.tensors[1:])

    def _allow(self, size: int) -> None:
        """From now on, time for `size` bytes."""
        if self._timeout_s is not None:
            self._reader.deadline_s = time.monotonic() + self._timeout_s + size / RATE_BYTES_S

    def close(self) -> None:
        """Close the connection."""
        self._connection.sock.close()


def _parsed(text: bytes) -> dict[str, Any]:
    """Kind and fields of a notice. Raises FrameError, ValueError."""
    try:
        fields = json.loads(text)
    except RecursionError:
        raise FrameError("a notice of JSON in JSON in JSON") from None
    if not isinstance(fields, dict) or not isinstance(fields.get("kind"), str):
        raise FrameError("a notice has a kind")
    return fields


def plain(value: Any, depth: int = MAX_DEPTH) -> Any:
    """JSON whose numbers are finite and fit in 64 bits, and whose texts hold nothing that a terminal
    would obey. Raises FrameError."""
    if isinstance(value, str):
        return readable(value)
    if isinstance(value, dict | list) and not depth:
        raise FrameError("a notice of JSON in JSON in JSON")
    if isinstance(value, dict):
        return {readable(key): plain(item, depth - 1) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item, depth - 1) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        raise FrameError(f"a notice with the number {value}")
    if isinstance(value, int) and abs(value) > MAX_INTEGER:
        raise FrameError("a notice with a number beyond 64 bits")
    return value


def readable(text: str) -> str:
    """`text` without control characters but \\n and \\t, and without those that change the order of what
    is written."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(c for c in text if c in "\n\t" or not _obeyed(c))


def _obeyed(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cs") or character in REORDERING
