"""Containers over real netem: a daemon, its network and three parties in a kernel of our own."""

import os
import sys
from pathlib import Path

import pytest

from tests.vm import disk, uml
from tests.vm.over_netem import checked

pytestmark = pytest.mark.slow

# Docker's own rules need the older iptables, and one hierarchy of cgroups for each controller.
MODULES = (
    *uml.NETWORK_MODULES,
    *("br_netfilter", "iptable_filter", "iptable_nat", "xt_conntrack", "xt_MASQUERADE"),
    *("xt_addrtype", "xt_comment", "xt_mark"),
)
INSIDE = """
set -e
for name in iptables ip6tables; do ln -sf $name-legacy /usr/sbin/$name; done
mount -t tmpfs cgroup /sys/fs/cgroup
for name in $(awk '!/^#/ && $4 { print $1 }' /proc/cgroups); do
  mkdir -p /sys/fs/cgroup/$name && mount -t cgroup -o $name cgroup /sys/fs/cgroup/$name
done
mkdir -p /disk && mount -t ext4 /dev/ubda /disk
rm -rf /disk/containers /disk/network /disk/swarm /disk/containerd
dockerd --data-root /disk --exec-root /run/docker --pidfile /run/docker.pid > /share/daemon 2>&1 &
for i in $(seq 120); do docker version > /dev/null 2>&1 && break; sleep 0.5; done
PYTHON -m harness run experiment=argmax experiment.n=10000 network=permllm-wan runner=docker \\
  shaper=tc repeat=3 warmup=1 calibration.strict=false results_dir=/share/results
(docker ps -aq; docker network ls -q -f label=permbench.run) > /share/left
"""


def test_containers_over_netem(tmp_path: Path) -> None:
    """The right answer in 4 hops, every byte through the queues of the containers, nothing left."""
    if why := uml.missing():
        pytest.skip(f"a virtual machine {why}")
    if why := disk.missing():
        if os.environ.get("PERMBENCH_CI") == "docker":
            pytest.fail(why)
        pytest.skip(f"no disk with Docker images: {why}")
    disk.make(tmp_path / "disk")
    share = tmp_path / "share"
    try:
        result = uml.run(
            ["sh", "-c", INSIDE.replace("PYTHON", sys.executable)],
            timeout_s=600,  # about 270 where nothing else runs
            memory_mb=3072,
            modules=MODULES,
            share=share,
            kernel_arguments=[f"ubd0={tmp_path / 'disk'}"],
        )
    finally:
        (tmp_path / "disk").unlink()
    assert result.exit_code == 0, f"{result.output}\n{result.console}"
    assert (share / "left").read_text() == ""
    checked(share / "results")
