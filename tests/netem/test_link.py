import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netem.emulated_link import EmulatedLink, wait_until
from netem.profile import LinkProfile

MS = 1_000_000
Sends = list[tuple[int, int]]  # (time since the last, bytes)
sends = st.lists(st.tuples(st.integers(0, 50 * MS), st.integers(0, 10_000_000)), max_size=30)


def arrivals(profile: LinkProfile, seed: int, messages: Sends) -> list[int]:
    link, now_ns, out = EmulatedLink(profile, seed), 10**12, []
    for gap_ns, size in messages:
        now_ns += gap_ns
        out.append(link.arrival_ns(now_ns, size))
    return out


@given(sends)
def test_arrival_follows_the_closed_form_of_a_fifo(messages: Sends) -> None:
    profile = LinkProfile(delay_s=5e-3, rate_bit_s=1e9)
    entered_ns, now_ns = [], 10**12
    for gap_ns, _ in messages:
        entered_ns.append(now_ns := now_ns + gap_ns)
    # Lindley: message n is out when the last busy period that leads to it is: the worst start i ≤ n.
    expected = [
        max(entered_ns[i] + sum(8 * size for _, size in messages[i : n + 1]) for i in range(n + 1))
        for n in range(len(messages))
    ]
    assert arrivals(profile, 0, messages) == [free_ns + 5 * MS for free_ns in expected]


def test_unlimited_rate_only_delays() -> None:
    link = EmulatedLink(LinkProfile(delay_s=5e-3), 0)
    assert [link.arrival_ns(n, 10**9) for n in (0, 0, 7)] == [5 * MS, 5 * MS, 5 * MS + 7]


@given(sends, st.integers())
def test_jitter_is_reproducible_bounded_and_keeps_the_order(messages: Sends, seed: int) -> None:
    profile = LinkProfile(delay_s=5e-3, rate_bit_s=1e9, jitter_s=4e-3)
    jittered = arrivals(profile, seed, messages)
    steady = arrivals(LinkProfile(delay_s=5e-3, rate_bit_s=1e9), seed, messages)
    assert jittered == arrivals(profile, seed, messages)
    assert jittered == sorted(jittered)
    limit_ns = [4 * MS] * len(steady)
    assert all(abs(a - b) <= c for a, b, c in zip(jittered, steady, limit_ns, strict=True))


def test_jitter_spreads_over_its_whole_range() -> None:
    link = EmulatedLink(LinkProfile(delay_s=5e-3, jitter_s=4e-3), 1)
    delays = [link.arrival_ns(n * 10**9, 8) - n * 10**9 for n in range(1, 1000)]
    assert min(delays) < 1.2 * MS
    assert max(delays) > 8.8 * MS
    assert abs(sum(delays) / len(delays) - 5 * MS) < 0.3 * MS


def test_loss_needs_another_shaper() -> None:
    with pytest.raises(ValueError, match="packet-level shaper"):
        EmulatedLink(LinkProfile(loss=0.01), 0)


def test_wait_until_is_never_early_and_mostly_exact() -> None:
    late_ns = []
    for _ in range(30):
        arrival_ns = time.monotonic_ns() + random.randrange(4 * MS)
        wait_until(arrival_ns)
        late_ns.append(time.monotonic_ns() - arrival_ns)
    assert min(late_ns) >= 0
    assert sorted(late_ns)[10] < 200_000
