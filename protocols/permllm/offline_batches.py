"""Which steps of a generation the offline pass makes ready at once.

The prefill goes alone: its material is that of many tokens already. Decode steps go T at a time, with
one pass over all masked weights, which is what an offline pass costs.
"""

from protocols.permllm.options import PermLLMOptions
from protocols.transformer.spec import TransformerSpec
from protocols.workload import Generation, Workload, steps

MATERIAL_BYTES = 3 << 29  # of material, at the role that keeps most of it: P0
MAX_STEPS = 32  # steps a batch by default: twice as many would save a tenth


def batches(workload: Workload, options: PermLLMOptions) -> list[range]:
    """All steps of one evaluation, in the batches that the offline pass takes them in."""
    count = len(steps(workload))
    size = steps_at_once(workload, options)
    return [range(1), *(range(lo, min(count, lo + size)) for lo in range(1, count, size))]


def steps_at_once(workload: Workload, options: PermLLMOptions) -> int:
    """Decode steps a batch: `offline_batch`, or what has room, the same at every role."""
    if options.offline_batch is not None:
        return options.offline_batch
    if not isinstance(workload, Generation):
        return 1
    length = workload.prompt_len + workload.new_tokens
    return max(1, min(MAX_STEPS, MATERIAL_BYTES // step_bytes(workload.spec, length)))


def step_bytes(spec: TransformerSpec, length: int, n: int = 1) -> int:
    """Upper bound of the material of one step of `n` new tokens and `length` keys, at any role.

    P0, a layer: brackets of the linear layers; for each permuted function an index, a dither and a
    correction of 8 bytes and a pad of 4 an element; pads of q, k, v, of the probabilities, and two τ0.
    """
    d, inner = spec.d_model, spec.d_ff * (2 if spec.gated else 1)
    brackets = 8 * n * (5 * d + 2 * spec.d_kv + inner)
    scores = spec.n_heads * n * length
    functions = 28 * (2 * n * d + scores + n * inner)
    attention = 8 * (2 * scores + n * (3 * d + 2 * spec.d_kv))
    ends = 8 * n * (d + spec.vocab) + 48 * spec.vocab
    return spec.n_layers * (brackets + functions + attention) + ends
