"""Whether the masks of one step fit the memory of a party."""

from baselines.additive.options import Settings
from protocols.errors import Unsupported
from protocols.footprint import layer_weights, sizes
from protocols.workload import Generation, Workload

WORD = 8
LIMIT_BYTES = 8 << 30


def resident_bytes(workload: Workload, settings: Settings) -> int:
    """What a party holds of the weights' masks and openings in one step, at most.

    Faithful: the masked half of every product's matrix (a tied layer's as often as it is used), and
    P0's integers. Reused: two matrices of int64 for each distinct one.
    """
    used = distinct = sizes(workload).weights
    if isinstance(workload, Generation) and workload.tie_layers:
        used += (workload.spec.n_layers - 1) * layer_weights(workload.spec)
    if settings.reuse_weight_masks:
        return 2 * WORD * distinct
    return WORD * used + 2 * distinct


def check_memory(workload: Workload, settings: Settings) -> None:
    """Raise Unsupported where the masks of one step are too large to be dealt ahead."""
    needed = resident_bytes(workload, settings)
    if needed > LIMIT_BYTES:
        raise Unsupported(
            f"the weights' masks of one step take {needed / 2**30:.0f} GiB a party, "
            f"more than {LIMIT_BYTES >> 30} GiB"
        )
