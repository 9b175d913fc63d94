"""What a party's shared weights take, and whether three parties fit this machine."""

import os

from baselines.puma.options import PumaOptions
from baselines.puma.primitives import PumaCosts
from protocols.errors import Unsupported
from protocols.party import P0, P1
from protocols.workload import Workload

PARTIES = 3
USABLE = 0.8  # of the memory; the rest is for the system, activations and P0's plain weights


def weight_bytes(workload: Workload) -> int:
    """Two parts of 8 bytes for each weight, at each party."""
    return 2 * PumaCosts(PumaOptions()).of(workload).prepared.payload_bytes[P0, P1]


def check_memory(workload: Workload) -> None:
    """Raise Unsupported where the shares of the weights do not fit."""
    need = PARTIES * weight_bytes(workload)
    have = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if need > USABLE * have:
        raise Unsupported(
            f"shared weights take {need / 1e9:.1f} GB over three parties on this machine, "
            f"which has {have / 1e9:.1f} GB"
        )
