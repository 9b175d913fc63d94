"""What a machine can do: independent checks, each with a reason and a remedy."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from statistics import median
from typing import Literal

import psutil

from harness.errors import RunnerError
from harness.machine import docker_leftovers as clean
from harness.machine.capabilities import (
    MissingRequirement,
    missing_for_docker,
    missing_for_netns,
    missing_for_tc,
)
from harness.records.environment import PACKAGES, governor, usable_cores
from harness.records.stats import format_bytes, format_ns
from netem import cleanup
from netem.command import TcError
from netem.emulated_link import date_arrivals

State = Literal["ok", "warning", "missing"]
MODULES = {"hydra-core": "hydra"}
SLEEP_NS = 1_000_000
REINSTALL = "python3 -m pip install -e '.[dev]'"


@dataclass(frozen=True)
class Check:
    """What was looked at, what was found, why it matters, and the command that mends it.

    A `needed` check that is `missing` means that no run is possible.
    """

    name: str
    state: State
    found: str
    remedy: str = ""
    needed: bool = False


def check_python() -> Check:
    """Python 3.11 or later."""
    found = ".".join(map(str, sys.version_info[:3]))
    state: State = "ok" if sys.version_info >= (3, 11) else "missing"
    remedy = "sudo apt-get install python3.11 python3.11-venv"
    return Check("python", state, f"{found}; 3.11 or later is needed", remedy, True)


def check_packages() -> Check:
    """Every runtime dependency can be imported."""
    broken = [problem for name in PACKAGES if (problem := _import_problem(name))]
    if broken:
        return Check("packages", "missing", "; ".join(broken), REINSTALL, needed=True)
    return Check("packages", "ok", f"all {len(PACKAGES)} can be imported", needed=True)


def check_cores() -> Check:
    """A core for each of three parties."""
    cores = usable_cores()
    if cores >= 3:
        return Check("cores", "ok", f"{cores}: one for each of three parties")
    why = f"{cores}: three parties share them, so times include waiting for each other"
    return Check("cores", "warning", why, "use a machine with 4 cores, and keep threads=1")


def check_memory() -> Check:
    """Room for one layer of a 6B model in three processes."""
    memory = psutil.virtual_memory()
    found = f"{format_bytes(memory.available)} of {format_bytes(memory.total)} available"
    if memory.available >= 6e9:
        return Check("memory", "ok", found)
    why = f"{found}; a 4096-wide layer takes about 6 GB in three processes"
    return Check("memory", "warning", why, "close other programs, or use a smaller model=")


def check_clock() -> Check:
    """The monotonic clock ticks finely, and sleeping ends soon after it should."""
    resolution = time.get_clock_info("monotonic").resolution * 1e9
    overshoot = median(_overshoot_ns() for _ in range(20))
    found = f"resolution {format_ns(resolution)}, a 1 ms sleep is {format_ns(overshoot)} late"
    if resolution <= 1e3 and overshoot <= 500e3:
        return Check("clock", "ok", found)
    why = f"{found}: small delays will be off"
    return Check("clock", "warning", why, "stop other programs; cat /proc/timer_list")


def check_sockets() -> Check:
    """TCP over loopback, which connects the parties."""
    try:
        with socket.create_server(("127.0.0.1", 0)) as server:
            socket.create_connection(server.getsockname(), timeout=5).close()
    except OSError as error:
        return Check(
            "sockets", "missing", f"no TCP on 127.0.0.1: {error}", "ip link set lo up", True
        )
    return Check("sockets", "ok", "TCP on 127.0.0.1 works", needed=True)


def check_local_runner() -> Check:
    """Another Python process starts."""
    begin = time.monotonic_ns()
    try:
        subprocess.run([sys.executable, "-c", ""], capture_output=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        return Check("runner local", "missing", f"no process starts: {error}", "ulimit -u", True)
    took = time.monotonic_ns() - begin
    return Check("runner local", "ok", f"a process starts in {format_ns(took)}", needed=True)


def check_emulated_shaper() -> Check:
    """The user-space link needs a clock that ticks finely enough; better if the kernel dates messages."""
    resolution = time.get_clock_info("monotonic").resolution
    if resolution > 1e-4:
        why = f"the clock ticks every {format_ns(resolution * 1e9)}; links need 100 µs"
        return Check("shaper emulated", "missing", why, "use a kernel with hrtimers", True)
    with socket.socket() as sock:
        if not date_arrivals(sock):
            why = (
                "this kernel does not date what comes in: a party that computes delays its messages"
            )
            return Check("shaper emulated", "warning", why, "run outside of this sandbox")
    return Check("shaper emulated", "ok", "needs no privilege and no kernel module", needed=True)


def check_netns_runner() -> Check:
    """Network namespaces, for `runner=netns`."""
    return _optional("runner netns", missing_for_netns(), "a network namespace can be made")


def check_docker_runner() -> Check:
    """A Docker daemon and the parties' image, for `runner=docker`."""
    return _optional("runner docker", missing_for_docker(), "the daemon answers and has the image")


