"""A party that has joined waits for a call that wants its role."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from harness.errors import HandshakeError
from harness.parties.control import HARNESS
from harness.parties.worker import arrive
from harness.transport import Credentials, Trust, listen
from harness.transport.reception import Reception
from tests.tcp import PLAIN, SECRET

TRUST, ME = Trust(SECRET), Credentials(HARNESS)
PATIENCE_S = 60.0


def test_a_call_of_fewer_roles_is_passed_over(capfd: pytest.CaptureFixture[str]) -> None:
    """The harness no longer listens after it, and listens anew for the next."""
    with ThreadPoolExecutor(1) as pool:
        with listen() as listener, Reception(listener, ME, {"P0": TRUST}) as call:
            address = listener.getsockname()
            arriving = pool.submit(arrive, address, PLAIN["P2"], TRUST, PATIENCE_S)
            while call.dropped < 2:
                assert call.next(0.05) is None
                assert not arriving.done()
        with listen(*address) as listener, Reception(listener, ME, {"P2": TRUST}) as call:
            arrival = call.next(PATIENCE_S)
        assert arrival is not None
        role, connection = arrival
        assert role == "P2"
        for end in (connection, arriving.result()):
            end.sock.close()
    assert capfd.readouterr().err.count("P2 waits for another call: H0 does not wait for P2") == 1


def test_patience_ends() -> None:
    with (
        listen() as listener,
        Reception(listener, ME, {"P0": TRUST}) as call,
        ThreadPoolExecutor(1) as pool,
    ):
        arriving = pool.submit(arrive, listener.getsockname(), PLAIN["P2"], TRUST, 0.7)
        while not arriving.done():
            assert call.next(0.05) is None
        with pytest.raises(HandshakeError, match="H0 does not wait for P2"):
            arriving.result()
