"""Real namespaces on this machine's kernel: what is made is removed, and nothing else is."""

import json
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from netem import cleanup, namespaces
from netem.command import TcError, run
from netem.namespaces import Namespaces, free_network
from netem.process_labels import PREFIX
from netem.profile import LinkProfile
from netem.shaped_interface import ShapedInterface
from netem.tc_probe import namespaces_missing, tc_missing

pytestmark = pytest.mark.slow

ROLES = ("P0", "P1", "P2")
# Makes namespaces, starts a program in one of them, says so, and waits to be killed.
DOOMED = """
import subprocess, sys, time
from netem.namespaces import Namespaces
made = Namespaces.create(("P0", "P1"))
program = subprocess.Popen(made.command("P0", ("sleep", "600")))
print(made.name, program.pid, flush=True)
time.sleep(600)
"""


def namespaces_of(name: str) -> list[str]:
    return [line.split()[0] for line in run(("ip", "netns", "list")).splitlines() if name in line]


def links_of(name: str) -> list[str]:
    rows = json.loads(run(("ip", "-j", "link", "show")))
    return [row["ifname"] for row in rows if name in row.get("ifalias", "")]


def networks() -> list[str]:
    rows = json.loads(run(("ip", "-j", "-4", "address", "show")))
    return [info["local"] for row in rows for info in row["addr_info"]]


@pytest.fixture(autouse=True, scope="module")
def usable() -> None:
    if why := namespaces_missing():
        pytest.skip(f"network namespaces: {why}")


@pytest.fixture
def foreign() -> Iterator[str]:
    """Somebody else's network namespace."""
    name = f"foreign-{secrets.token_hex(4)}"
    run(("ip", "netns", "add", name))
    yield name
    run(("ip", "netns", "del", name))


def test_roles_reach_each_other_and_this_machine_and_leave_nothing() -> None:
    server = "import socket; s = socket.create_server((%r, 7)); print(1, flush=True); s.accept()"
    with Namespaces.create(ROLES) as made:
        addresses = {role: home.address for role, home in made.homes.items()}
        here = made.address
        assert len(namespaces_of(made.name)) == 4
        assert here in networks()
        for role in ROLES:
            argv = made.command(role, (sys.executable, "-c", server % addresses[role]))
            with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
                assert process.stdout is not None
                process.stdout.readline()
                client = f"import socket; socket.create_connection(({addresses[role]!r}, 7), 5)"
                peer = ROLES[ROLES.index(role) - 1]
                argv = made.command(peer, (sys.executable, "-c", client))
                subprocess.run(argv if role != "P2" else [sys.executable, "-c", client], check=True)
        left_running = subprocess.Popen(made.command("P1", ("sleep", "600")))
        neighbours = run(made.command("P0", ("ip", "neigh")))
        assert neighbours.count("PERMANENT") == 2
    assert left_running.wait(10) == -signal.SIGKILL
    assert namespaces_of(made.name) == links_of(made.name) == []
    assert here not in networks()
    made.close()


def test_two_at_once_do_not_meet() -> None:
    with Namespaces.create(ROLES) as first:
        with Namespaces.create(ROLES) as second:
            assert not first.network.overlaps(second.network)
        assert namespaces_of(second.name) == links_of(second.name) == []
        assert len(namespaces_of(first.name)) == 4
        assert len(links_of(first.name)) == 1


@pytest.mark.parametrize("after", [0, 1, 3, 5, 7, 9, 12])
def test_an_interrupted_creation_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    calls: list[tuple[str, ...]] = []

    def interrupted(argv: tuple[str, ...]) -> str:
        calls.append(argv)
        if len(calls) > after + 2:  # two look for a free network
            raise KeyboardInterrupt
        return run(argv)

    monkeypatch.setattr(namespaces, "run", interrupted)
    before = namespaces_of(PREFIX), links_of(PREFIX)
    with pytest.raises(KeyboardInterrupt):
        Namespaces.create(ROLES)
    assert (namespaces_of(PREFIX), links_of(PREFIX)) == before


def test_what_a_killed_process_left_is_removed_and_nothing_else(foreign: str) -> None:
    child = subprocess.Popen([sys.executable, "-c", DOOMED], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    name, pid = child.stdout.readline().split()
    assert [n for n in cleanup.stale() if name in n] == []  # it lives
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    with Namespaces.create(("P0",)) as living:
        assert len([n for n in cleanup.stale() if name in n]) == 4  # and a link's alias
        lines = [line for line in cleanup.remove_stale() if name in line]
        assert len(namespaces_of(living.name)) == 2
    assert namespaces_of(name) == links_of(name) == []
    assert namespaces_of(foreign) == [foreign]
    assert not Path(f"/proc/{pid}/ns/net").exists()
    assert sum(line.startswith("network namespace") for line in lines) == 3
    assert any("1 processes" in line for line in lines)
    child.wait(10)
    child.stdout.close()


def test_a_name_without_a_namespace_is_removed_too() -> None:
    """What `ip netns add` leaves when it is killed between its two steps."""
    with Namespaces.create(("P0",)) as living:
        parts = living.name.split("-")
        name = "-".join((*parts[:3], "1", "dead"))  # this pid, but another start
        (cleanup.NAMES / name).touch()
        assert f"network namespace {name}" in cleanup.remove_stale()
    assert not (cleanup.NAMES / name).exists()


def test_a_network_is_free_only_where_nothing_is_routed(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = namespaces.RANGES
    taken = [first]
    monkeypatch.setattr(namespaces, "_routes", lambda: taken)
    assert free_network().subnet_of(second)
    last = IPv4Network("198.19.255.0/24")
    taken += [n for n in second.subnets(new_prefix=24) if n != last]
    assert free_network() == last
    taken.append(last)
    with pytest.raises(TcError, match="no free network"):
        free_network()


def test_a_kernel_without_netem_says_so_and_stays_as_it_was() -> None:
    why = tc_missing()
    if why is None or "not found" in why:
        pytest.skip(why or "this kernel has netem: tests/vm uses it")
    code = (
        "from netem.shaped_interface import ShapedInterface, TcError; from netem.profile import LinkProfile\n"
        "from netem import nic\n"
        "before = nic.sysctls(), nic.qdiscs('eth0'), nic.offloads('eth0')\n"
        "try: ShapedInterface.set_up('P0', {'P0': '%s', 'P1': '%s'}, {'P1': LinkProfile(5, 1e9)})\n"
        "except TcError as error: print(error)\n"
        "assert before == (nic.sysctls(), nic.qdiscs('eth0'), nic.offloads('eth0'))\n"
    )
    with Namespaces.create(("P0", "P1")) as made:
        addresses = tuple(home.address for home in made.homes.values())
        said = run(made.command("P0", (sys.executable, "-c", code % addresses)))
    assert said.startswith("this kernel lacks sch_prio, sch_netem or cls_u32")


def test_loopback_is_refused() -> None:
    with pytest.raises(TcError, match="one queue for all roles"):
        ShapedInterface.set_up(
            "P0", {"P0": "127.0.0.1", "P1": "127.0.0.2"}, {"P1": LinkProfile(5e-3)}
        )
