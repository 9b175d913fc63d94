"""What a run would do to the network, without doing it."""

from harness.config.schema import RunConfig
from harness.machine.resource_check import available_bytes, needed_bytes
from harness.records.stats import format_bytes
from harness.registry import system_class
from netem.profile import LinkProfile
from netem.tc import Peer, plan
from protocols.errors import Unsupported
from protocols.party import ALL_ROLES, Role

INTERFACE = "eth0"
ADDRESSES: dict[Role, str] = {role: f"10.0.0.{10 + i}" for i, role in enumerate(ALL_ROLES)}


def print_plan(config: RunConfig, title: str) -> None:
    """Print the run's `title`, its links, and with shaper=tc each role's commands.

    The addresses stand for those that the parties will have.
    """
    print(title)
    if needed := sum(needed_bytes(config).values()):
        print(f"  memory about {format_bytes(needed)}, {format_bytes(available_bytes())} available")
    if chosen := _parameters(config):
        print(f"  {chosen}")
    roles, profiles = config.system.roles(), config.profiles()
    for (a, b), profile in profiles.items():
        if profile.shaped:
            print(f"  {a}>{b} {_describe(profile)}")
    if config.shaper.name != "tc":
        print(f"  shaper {config.shaper.name}: no command")
        return
    for role in roles:
        peers = [Peer(to, ADDRESSES[to], profiles[role, to]) for to in roles if to != role]
        for line in plan(INTERFACE, peers).lines():
            print(f"  {role} ({ADDRESSES[role]})$ {line}")


def _parameters(config: RunConfig) -> str | None:
    """What the system would choose; None where it cannot do the run either."""
    try:
        workload = config.workload()
        return system_class(config.system.name).parameters(workload, config.system.options())
    except Unsupported:
        return None


def _describe(profile: LinkProfile) -> str:
    rate = "unlimited" if profile.rate_bit_s is None else f"{profile.rate_bit_s / 1e6:g} Mbit/s"
    arguments = [f"delay {profile.delay_s * 1e3:g} ms", rate]
    if profile.jitter_s:
        arguments.append(f"jitter ±{profile.jitter_s * 1e3:g} ms")
    if profile.loss:
        arguments.append(f"loss {profile.loss:.3%}")
    return ", ".join(arguments)
