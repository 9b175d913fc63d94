"""Work aside: it gives way to everything, until somebody waits for it."""

import os
import resource
import threading
import time

import pytest

from protocols.background_phase import Aside, AsideParty
from protocols.metered_party import Message, MeteredParty
from protocols.party import Role


class Alone(MeteredParty):
    """A party without peers."""

    def _transmit(self, *_: object) -> tuple[int, int]:
        return 0, 0

    def _receive(self, source: Role) -> Message:
        raise NotImplementedError

    def _unread(self) -> dict[Role, int]:
        return {}


def niceness() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


def test_who_is_waited_for_no_longer_gives_way() -> None:
    """A peer would wait in vain where other programs take all cores."""
    own = niceness()
    if os.geteuid() and resource.getrlimit(resource.RLIMIT_NICE)[0] < 20 - own:
        pytest.skip("an ordinary user may not raise a priority: RLIMIT_NICE")
    seen: list[int] = []
    begun = threading.Event()

    def work(party: AsideParty) -> None:
        seen.append(niceness())
        begun.set()
        deadline = time.monotonic() + 10
        while niceness() > own and time.monotonic() < deadline:
            time.sleep(0.01)
        seen.append(niceness())

    party = Alone("P0")
    with party.phase("online"):
        aside = Aside(party, "offline", later=1)
        aside.start(work)
        assert begun.wait(10)
        aside.join(count=False)
    assert seen == [19, own]
