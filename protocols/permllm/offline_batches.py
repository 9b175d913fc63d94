"""Which steps of a generation the offline pass makes ready at once.

The prefill goes alone, and so do drafted tokens: their material is that of many tokens already. Decode
steps go T at a time, with one pass over all masked weights, which is what an offline pass costs.
"""

from protocols.permllm.attention_tiles import score_count
from protocols.permllm.options import PermLLMOptions, slots_dealt
from protocols.transformer.model import visible_prefix
from protocols.transformer.spec import TransformerSpec
from protocols.workload import Generation, Workload, steps

MATERIAL_BYTES = 5 << 29  # of material, at the role that keeps most of it: P0
MAX_STEPS = 32  # steps a batch by default: twice as many would save a tenth


def batches(workload: Workload, options: PermLLMOptions) -> list[range]:
    """All steps of one evaluation, in the batches that the offline pass takes them in."""
    plan, size = steps(workload), steps_at_once(workload, options)
    end = 1 + sum(step.kind == "decode" for step in plan)
    decode = (range(lo, min(end, lo + size)) for lo in range(1, end, size))
    return [range(1), *decode, *(range(i, i + 1) for i in range(end, len(plan)))]


def steps_at_once(workload: Workload, options: PermLLMOptions) -> int:
    """Decode steps a batch: `offline_batch`, or what has room, the same at every role."""
    if options.offline_batch is not None:
        return options.offline_batch
    if not isinstance(workload, Generation):
        return 1
    length = workload.prompt_len + workload.new_tokens
    each = step_bytes(workload.spec, length) + slot_bytes(workload.spec, length, options)
    return max(1, min(MAX_STEPS, MATERIAL_BYTES // each))


def step_bytes(spec: TransformerSpec, length: int, n: int = 1, picks: int = 1) -> int:
    """Upper bound of the material of one step of `n` new tokens and `length` keys, at any role, but for
    the masks of one-hots at P1. picks: tokens that come out.

    P0, a layer: brackets of the linear layers; for each permuted function a correction of 8 bytes, and
    an index, a dither and a pad of 4 an element; pads of q, k, v, of the probabilities, and two τ0.
    """
    d, inner = spec.d_model, spec.d_ff * (2 if spec.gated else 1)
    brackets = 8 * n * (5 * d + 2 * spec.d_kv + inner)
    scores = score_count(spec, n, length, visible_prefix(spec, n))
    functions = 20 * (2 * n * d + scores + n * inner)
    attention = 8 * (2 * scores + n * (3 * d + 2 * spec.d_kv))
    ends = 36 * n * d + 48 * picks * spec.vocab  # the embedding, BERT's with its norm; the choice
    return spec.n_layers * (brackets + functions + attention) + ends


def slot_bytes(spec: TransformerSpec, length: int, options: PermLLMOptions) -> int:
    """What variant=fused keeps besides for a step of one new token, at P0 and P1 each: two rows and a
    value of a tree for every slot dealt anew."""
    if options.variant != "fused":
        return 0
    slots = min(slots_dealt(options) or length, length)
    return spec.n_layers * 24 * spec.d_model * slots
