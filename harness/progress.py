"""What a person sees while runs go on.

Nothing is drawn but on a call: a refreshing thread would compete with the parties for the cores.
"""

import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.text import Text

REPEAT_S = 10.0  # between plain lines on one kind of stage


class Progress(Protocol):
    """Told by the harness what it is doing. No call raises: a run does not fail for want of a reader."""

    def run(self, index: int, total: int, title: str) -> None:
        """Run `index` (from 1) of `total` begins."""

    def stage(self, text: str) -> None:
        """The current run has come to `text`: starting parties, calibrating, measuring 3/10, …"""

    def say(self, text: str) -> None:
        """A piece of a generated text, for standard output."""

    def done(self, summary: str) -> None:
        """The current run has ended as `summary` says."""

    def close(self) -> None:
        """Nothing more will come."""


class Eta:
    """Time left, from the mean of the runs that have ended."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._ended = 0

    def ended(self) -> None:
        """Count one run as ended."""
        self._ended += 1

    def text(self, total: int) -> str:
        """The time left as " · about 3 min left"; empty while there is nothing to tell it from."""
        left = total - self._ended
        if not self._ended or not left:
            return ""
        seconds = (time.monotonic() - self._started) / self._ended * left
        return f" · about {format_seconds(seconds)} left"


class PlainProgress:
    """One line for each run, each kind of stage and each result, on stderr."""

    def __init__(self) -> None:
        self._eta = Eta()
        self._kind = ""
        self._said_s = 0.0

    def run(self, index: int, total: int, title: str) -> None:
        """See `Progress`."""
        self._kind = ""
        say(f"[{index}/{total}] {title}{self._eta.text(total)}")

    def stage(self, text: str) -> None:
        """See `Progress`. Of measuring 1/10, 2/10, … one in `REPEAT_S` is worth a line."""
        kind = re.split(r" \d", text)[0]
        now = time.monotonic()
        if kind != self._kind or now - self._said_s > REPEAT_S:
            self._kind, self._said_s = kind, now
            say(f"  {text}")

    def say(self, text: str) -> None:
        """See `Progress`."""
        with _unfailing():
            print(text, end="", flush=True)

    def done(self, summary: str) -> None:
        """See `Progress`."""
        self._eta.ended()
        say(summary)

    def close(self) -> None:
        """See `Progress`."""


class SilentProgress:
    """Shows nothing: for runs from a program."""

    def run(self, index: int, total: int, title: str) -> None:
        """See `Progress`."""

    def stage(self, text: str) -> None:
        """See `Progress`."""

    def say(self, text: str) -> None:
        """See `Progress`."""

    def done(self, summary: str) -> None:
        """See `Progress`."""

    def close(self) -> None:
        """See `Progress`."""


class LiveProgress:
    """A live line at the bottom of a terminal; results scroll above it."""

    def __init__(self, console: Console) -> None:
        self._live = Live(console=console, auto_refresh=False, transient=True)
        with _unfailing():
            self._live.start()
        self._eta = Eta()
        self._head = ""
        self._stage: str | None = None
        self._said = ""

    def run(self, index: int, total: int, title: str) -> None:
        """See `Progress`."""
        self._head = f"[{index}/{total}] {title}{self._eta.text(total)}"
        self._stage, self._said = None, ""
        self.stage("")

    def stage(self, text: str) -> None:
        """See `Progress`. Drawing takes a millisecond, so nothing is drawn twice."""
        if text == self._stage:
            return
        self._stage = text
        line = Text(self._head, overflow="ellipsis", no_wrap=True)
        line.append(f"  {text}", style="cyan")
        with _unfailing():
            self._live.update(Group(line, Text(self._said)) if self._said else line, refresh=True)

    def say(self, text: str) -> None:
        """See `Progress`. The text grows below the live line; a whole line goes to its place."""
        self._said += text
        if not text.endswith("\n"):
            return
        with _unfailing():
            if sys.stdout.isatty():
                self._live.console.print(
                    escape(self._said), end="", highlight=False, soft_wrap=True
                )
            else:
                print(self._said, end="", flush=True)
        self._said = ""

    def done(self, summary: str) -> None:
        """See `Progress`."""
        self._eta.ended()
        with _unfailing():
            self._live.update("")
            self._live.console.print(escape(summary), highlight=False, soft_wrap=True)
            self._live.refresh()

    def close(self) -> None:
        """See `Progress`."""
        with _unfailing():
            self._live.stop()


def make_progress() -> Progress:
    """Live on a terminal, plain lines otherwise."""
    console = Console(stderr=True)
    return LiveProgress(console) if console.is_terminal else PlainProgress()


def format_seconds(seconds: float) -> str:
    """A duration as people say it: "40 s", "3 min", "2 h 5 min"."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def warn(text: str) -> None:
    """A warning, in one line."""
    say(f"warning: {text}")


def say(line: str) -> None:
    """One line on stderr, if somebody can read it."""
    with _unfailing():
        print(line, file=sys.stderr, flush=True)


@contextmanager
def _unfailing() -> Iterator[None]:
    """A terminal may close, a reader may go and a disk be full: that is not the run's failure."""
    try:
        yield
    except (
        OSError,
        ValueError,
        SystemExit,
    ):  # of a closed file; of rich, for a reader that has gone
        return
