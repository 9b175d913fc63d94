"""Output on terminals and files that cannot show every character."""

import codecs
import sys
from contextlib import suppress

NAME = "permbench.plain"  # of the codec's error handler
PLAIN = {
    "×": "x", "µ": "u", "–": "-", "—": "-", "…": "...", "±": "+-", "≥": ">=", "≤": "<=", "·": "|",
    "→": "->", "−": "-", "∞": "inf", "π": "pi", "’": "'", "‘": "'", "“": '"', "”": '"',
}  # fmt: skip


def make_output_robust() -> None:
    """Let standard output and error replace what their encoding lacks (LC_ALL=C,
    PYTHONIOENCODING=ascii): a table is worth more than its × and µ."""
    codecs.register_error(NAME, _replaced)
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, ValueError):  # a stream that is no text file, or closed
            stream.reconfigure(errors=NAME)  # type: ignore[union-attr]


def _replaced(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    return "".join(PLAIN.get(character, "?") for character in text), error.end
