"""Which link stands at which role."""

from harness.parties.job import Shaping
from netem.profile import LinkProfile
from protocols.party import P0, P1


def test_a_role_receives_over_the_links_that_lead_to_it() -> None:
    there, back = LinkProfile(1e-3), LinkProfile(2e-3)
    shaping = Shaping("emulated", {"P0>P1": there, "P1>P0": back}, ("online",))
    assert {role: link.profile for role, link in shaping.emulated_to(P1).items()} == {P0: there}
    assert {role: link.profile for role, link in shaping.emulated_to(P0).items()} == {P1: back}
