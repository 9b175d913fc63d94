"""What permbench's own links take beside real netem, in a kernel of our own.

METHODOLOGY has how near they are; here a busy host must not fail.
"""

import json
import sys
from typing import Any

import pytest

from tests.vm import uml

pytestmark = pytest.mark.slow


def printed(module: str) -> Any:
    """What it printed last, in there."""
    if why := uml.missing():
        pytest.skip(f"a virtual machine {why}")
    result = uml.run([sys.executable, "-m", module], timeout_s=280)
    assert result.exit_code == 0, f"{result.output}\n{result.console}"
    return json.loads(result.output.splitlines()[-1])


def test_the_emulated_link_takes_what_netem_takes() -> None:
    """One that begins when its receiver has time to read is 28 % above netem where parties compute."""
    found = printed("tests.vm.inside_pattern")
    assert min(found["waiting"]["tc"]) > found["ideal_s"]
    for kind in ("waiting", "computing"):
        times = found[kind]
        assert min(times["emulated"]) == pytest.approx(min(times["tc"]), rel=0.2), kind


def test_a_stream_takes_over_the_proxy_what_it_takes_over_netem() -> None:
    found = printed("tests.vm.inside_stream")
    for ideal, proxy, tc in zip(found["ideal"], found["proxy"], found["tc"], strict=True):
        assert min(proxy, tc) >= ideal
        assert proxy == pytest.approx(tc, rel=0.3, abs=5e-3)
