"""Whole runs over real netem, each in a kernel of its own: parties in namespaces, programs of others, and
containers. What they leave behind: nothing.

One processor for all parties makes a run slower, but never faster than its link.
"""

import os
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from harness.records.store import load_all
from tests.vm import disk, uml
from tests.vm.over_netem import checked

pytestmark = pytest.mark.slow

# Over any link, and with time for kernels of numba that are not compiled yet.
AT_ONCE = "calibration.strict=false calibration.patience_s=0 timeout_s=300"
NAMESPACES = f"""
set -e
{sys.executable} -m harness run experiment=argmax experiment.n=10000 network=permllm-wan \\
  runner=netns shaper=tc repeat=3 warmup=1 {AT_ONCE} results_dir={uml.SHARE}/results
ip netns list > {uml.SHARE}/left
ip -o link show | grep -v ' lo: ' >> {uml.SHARE}/left || true
"""
PROGRAM = """
import socket, sys, time
role, host, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
peer = socket.create_server((host, port)).accept()[0] if role == "P0" else None
while peer is None:
    try:
        peer = socket.create_connection((host, port))
    except ConnectionRefusedError:
        time.sleep(0.1)
print("ready", flush=True)
input()
for _ in range(10):
    peer.sendall(bytes(1000)) if role == "P1" else None
    peer.recv(1000, socket.MSG_WAITALL)
    peer.sendall(bytes(1000)) if role == "P0" else None
print("answer 1", flush=True)
"""
FILE = f"""
ready: ready
go: true
roles:
  P0: {{command: "{sys.executable} program.py P0 {{host}} {{port}}"}}
  P1: {{command: "{sys.executable} program.py P1 {{host:P0}} {{port:P0}}"}}
answer: {{role: P1, pattern: "answer (.*)", expected: 1}}
"""
PROGRAMS = f"""
set -e
{sys.executable} -m harness run experiment=program system=external system.file={uml.SHARE}/file.yaml \\
  network=permllm-wan runner=netns shaper=tc repeat=2 warmup=1 {AT_ONCE} results_dir={uml.SHARE}/results
ip netns list > {uml.SHARE}/left
"""
CONTAINERS = f"""
set -e
for name in iptables ip6tables; do ln -sf $name-legacy /usr/sbin/$name; done
mount -t tmpfs cgroup /sys/fs/cgroup
for name in $(awk '!/^#/ && $4 {{ print $1 }}' /proc/cgroups); do
  mkdir -p /sys/fs/cgroup/$name && mount -t cgroup -o $name cgroup /sys/fs/cgroup/$name
done
mkdir -p /disk && mount -t ext4 /dev/ubda /disk
rm -rf /disk/containers /disk/network /disk/swarm /disk/containerd
dockerd --data-root /disk --exec-root /run/docker --pidfile /run/docker.pid > /share/daemon 2>&1 &
for i in $(seq 120); do docker version > /dev/null 2>&1 && break; sleep 0.5; done
{sys.executable} -m harness run experiment=argmax experiment.n=10000 network=permllm-wan runner=docker \\
  shaper=tc repeat=3 warmup=1 {AT_ONCE} results_dir=/share/results
(docker ps -aq; docker network ls -q -f label=permbench.run) > /share/left
"""
# Docker's own rules need the older iptables, and one hierarchy of cgroups for each controller.
DOCKER_MODULES = (
    *uml.NETWORK_MODULES,
    *("br_netfilter", "iptable_filter", "iptable_nat", "xt_conntrack", "xt_MASQUERADE"),
    *("xt_addrtype", "xt_comment", "xt_mark"),
)


@dataclass(frozen=True)
class Started:
    """A kernel that has been started, or soon will, and its /share."""

    result: Future[uml.Result]
    share: Path

    def ended(self) -> Path:
        """Its /share, once all went well in there and nothing was left."""
        result = self.result.result()
        assert result.exit_code == 0, f"{result.output}\n{result.console}"
        assert (self.share / "left").read_text() == ""
        return self.share


@pytest.fixture(scope="module")
def kernels(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Started]]:
    """Those of the tests here that are to run, by their names, two at a time and the longest first: a
    kernel has one processor, and no test here minds another that is busy."""
    if why := uml.missing():
        pytest.skip(f"a virtual machine {why}")
    asked = {item.name for item in request.session.items}
    runs = {
        test_containers_over_netem.__name__: in_containers,
        test_argmax_over_netem.__name__: in_namespaces,
        test_programs_over_netem.__name__: of_programs,
    }
    with ThreadPoolExecutor(2) as pool:
        folders = {name: tmp_path_factory.mktemp(name) for name in runs if name in asked}
        yield {
            name: Started(pool.submit(runs[name], folder), folder)
            for name, folder in folders.items()
        }


run = partial(uml.run, timeout_s=420, memory_mb=2048)


def in_namespaces(share: Path) -> uml.Result:
    return run(["sh", "-c", NAMESPACES], share=share)


def of_programs(share: Path) -> uml.Result:
    (share / "program.py").write_text(PROGRAM)
    (share / "file.yaml").write_text(FILE)
    return run(["sh", "-c", PROGRAMS], share=share)


def in_containers(share: Path) -> uml.Result:
    """Raises Skipped where no disk with Docker's images can be made."""
    if why := disk.missing():
        if os.environ.get("PERMBENCH_CI") == "docker":
            pytest.fail(why)
        pytest.skip(f"no disk with Docker images: {why}")
    image = share.with_suffix(".disk")
    try:
        disk.make(image)
        return uml.run(
            ["sh", "-c", CONTAINERS],
            timeout_s=700,  # about 270 where nothing else runs
            memory_mb=3072,
            modules=DOCKER_MODULES,
            share=share,
            kernel_arguments=[f"ubd0={image}"],
        )
    finally:
        image.unlink(missing_ok=True)


def test_argmax_over_netem(kernels: dict[str, Started]) -> None:
    """Right in every trial; every byte through the queues."""
    record = checked(kernels["test_argmax_over_netem"].ended() / "results")
    assert record.network.interfaces["P2"]["counted"] == {}


def test_programs_over_netem(kernels: dict[str, Started]) -> None:
    """No faster than the link, and every byte counted by the interfaces."""
    (record,) = load_all(kernels["test_programs_over_netem"].ended() / "results")
    assert (record.status, record.error) == ("ok", None)
    online = record.phases["online"]
    assert min(online.wall_ns) >= 100_000_000
    for role, peer in (("P0", "P1"), ("P1", "P0")):
        sent = online.roles[role].sent[peer]
        assert 10_000 <= sent.payload_bytes <= 10_500
        assert sent.wire_bytes >= 10_000 + 10 * 66


def test_containers_over_netem(kernels: dict[str, Started]) -> None:
    """The right answer in 4 hops, every byte through the queues of the containers, nothing left."""
    checked(kernels["test_containers_over_netem"].ended() / "results")
