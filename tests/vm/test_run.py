"""A whole run over real netem, in a kernel of our own, and what it leaves behind: nothing."""

import json
import sys
from pathlib import Path

import pytest

from tests.vm import uml
from tests.vm.over_netem import checked

pytestmark = pytest.mark.slow

INSIDE = f"""
set -e
{sys.executable} -m harness run experiment=argmax experiment.n=10000 network=permllm-wan \\
  runner=netns shaper=tc repeat=3 warmup=1 calibration.strict=false results_dir={uml.SHARE}/results
ip netns list > {uml.SHARE}/left
ip -o link show | grep -v ' lo: ' >> {uml.SHARE}/left || true
"""


def test_argmax_over_netem(tmp_path: Path) -> None:
    """Right in every trial; every byte through the queues. One processor for all parties makes a run
    slower, but never faster than its link."""
    if why := uml.missing():
        pytest.skip(f"a virtual machine {why}")
    result = uml.run(["sh", "-c", INSIDE], timeout_s=420, memory_mb=2048, share=tmp_path)
    assert result.exit_code == 0, f"{result.output}\n{result.console}"
    assert (tmp_path / "left").read_text() == ""
    record = checked(tmp_path / "results")
    assert record.network.interfaces["P2"]["counted"] == {}


def test_the_emulated_link_takes_what_netem_takes() -> None:
    if why := uml.missing():
        pytest.skip(f"a virtual machine {why}")
    result = uml.run([sys.executable, "-m", "tests.vm.inside_pattern"], timeout_s=280)
    assert result.exit_code == 0, f"{result.output}\n{result.console}"
    found = json.loads(result.output.splitlines()[-1])
    assert min(found["waiting"]["tc"]) > found["ideal_s"]
    # METHODOLOGY has how near they are; here a busy host must not fail. An emulated link that begins when
    # its receiver has time to read is 28 % above netem where parties compute.
    for kind in ("waiting", "computing"):
        times = found[kind]
        assert min(times["emulated"]) == pytest.approx(min(times["tc"]), rel=0.2), kind
