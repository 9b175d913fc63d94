"""A party's second thread: work of a later phase, done while the phase under way waits for messages.

Both threads use one transport. Messages say which occurrence of which phase they are of; those of the
phase aside go to its thread, all others to the main one. What the second thread sent and received
counts in the phase that it was of, which begins later and takes it in.
"""

import os
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from contextlib import suppress

from torch import Tensor

from protocols.events import Event, Stamp
from protocols.metered_party import Message, MeteredParty
from protocols.party import Phase, Role

Key = tuple[Phase, int]  # a phase and its occurrence


class MailSorter:
    """Hands each message to the thread that it is for, whichever of the two received it."""

    def __init__(self, receive: Callable[[Role], Message], aside: Key) -> None:
        self._receive, self._aside = receive, aside
        self._waiting: dict[tuple[Role, bool], deque[Message]] = defaultdict(deque)
        self._busy: set[Role] = set()  # sources at which a thread is listening
        self._changed = threading.Condition()

    def next(self, source: Role, aside: bool) -> Message:
        """The next message of `source` for the thread aside, or for the main one. Raises PeerError."""
        while True:
            with self._changed:
                while not self._waiting[source, aside] and source in self._busy:
                    self._changed.wait()
                if self._waiting[source, aside]:
                    return self._waiting[source, aside].popleft()
                self._busy.add(source)
            try:
                message = self._receive(source)
                theirs = (message.stamp.phase, message.stamp.occurrence) == self._aside
                with self._changed:
                    self._waiting[source, theirs].append(message)
            finally:
                with self._changed:
                    self._busy.discard(source)
                    self._changed.notify_all()


class AsideParty(MeteredParty):
    """The second thread's end of `main`. Its messages are of the phase `key`."""

    def __init__(self, main: MeteredParty, key: Key) -> None:
        self.events: list[Event] = []
        super().__init__(main.role, (self.events.append,))
        self._main, self._key = main, key
        self._next_id, self._sending = main._next_id, main._sending
        self._occurrences[key[0]] = key[1] - 1
        main.sorter = self._sorter = MailSorter(main._receive, key)

    def _transmit(self, to: Role, stamp: Stamp, tensors: tuple[Tensor, ...]) -> tuple[int, int]:
        return self._main._transmit(to, stamp, tensors)

    def _receive(self, source: Role) -> Message:
        return self._sorter.next(source, aside=True)

    def _unread(self) -> Mapping[Role, int]:
        return {}

    @property
    def depth(self) -> int:
        """Hop depth so far."""
        return self._recorder.depth


class Aside:
    """One piece of work aside, of the next occurrence but `later` of a phase.

    To be made by all roles before any of them starts, so that no message comes unexpected.
    """

    def __init__(self, main: MeteredParty, phase: Phase, later: int) -> None:
        self._main = main
        self._phase: Phase = phase
        self._party = AsideParty(main, (phase, main.occurrences(phase) + later))
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None

    def start(self, work: Callable[[AsideParty], None]) -> None:
        """Begin `work` in a thread that runs when no other wants the processor.

        A peer's limit for silence counts the time for which a busy machine lets this thread wait.
        """

        def run() -> None:
            try:
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)
                with self._party.phase(self._phase):
                    work(self._party)
            except BaseException as error:
                self._failure = error

        self._thread = threading.Thread(target=run, name=f"{self._main.role}-aside", daemon=True)
        self._thread.start()

    def join(self, count: bool = True) -> None:
        """Wait for the end of the work, and count its messages in the phase under way. Raises what the
        work raised."""
        if self._thread is not None:
            _hurry(self._thread)
            self._thread.join()
            self._thread = None
        self._main.sorter = None
        if self._failure is not None:
            raise self._failure
        if count:
            self._main.take_in(self._party.events, self._party.depth)


def _hurry(thread: threading.Thread) -> None:
    """Somebody waits for it now: it runs as any other, where this user may say so (root, RLIMIT_NICE)."""
    with suppress(OSError):  # it has ended, or the user may not
        os.setpriority(os.PRIO_PROCESS, thread.native_id or 0, os.getpriority(os.PRIO_PROCESS, 0))
