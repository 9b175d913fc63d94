"""Declared costs of one pass of 128 tokens by function secret sharing, beside SIGMA's printed ones.

python examples/fss_cost.py        docs/differences.md has what this prints

In GiB, if the printed GB are 2^30 bytes, as the artifact says (ePrint 2023/1269, Tables 5 and 9).
"""

from collections.abc import Iterator

from baselines.fss.options import FssOptions
from baselines.fss.system import Fss
from harness.config.compose import compose_run
from protocols.party import P0, P2

PRINTED = {  # ring bits; GB online of both parties; GB of keys of one
    "bert-base": (50, 0.99, 16.84),
    "gpt2": (50, 0.82, 14.29),
    "llama-2-7b": (48, 12.07, 255.41),
    "llama-2-13b": (48, 18.90, 419.01),
}


def page() -> Iterator[str]:
    """The table's lines."""
    yield "| model | bits | online, both parties | printed | keys, a party | printed |"
    yield "|---|--:|--:|--:|--:|--:|"
    length = ["experiment.prompt_len=128", "experiment.new_tokens=1"]
    for name, (bits, online, keys) in PRINTED.items():
        work = compose_run(["experiment=model", f"model={name}", *length]).workload()
        cost = Fss.cost(work, FssOptions(ring_bits=bits))
        sent = sum(cost["online"].payload_bytes.values()) / 2**30
        dealt = cost["offline"].payload_bytes[P2, P0] / 2**30
        yield f"| {name} | {bits} | {sent:#.3g} | {online:.2f} | {dealt:.3g} | {keys:.2f} |"


if __name__ == "__main__":
    print("\n".join(page()))
