"""Whether the masks of one step fit the memory of a party."""

from baselines.mpcformer.options import Settings
from baselines.mpcformer.workload_cost import layer_weights, model_weights
from protocols.errors import Unsupported
from protocols.workload import Generation, Layer, Linear, Workload

WORD = 8
LIMIT_BYTES = 8 << 30


def resident_bytes(workload: Workload, settings: Settings) -> int:
    """What a party holds of the weights' masks and openings in one step, at most.

    Faithful: the masked half of every product's matrix (a tied layer's as often as it is used), and
    P0's integers. Reused: two matrices of int64 for each distinct one.
    """
    if isinstance(workload, Layer):
        used = distinct = layer_weights(workload.spec).words
    elif isinstance(workload, Linear):
        used = distinct = workload.d_out * workload.d_in
    elif isinstance(workload, Generation):
        distinct = model_weights(workload).words
        repeats = workload.spec.n_layers - 1 if workload.tie_layers else 0
        used = distinct + repeats * layer_weights(workload.spec).words
    else:
        return 0
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
