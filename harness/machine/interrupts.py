"""Ctrl-C, SIGTERM and a terminal that closes: the first ends what is under way in good order, once.

What comes while a run is dismissed and saved is ignored. Where half of a thing would be worse than all or
nothing (a party that is being started, a record that is being saved) a signal waits for its end.
"""

import atexit
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

ENDING_S = 20.0  # for a run to be dismissed and saved; who waits longer may interrupt that too
AGAIN_S = 5.0  # an interrupt that nobody has caught by then got lost
SOON_S = 0.05  # the same of one that is known to be lost


class _State:
    """Of the main thread, which alone handles signals."""

    deferring = False
    waiting = False  # a signal came meanwhile
    ended_s: float | None = None  # when the first one was acted on


def end_in_good_order() -> None:
    """From now on signals that end a program raise KeyboardInterrupt in the main thread: SIGINT also in
    a shell that starts jobs with Ctrl-C ignored, SIGHUP unless it is ignored (nohup)."""
    if threading.current_thread() is not threading.main_thread():
        return
    _State.deferring, _State.waiting, _State.ended_s = False, False, None
    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    for number in numbers:
        signal.signal(number, _handle)
    signal.signal(signal.SIGALRM, _again)
    atexit.register(_ignore, numbers)
    sys.unraisablehook = _unraisable


def _ignore(numbers: list[signal.Signals]) -> None:
    """While Python takes itself apart it would end by a signal, with that signal's exit code."""
    for number in numbers:
        signal.signal(number, signal.SIG_IGN)


def caught() -> bool:
    """Who catches a KeyboardInterrupt to end a run, or the program, says so here: one that some library
    has swallowed comes again. Whether one was on its way."""
    return signal.setitimer(signal.ITIMER_REAL, 0)[0] > 0


@contextmanager
def deferred() -> Iterator[None]:
    """Inside, a signal waits until the end of the outermost such block. Only for what ends by itself."""
    before = _State.deferring
    _State.deferring = before or _is_main()
    try:
        yield
    finally:
        _State.deferring = before
        _raise_if_due()


@contextmanager
def interruptible() -> Iterator[None]:
    """A part of a `deferred` block that a signal ends at once."""
    before = _State.deferring
    _State.deferring = before and not _is_main()
    try:
        _raise_if_due()
        yield
    finally:
        _State.deferring = before


def _is_main() -> bool:
    return threading.current_thread() is threading.main_thread()


def _handle(number: int, frame: FrameType | None) -> None:
    ended_s = _State.ended_s
    if ended_s is not None and time.monotonic() - ended_s < ENDING_S:
        return
    _State.waiting = True
    _raise_if_due()


def _raise_if_due() -> None:
    if _State.waiting and not _State.deferring and _is_main():
        _State.waiting, _State.ended_s = False, time.monotonic()
        signal.setitimer(signal.ITIMER_REAL, AGAIN_S)
        raise KeyboardInterrupt


def _again(number: int, frame: FrameType | None) -> None:
    _State.ended_s = None
    _handle(number, frame)


def _unraisable(unraisable: "sys.UnraisableHookArgs") -> None:
    """Python drops what is raised in a destructor: an interrupt that falls into one comes again."""
    if unraisable.exc_type is not KeyboardInterrupt:
        sys.__unraisablehook__(unraisable)
    elif _is_main():
        signal.setitimer(signal.ITIMER_REAL, SOON_S)
