"""What PermLLM's roles take of memory and disk, in closed form: weights, material, and work under way.

m weights a layer, V·d a vocabulary table; a word has 8 bytes (4 with float32 shares, and in windows).

| role | weights | under way |
|---|---|---|
| P0 | 2 (4) bytes each, of all layers (one, if tied) and both tables | quantizing: the larger of a layer and two tables, float32; a layer's masked weights |
| holder of W − U | 8·m a layer, 12·V·d; on disk with weights_store=disk | a layer's masked weights |

All: the material of a batch, and halves and one-hots of a step's rows. Bounds, not predictions.
"""

from protocols.party import P0, P1, P2, Role
from protocols.permllm.batches import batches, step_bytes
from protocols.permllm.options import PermLLMOptions
from protocols.room import Need
from protocols.transformer.spec import TransformerSpec
from protocols.workload import Generation, Layer, Workload, steps

PROCESS_BYTES = 400_000_000  # an interpreter with its libraries


def needs(workload: Workload, options: PermLLMOptions) -> dict[Role, Need]:
    """Of every role; nothing worth mentioning where there is no model."""
    if not isinstance(workload, Layer | Generation):
        return {}
    spec = workload.spec
    layer, tables, count = _weights(workload)
    material = _material(workload, options)
    under_way = 8 * layer + material + PROCESS_BYTES
    quantizing = 4 * max(2 * layer, 2 * spec.vocab * spec.d_model if tables else 0)
    own = (options.weight_bits // 8) * (count * layer + tables)
    stored = 8 * count * layer + 6 * tables
    holder = P1 if options.mask_holder == "user" else P2
    found = {role: Need(material + PROCESS_BYTES) for role in (P1, P2)}
    found[P0] = Need(own + quantizing + under_way)
    if options.weights_store == "disk":
        found[holder] = Need(under_way, stored, options.store_dir)
    else:
        found[holder] = Need(under_way + stored)
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
    """The largest batch's, twice: kept, and as messages and halves on their way."""
    spec = workload.spec
    if isinstance(workload, Layer):
        cached = 64 * spec.d_kv * workload.kv_len
        return 2 * _one_layer(spec, workload.kv_len, workload.q_len) + cached
    plan = steps(workload)
    length = sum(step.tokens for step in plan)
    cached = 64 * spec.n_layers * spec.d_kv * length
    largest = max(
        step_bytes(spec, length, plan[batch.start].tokens) * len(batch)
        + 20 * spec.vocab * plan[batch.start].tokens * len(batch)
        for batch in batches(workload, options)
    )
    return 2 * largest + cached


def _one_layer(spec: TransformerSpec, length: int, n: int) -> int:
    return step_bytes(spec, length, n) // spec.n_layers
