import json
from dataclasses import replace

from netem.measurement import DirectionMeasurement, LinkMeasurement, Rung
from netem.profile import LinkProfile
from netem.tolerance import judge

WAN = LinkProfile.rtt(10e-3, 1e9)
SIZES = (4_000, 64_000, 1_000_000, 4_000_000)


def direction(profile: LinkProfile) -> DirectionMeasurement:
    return DirectionMeasurement(
        one_way_s=profile.delay_s,
        expected_one_way_s=profile.delay_s,
        ladder=tuple(Rung(n, profile.transfer_s(n), profile.transfer_s(n)) for n in SIZES),
        bulk_bytes=10_000_000,
        bulk_bit_s=profile.rate_bit_s or 20e9,
        both_bit_s=profile.rate_bit_s or 20e9,
        expected_bit_s=profile.rate_bit_s,
    )


def perfect(profile: LinkProfile) -> LinkMeasurement:
    return LinkMeasurement(
        2 * profile.delay_s, 2 * profile.delay_s, direction(profile), direction(profile)
    )


def test_a_perfect_link_is_within_tolerance() -> None:
    for profile in (WAN, LinkProfile(), LinkProfile(delay_s=5e-3), LinkProfile.rtt(1e-3, 5e9)):
        assert judge(perfect(profile), (profile, profile)) == []


def test_each_way_to_be_wrong_is_named() -> None:
    good = perfect(WAN)
    cold = replace(good.forward, ladder=(*good.forward.ladder[:2], Rung(10**6, 40e-3, 13e-3)))
    wrong = {
        "rtt takes 11.000 ms instead of 10.000": replace(good, rtt_s=11e-3),
        "rtt takes 5.100 ms": replace(good, rtt_s=5.1e-3),  # one direction is not delayed
        "forward 1000000 bytes takes 40.000 ms": replace(good, forward=cold),
        "backward bulk is 5000.0 Mbit/s instead of 1000": replace(
            good, backward=replace(good.backward, bulk_bit_s=5e9)
        ),
        "forward both-ways bulk is 500.0 Mbit/s": replace(
            good, forward=replace(good.forward, both_bit_s=0.5e9)
        ),
    }
    for text, measurement in wrong.items():
        (reason,) = judge(measurement, (WAN, WAN))
        assert f"{reason.direction} {reason.text}".strip().startswith(text)
        assert reason.excess > 1


def test_the_worst_comes_first() -> None:
    good = perfect(WAN)
    slow = replace(good.backward, bulk_bit_s=0.5e9)
    first, second = judge(replace(good, rtt_s=11e-3, backward=slow), (WAN, WAN))
    assert (first.direction, second.text[:9]) == ("backward", "rtt takes")
    assert first.excess > 9 > second.excess > 1


def test_an_unshaped_link_must_not_be_slowed_by_something_else() -> None:
    slow = LinkProfile.rtt(60e-3, 1e8)
    reasons = judge(perfect(slow), (LinkProfile(), LinkProfile()))
    assert any("on a link without delay" in reason.text for reason in reasons)
    assert any("on a link without a rate" in reason.text for reason in reasons)


def test_jitter_widens_the_tolerance() -> None:
    jittery = replace(WAN, jitter_s=2e-3)
    assert judge(replace(perfect(WAN), rtt_s=11e-3), (jittery, jittery)) == []


def test_a_measurement_is_json_with_its_errors() -> None:
    measured = replace(perfect(WAN), rtt_s=10.1e-3).to_dict()
    assert json.loads(json.dumps(measured)) == measured
    assert abs(measured["rtt_error"] - 0.01) < 1e-9
    assert measured["forward"]["ladder"][0]["error"] == 0
    assert perfect(LinkProfile()).to_dict()["backward"]["bulk_error"] is None
