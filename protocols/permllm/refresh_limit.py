"""What variant=fused deals for a token's attention, and the limit that a run may set to it.

The dealer sends P0 fresh rows for every slot that it deals anew: with refresh=full 13·L·d bytes a layer
and token, L keys, d wide; with refresh=scores 5·L·d; with refresh=bounded 13·m·d for m slots, after a first
token that takes as much as with full.
"""

from dataclasses import replace
from statistics import fmean

from protocols.errors import Unsupported
from protocols.permllm.fused_sizes import sizes_of
from protocols.permllm.options import PermLLMOptions
from protocols.permllm.sizes import Rows, rows_of
from protocols.workload import Generation, Layer, Workload

MB = 1e6


def dealt_bytes(workload: Workload, options: PermLLMOptions) -> float:
    """Of all layers' attention, for a step with one new row, in the mean."""
    if not isinstance(workload, Layer | Generation):
        return 0.0
    sizes = sizes_of(options)
    layers = workload.spec.n_layers if isinstance(workload, Generation) else 1
    found = [sizes.attention_offline(workload.spec, rows) for rows in _decoded(workload)]
    return layers * fmean(sum(sent.values()) for sent in found) if found else 0.0


def _decoded(workload: Layer | Generation) -> list[Rows]:
    if isinstance(workload, Layer):
        every = [Rows(workload.q_len, workload.kv_len)]
    else:
        every = rows_of(workload)
    return [rows for rows in every if rows.n == 1]


def check_refresh(workload: Workload, options: PermLLMOptions) -> None:
    """Raises Unsupported where the limit is exceeded, with what to choose."""
    if options.variant != "fused":
        return
    megabytes = dealt_bytes(workload, options) / MB
    if megabytes <= options.refresh_limit_mb:
        return
    others = []
    for refresh in ("bounded", "scores"):
        other = replace(options, refresh=refresh)
        size = dealt_bytes(workload, other) / MB
        if size < megabytes:
            others.append(f"system.refresh={refresh} ({size:,.0f} MB)")
    choices = ", ".join([*others, "a larger system.refresh_limit_mb", "system.variant=paper"])
    raise Unsupported(
        f"system.refresh={options.refresh} deals {megabytes:,.0f} MB offline for a token's attention, "
        f"more than system.refresh_limit_mb={options.refresh_limit_mb:g}; choose {choices}"
    )
