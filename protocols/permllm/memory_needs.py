"""What PermLLM's roles take of memory and disk: weights (`protocols.footprint`), and what the offline
pass leaves for the online pass, of a whole batch and in every layer.

P0 keeps integer weights, and makes them from float32. Whoever is `mask_holder` keeps W − U, 8 bytes a
weight, in memory or on disk. Of a batch's material P0 keeps the most; the others' parts, with what is
being worked on, are the factors `KEPT`.
"""

from dataclasses import replace

from protocols.arith.prg import KEY_BYTES
from protocols.footprint import Footprint, Need, peaks, sizes
from protocols.party import P0, P1, P2, Role
from protocols.permllm.domain import domain_of
from protocols.permllm.offline_batches import batches, step_bytes
from protocols.permllm.options import PermLLMOptions
from protocols.workload import Generation, Layer, Workload, steps

KERNELS = 430e6  # a party's process, with PermLLM's libraries
KEPT: dict[Role, float] = {P0: 1.2, P1: 0.6, P2: 0.3}  # of what P0 keeps


def needs(workload: Workload, options: PermLLMOptions) -> dict[Role, Need]:
    """Of each role, rather too large for whole models."""
    holder, on_disk = P1 if options.mask_holder == "user" else P2, options.weights_store == "disk"
    held = dict.fromkeys((P1, P2), 0)
    held[holder] = 0 if on_disk else 8
    found = peaks(
        {
            P0: Footprint(KERNELS, options.weight_bits / 8, passing=6, element=50),
            P1: Footprint(KERNELS + 30e6, resident=held[P1], element=50),
            P2: Footprint(KERNELS, resident=held[P2], element=50),
        },
        sizes(workload),
    )
    material = _material(workload, options)
    return {
        role: Need(
            need.memory_bytes + round(KEPT[role] * material),
            disk_bytes(workload, options) if role == holder else 0,
            options.store_dir if role == holder else None,
        )
        for role, need in found.items()
    }


def disk_bytes(workload: Workload, options: PermLLMOptions) -> int:
    """Of W − U in `store_dir`."""
    return 8 * sizes(workload).weights if options.weights_store == "disk" else 0


def stored_bytes(workload: Workload, options: PermLLMOptions) -> dict[Role, int] | None:
    """What each role keeps after `prepare`; None where there is no model.

    P0: W as integers (or float32). `mask_holder`: W − U in the domain's elements, the embedding in a
    window's. Else keys: P2's three, of U, of the masks and of ℓ; with W − U at P2 a second one of P1,
    for V.
    """
    weights = sizes(workload).weights
    if not weights:
        return None
    embedding = 0
    if isinstance(workload, Generation):
        embedding = workload.spec.vocab * workload.spec.d_model
    domain = domain_of(options)
    wide, narrow = domain.dtype.itemsize, domain.window_dtype.itemsize
    weight = options.weight_bits // 8 if options.domain == "ring64" else wide
    masked = wide * (weights - embedding) + narrow * embedding
    at_user = options.mask_holder == "user"
    return {
        P0: weight * weights,
        P1: masked if at_user else 2 * KEY_BYTES,
        P2: 3 * KEY_BYTES + (0 if at_user else masked),
    }


def _material(workload: Workload, options: PermLLMOptions) -> int:
    """Of the largest batch at P0; of the largest two in a row where the second is made ahead."""
    if isinstance(workload, Layer):
        return step_bytes(replace(workload.spec, n_layers=1), workload.kv_len, workload.q_len)
    if not isinstance(workload, Generation):
        return 0
    plan, spec = steps(workload), workload.spec
    length = sum(step.tokens for step in plan)
    rows = [(plan[batch.start].tokens, len(batch)) for batch in batches(workload, options)]
    kept = [count * (step_bytes(spec, length, n) + 20 * n * spec.vocab) for n, count in rows]
    ahead = [*kept[1:], 0] if options.offline_ahead else [0] * len(kept)
    return max(now + later for now, later in zip(kept, ahead, strict=True))
