"""What PermLLM's roles take of memory and disk, in closed form: weights, material, and work under way.

m weights a layer, V·d a vocabulary table; a word has 8 bytes (4 with float32 shares, and in windows).

- P0: 2 (4) bytes a weight, of all layers (one, if tied) and both tables; and the larger of what
  quantizing takes (two copies of a layer or a table, float32) and a layer's masked weights.
- Holder of W − U: 8·m a layer, 12·V·d; a layer's masked weights on their way. With weights_store=disk
  the former lie on disk.

All: their part of a batch's material, and what is being worked on. Estimates, rather too large.
"""

from dataclasses import replace

from protocols.party import P0, P1, P2, Role
from protocols.permllm.batches import batches, step_bytes
from protocols.permllm.options import PermLLMOptions
from protocols.room import Need
from protocols.workload import Generation, Layer, Workload, steps

PROCESS_BYTES = 400_000_000  # an interpreter with its libraries
KEPT: dict[Role, float] = {P0: 1.2, P1: 0.6, P2: 0.3}  # of what P0 keeps, with temporaries


def needs(workload: Workload, options: PermLLMOptions) -> dict[Role, Need]:
    """Of every role; nothing worth mentioning where there is no model."""
    if not isinstance(workload, Layer | Generation):
        return {}
    spec = workload.spec
    layer, tables, count = _weights(workload)
    material = _material(workload, options)
    own = (options.weight_bits // 8) * (count * layer + tables)
    quantizing = 4 * max(2 * layer, 2 * spec.vocab * spec.d_model if tables else 0)
    memory = {
        P0: own + max(quantizing, 8 * layer + round(KEPT[P0] * material)),
        P1: round(KEPT[P1] * material),
        P2: round(KEPT[P2] * material),
    }
    stored = 8 * count * layer + 6 * tables
    holder, on_disk = P1 if options.mask_holder == "user" else P2, options.weights_store == "disk"
    memory[holder] += 8 * layer + (0 if on_disk else stored)
    found = {role: Need(size + PROCESS_BYTES) for role, size in memory.items()}
    if on_disk:
        found[holder] = replace(found[holder], disk_bytes=stored, folder=options.store_dir)
    return found


def _weights(workload: Layer | Generation) -> tuple[int, int, int]:
    """Weights of a layer, of the tables, and how many distinct layers there are."""
    spec = workload.spec
    inner = spec.d_ff * (2 if spec.gated else 1)
    layer = spec.d_model * (2 * spec.d_model + 2 * spec.d_kv + inner + spec.d_ff)
    if isinstance(workload, Layer):
        return layer, 0, 1
    tables = spec.vocab * spec.d_model * (1 if spec.family == "bert" else 2)
    return layer, tables, 1 if workload.tie_layers else spec.n_layers


def _material(workload: Layer | Generation, options: PermLLMOptions) -> int:
    """Of the largest batch at P0, of the cached rows, and the one-hots."""
    spec = workload.spec
    if isinstance(workload, Layer):
        cached = 64 * spec.d_kv * workload.kv_len
        one = replace(spec, n_layers=1)
        return step_bytes(one, workload.kv_len, workload.q_len) + cached
    plan = steps(workload)
    length = sum(step.tokens for step in plan)
    rows = [(plan[batch.start].tokens, len(batch)) for batch in batches(workload, options)]
    largest = max(count * (step_bytes(spec, length, n) + 20 * n * spec.vocab) for n, count in rows)
    return largest + 64 * spec.n_layers * spec.d_kv * length
