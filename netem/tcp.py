"""What TCP needs so that a link, and not TCP, sets the pace: buffers that admit the link's
bandwidth-delay product, and a window that is open and stays open. Pure functions.

A connection that was idle for longer than its retransmission timeout starts slowly again by default;
in a protocol every phase of compute would be followed by half a dozen round trips of warming up. And
a slow start ends early where acknowledgements wait behind data of the other direction: two bulk
messages at once then get three quarters of the rate each.
"""

from collections.abc import Iterable, Mapping

from netem.profile import LinkProfile

ASSUMED_BIT_S = 40e9  # of a link without a rate, to size its buffers
BUFFER_BYTES = 64 << 20  # the least: a program may also send at full speed between shaped phases
LARGEST_BUFFER_BYTES = 1 << 30
# Buffers hold packets with their overhead, about twice their payload; twice again is headroom.
BUFFER_PER_BDP = 4

WINDOW_PACKETS = BUFFER_BYTES // 2 // 1448  # a route's initcwnd, for connections that open later

SYSCTLS = {
    "tcp_slow_start_after_idle": "0",
    "tcp_no_metrics_save": "1",
    "tcp_rmem": f"4096 131072 {BUFFER_BYTES}",
    "tcp_wmem": f"4096 16384 {BUFFER_BYTES}",
}
# Recorded, whoever set them: they change what a connection does on the same link.
RECORDED = (
    *SYSCTLS,
    "tcp_congestion_control",
    "tcp_limit_output_bytes",
    "tcp_moderate_rcvbuf",
    "tcp_sack",
    "tcp_timestamps",
    "tcp_window_scaling",
)


def bdp_bytes(profile: LinkProfile) -> int:
    """Bytes on their way when a sender fills the link, the way back being as long as the way there."""
    rtt_s = 2 * (profile.delay_s + profile.jitter_s)
    return round((profile.rate_bit_s or ASSUMED_BIT_S) / 8 * rtt_s)


def buffer_bytes(profile: LinkProfile) -> int:
    """Largest TCP buffer, in bytes, at either end of the link."""
    needed = BUFFER_PER_BDP * bdp_bytes(profile)
    return min(max(BUFFER_BYTES, needed), LARGEST_BUFFER_BYTES)


def sysctl_changes(now: Mapping[str, str], profiles: Iterable[LinkProfile]) -> dict[str, str]:
    """Which of net.ipv4's sysctls must change, and to what, for links of these profiles.

    now: the present values, as /proc/sys spells them. Buffers are never made smaller.
    """
    largest = max(map(buffer_bytes, profiles), default=BUFFER_BYTES)
    changes = {}
    for name in SYSCTLS.keys() & now.keys():  # an old kernel may not have them all
        value, wanted = now[name].split(), SYSCTLS[name]
        if len(value) == 3:
            if int(value[2]) < largest:
                changes[name] = f"{value[0]} {value[1]} {largest}"
        elif value != [wanted]:
            changes[name] = wanted
    return changes
