"""Standard output and error that cannot show every character, that nobody reads, or that were never open.

What a run measured is worth more than its messages: no message that cannot be written ends it.
"""

import codecs
import errno
import io
import os
import select
import sys
from contextlib import suppress

NAME = "permbench.plain"  # of the codec's error handler
PLAIN = {
    "×": "x", "µ": "u", "–": "-", "—": "-", "…": "...", "±": "+-", "≥": ">=", "≤": "<=", "·": "|",
    "→": "->", "−": "-", "∞": "inf", "π": "pi", "’": "'", "‘": "'", "“": '"', "”": '"',
}  # fmt: skip
GONE = (
    errno.EPIPE,
    errno.EIO,
)  # the reader (head, less) has seen enough, or the terminal has closed


class _Steady(io.FileIO):
    """A file whose writes never fail: what cannot be written is dropped. failure: the first reason."""

    failure: OSError | None = None

    def write(self, data: "io.ReadableBuffer") -> int:  # type: ignore[name-defined]
        """How much was taken of `data`: all of it, where it is dropped."""
        try:
            while (size := super().write(data)) is None:  # a pipe that does not block, and is full
                select.select([], [self], [])
        except OSError as error:
            self.failure = self.failure or error
            return len(data)
        return size


def make_output_robust() -> None:
    """Let standard output and error replace what their encoding lacks (LC_ALL=C,
    PYTHONIOENCODING=ascii), and drop what they cannot write."""
    codecs.register_error(NAME, _replaced)
    _open_closed()
    for number, name in ((1, "stdout"), (2, "stderr")):
        stream = getattr(sys, name)
        if stream is getattr(sys, f"__{name}__"):
            setattr(sys, name, _steady(number, stream))
        with suppress(AttributeError, ValueError):  # a stream that is no text file, or closed
            getattr(sys, name).reconfigure(errors=NAME)


def unwritten() -> OSError | None:
    """Why not all of standard output was written; None also where nobody reads it any more."""
    sys.stdout.flush()
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    error = raw.failure if isinstance(raw, _Steady) else None
    return None if error is None or error.errno in GONE else error


def _open_closed() -> None:
    """Something else would get the number of a standard stream that is closed, and its messages."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def _steady(number: int, stream: io.TextIOWrapper | None) -> io.TextIOWrapper:
    encoding = stream.encoding if stream else "utf-8"
    at_once = number == 2 or (
        stream is not None and (stream.line_buffering or stream.write_through)
    )
    buffer = io.BufferedWriter(_Steady(number, "w", closefd=False))
    return io.TextIOWrapper(buffer, encoding, line_buffering=at_once)


def _replaced(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    return "".join(PLAIN.get(character, "?") for character in text), error.end