def check_tc_shaper() -> Check:
    """sch_netem and its tools, for `shaper=tc`; tried in a namespace that vanishes with the try."""
    return _optional("shaper tc", missing_for_tc(), "this kernel has netem")


def _optional(name: str, found: MissingRequirement | None, good: str) -> Check:
    return Check(name, "missing", found.why, found.remedy) if found else Check(name, "ok", good)


def check_left_behind() -> Check:
    """Nothing of a run that was killed: namespaces, links, containers, Docker networks."""
    names = left_behind()
    if not names:
        return Check("left behind", "ok", "nothing")
    return Check("left behind", "warning", ", ".join(names), "permbench doctor --clean")


def left_behind() -> list[str]:
    """Names of what runs left behind whose process is gone."""
    return [name for stale in (cleanup.stale, clean.stale) for name in _if_any(stale)]


def remove_left_behind() -> list[str]:
    """Remove that, and nothing else; a line for each thing removed."""
    removers = (cleanup.remove_stale, clean.remove_stale)
    return [line for remove in removers for line in _if_any(remove)]


def _if_any(act: Callable[[], list[str]]) -> list[str]:
    """Where the tools or the daemon are missing there is nothing of ours to find."""
    try:
        return act()
    except (TcError, RunnerError):
        return []


def check_governor() -> Check:
    """The CPU runs at a steady frequency."""
    found = governor()
    if found in (None, "performance"):
        return Check("governor", "ok", found or "not shown here (usual in a virtual machine)")
    why = f"{found}: the frequency follows the load, so short runs vary"
    install = "" if shutil.which("cpupower") else "sudo apt-get install linux-cpupower; "
    remedy = f"{install}sudo cpupower frequency-set -g performance"
    return Check("governor", "warning", why, remedy)


def check_load() -> Check:
    """Nothing else is using the cores."""
    load = os.getloadavg()[0]
    if load <= 0.3 * usable_cores():
        return Check("load", "ok", f"{load:.2f} over the last minute")
    why = f"{load:.2f} over the last minute: other programs use the cores"
    return Check("load", "warning", why, "top; wait until the load falls")


CHECKS: tuple[Callable[[], Check], ...] = (
    check_python,
    check_packages,
    check_cores,
    check_memory,
    check_clock,
    check_sockets,
    check_local_runner,
    check_emulated_shaper,
    check_netns_runner,
    check_docker_runner,
    check_tc_shaper,
    check_left_behind,
    check_governor,
    check_load,
)


def run_checks() -> list[Check]:
    """All checks. Importing every package takes a few seconds, so the load is looked at first."""
    load = check_load()
    return [load if check is check_load else check() for check in CHECKS]


def usable(checks: list[Check]) -> bool:
    """Whether runner `local` and shaper `emulated` work here."""
    return not any(check.needed and check.state == "missing" for check in checks)


def _import_problem(name: str) -> str | None:
    try:
        import_module(MODULES.get(name, name))
    except (ImportError, OSError) as error:
        return f"{name}: {error}"
    return None


def _overshoot_ns() -> int:
    begin = time.monotonic_ns()
    time.sleep(SLEEP_NS / 1e9)
    return time.monotonic_ns() - begin - SLEEP_NS
