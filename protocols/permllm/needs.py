"""What PermLLM's roles take of memory and disk, in closed form: weights, material, and work under way.

m weights a layer, V·d a vocabulary table; a word has 8 bytes (4 with float32 shares, and in windows).

- P0: 2 (4) bytes a weight, of all layers (one, if tied) and both tables; and the larger of what
  quantizing takes (two copies of a layer or a table, float32) and a layer's masked weights.
- Holder of W − U: 8·m a layer, 12·V·d. With weights_store=disk they lie on disk, and one layer's are in use.

All: their part of a batch's material, and what is being worked on. Estimates, rather too large.
"""

from dataclasses import replace

from protocols.footprint import Footprint, Need, peaks, sizes
from protocols.party import P0, P1, P2, Role
from protocols.permllm.batches import batches, step_bytes
from protocols.permllm.options import PermLLMOptions
from protocols.workload import Generation, Layer, Workload, steps

PROCESS_BYTES = 440_000_000  # Python, libraries and kernels
KEPT: dict[Role, float] = {P0: 1.2, P1: 0.6, P2: 0.3}  # of what P0 keeps, with temporaries


def needs(workload: Workload, options: PermLLMOptions) -> dict[Role, Need]:
    """Of every role."""
    if not isinstance(workload, Layer | Generation):
        return _small_needs(workload, options)
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
    memory[holder] += 8 * layer if on_disk else stored
    found = {role: Need(size + PROCESS_BYTES) for role, size in memory.items()}
    if on_disk:
        found[holder] = replace(found[holder], disk_bytes=stored, folder=options.store_dir)
    return found


def _small_needs(workload: Workload, options: PermLLMOptions) -> dict[Role, Need]:
    """Where there is no layer: 50 bytes for each value, and what a single matrix takes."""
    p0 = Footprint(PROCESS_BYTES, options.weight_bits / 8, passing=6, element=50)
    p1 = Footprint(PROCESS_BYTES, resident=8, element=50)
    return peaks({P0: p0, P1: p1, P2: Footprint(PROCESS_BYTES, element=50)}, sizes(workload))


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
