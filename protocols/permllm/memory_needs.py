"""What PermLLM's roles take of memory and disk: weights (`protocols.footprint`), and what the offline
pass leaves for the online pass, of a whole batch and in every layer.

P0 keeps integer weights, and makes them from float32. Whoever is `mask_holder` keeps W − U, 8 bytes a
weight, in memory or on disk. Of a batch's material P0 keeps the most and P1 a part (`KEPT`). It grows
while the offline pass goes on and shrinks with the online one, so that the peak is that of material or
of what is worked on, whichever is larger. What variant=fused keeps for slots P0 and P1 have alike.

Measured, GPT-2: with 512 tokens 3.2, 3.5 and 0.9 GB at P0, P1 and P2; with 2,048 and material on disk
5.9, 4.5 and 2.3 GB. (Then P0 kept 44 bytes a score instead of 36.)
"""

from dataclasses import replace

from protocols.arith.prg import KEY_BYTES
from protocols.footprint import Footprint, Need, peaks, sizes
from protocols.party import P0, P1, P2, Role
from protocols.permllm.attention_tiles import score_count, tiles_of
from protocols.permllm.domain import domain_of
from protocols.permllm.fused_layer import fuses_norms
from protocols.permllm.offline_batches import batches, slot_bytes, step_bytes
from protocols.permllm.options import PermLLMOptions, slots_dealt
from protocols.transformer.model import visible_prefix
from protocols.workload import Generation, Layer, Workload, steps

KERNELS = 430e6  # a party's process, with PermLLM's libraries
ELEMENT = 50  # bytes for each value of the widest tensors
PASSING = 6  # for each weight of the part that P0 quantizes, and gives back before the offline pass
KEPT: dict[Role, float] = {P0: 1.0, P1: 0.85, P2: 0.0}  # of what P0 keeps
ONEHOT: dict[Role, int] = {P0: 24, P1: 8, P2: 8}  # bytes for each element, with what multiplies it


def needs(workload: Workload, options: PermLLMOptions) -> dict[Role, Need]:
    """Of each role, rather too large for whole models."""
    holder, on_disk = P1 if options.mask_holder == "user" else P2, options.weights_store == "disk"
    held = dict.fromkeys((P1, P2), 0)
    held[holder] = 0 if on_disk else 8
    found = peaks(
        {
            P0: Footprint(KERNELS, options.weight_bits / 8, passing=PASSING),
            P1: Footprint(KERNELS + 30e6, resident=held[P1]),
            P2: Footprint(KERNELS, resident=held[P2]),
        },
        sizes(workload),
    )
    worked = {role: ELEMENT * _activations(workload, size) for role, size in ONEHOT.items()}
    material, slots = _material(workload, options), _slots(workload, options)
    kept = {role: round(part * material) for role, part in KEPT.items()}
    kept[P1] += _onehots(workload, options)
    stored = dict.fromkeys(found, 0)
    if on_disk:
        stored[holder] = 8 * sizes(workload).weights
    if options.material_store == "disk":
        stored = {role: size + kept[role] for role, size in stored.items()}
        kept = dict.fromkeys(kept, 0)
    quantized = {P0: PASSING * sizes(workload).largest, P1: 0, P2: 0}
    layers = workload.spec.n_layers if isinstance(workload, Generation) else 1
    slots_of = {P0: slots, P1: slots, P2: slots // layers}  # P2 sends those of a layer at once
    later = {role: max(worked[role], kept[role]) + slots_of[role] for role in found}
    return {
        role: Need(
            need.memory_bytes + max(0, later[role] - quantized[role]),
            stored[role],
            options.store_dir if stored[role] else None,
        )
        for role, need in found.items()
    }


def _activations(workload: Workload, onehot: int) -> int:
    """Values of `ELEMENT` bytes each. Where the scores go in tiles, those of one tile are worked on; of
    all, messages of 8 to 12 bytes may wait for their reader. Of a model, cached rows take 16 bytes a
    value, and one-hots `onehot`."""
    counts = sizes(workload)
    if isinstance(workload, Layer):
        n, length, prefix, spared = workload.q_len, workload.kv_len, 0, 0.0
    elif isinstance(workload, Generation):
        n, length = workload.prompt_len, sum(step.tokens for step in steps(workload))
        prefix = visible_prefix(workload.spec, n)
        cached = 2 * (workload.spec.n_layers - 1) * length * workload.spec.d_kv
        spared = cached * (1 - 16 / ELEMENT) + n * workload.spec.vocab * (1 - onehot / ELEMENT)
    else:
        return counts.activations
    spec = workload.spec
    tiles = tiles_of(spec, n, length, prefix)
    if len(tiles) > 1:
        largest = spec.n_heads * max(tile.rows * tile.keys for tile in tiles)
        waiting = score_count(spec, n, length, prefix) // 4
        spared += max(0, spec.n_heads * n * length - largest - waiting)
    return counts.activations - round(spared)


def stored_bytes(workload: Workload, options: PermLLMOptions) -> dict[Role, int] | None:
    """What each role keeps after `prepare`; None where there is no model.

    P0: W as integers (or float32). `mask_holder`: W − U in the domain's elements, the embedding in a
    window's unless norms are fused. Else keys: P2's three, of U, of the masks and of ℓ; with W − U at
    P2 a second one of P1, for V.
    """
    weights = sizes(workload).weights
    if not weights:
        return None
    embedding = 0
    if isinstance(workload, Generation) and not fuses_norms(workload.spec, options):
        embedding = workload.spec.vocab * workload.spec.d_model  # on windows
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
    rows = [(plan[batch.start], len(batch)) for batch in batches(workload, options)]
    kept = [count * step_bytes(spec, length, each.tokens, each.picks) for each, count in rows]
    ahead = [*kept[1:], 0] if options.offline_ahead else [0] * len(kept)
    return max(now + later for now, later in zip(kept, ahead, strict=True))


def _onehots(workload: Workload, options: PermLLMOptions) -> int:
    """The masks of the prompt's one-hots, which P1 keeps besides."""
    if not isinstance(workload, Generation):
        return 0
    word = 8 if fuses_norms(workload.spec, options) else 4
    return word * workload.prompt_len * workload.spec.vocab


def _slots(workload: Workload, options: PermLLMOptions) -> int:
    """Of the largest batch, or two; with refresh=bounded also the rows of all slots, which stay, in memory
    that doubles as they grow, and the first step's, which deals all."""
    if isinstance(workload, Layer):
        spec, length, most = replace(workload.spec, n_layers=1), workload.kv_len, 1
    elif isinstance(workload, Generation):
        plan = steps(workload)
        spec, length = workload.spec, sum(step.tokens for step in plan)
        most = max(map(len, batches(workload, options))) * (2 if options.offline_ahead else 1)
    else:
        return 0
    kept = most * slot_bytes(spec, length, options)
    if options.variant != "fused" or slots_dealt(options) is None:
        return kept
    return kept + spec.n_layers * (24 + 2 * 16) * spec.d_model * length
