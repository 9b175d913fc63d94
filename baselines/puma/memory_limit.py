"""What a party's shared weights take, and whether three parties fit this machine."""

import os

from baselines.puma.generation import share_model_cost
from baselines.puma.layer import share_layer_cost
from baselines.puma.linear import share_linear_cost
from protocols.errors import Unsupported
from protocols.party import P0, P1
from protocols.workload import Generation, Layer, Linear, Workload

PARTIES = 3
USABLE = 0.8  # of the memory; the rest is for the system, activations and P0's plain weights


def weight_bytes(workload: Workload) -> int:
    """Two parts of 8 bytes for each weight, at each party."""
    if isinstance(workload, Layer):
        given = share_layer_cost(workload.spec)
    elif isinstance(workload, Linear):
        given = share_linear_cost(workload.d_out, workload.d_in)
    elif isinstance(workload, Generation):
        given = share_model_cost(workload)
    else:
        return 0
    return 2 * given.payload_bytes[P0, P1]


def check_memory(workload: Workload) -> None:
    """Raise Unsupported where the shares of the weights do not fit."""
    need = PARTIES * weight_bytes(workload)
    have = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if need > USABLE * have:
        raise Unsupported(
            f"shared weights take {need / 1e9:.1f} GB over three parties on this machine, "
            f"which has {have / 1e9:.1f} GB"
        )
