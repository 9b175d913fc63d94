"""How many elements a workload's matrices have: what each system's `stored_bytes` multiplies.

Biases, gains and positions, under a hundredth of any real model, are left out.
"""

from typing import NamedTuple

from protocols.transformer.spec import TransformerSpec
from protocols.workload import Generation, Layer, Linear, Workload


class Elements(NamedTuple):
    """linear: of all distinct linear layers. embedding, head: tables (vocab, d_model); BERT has no head.
    one_table: whether the head is the embedding (GPT-2)."""

    linear: int
    embedding: int = 0
    head: int = 0
    one_table: bool = False

    @property
    def used(self) -> int:
        """Of all matrices that a token meets."""
        return self.linear + self.embedding + self.head

    @property
    def distinct(self) -> int:
        """The same where one table is kept once."""
        return self.used - self.head * self.one_table


def elements(workload: Workload) -> Elements | None:
    """The elements of a workload's matrices; None for one without weights."""
    match workload:
        case Linear(_, d_in, d_out):
            return Elements(d_in * d_out)
        case Layer(spec):
            return Elements(_layer(spec))
        case Generation(spec, tie_layers=tied):
            linear = _layer(spec) * (1 if tied else spec.n_layers)
            table = spec.vocab * spec.d_model
            head = 0 if spec.family == "bert" else table
            return Elements(linear, table, head, spec.family == "gpt2")
        case _:
            return None


def _layer(spec: TransformerSpec) -> int:
    inner = spec.d_ff * (3 if spec.gated else 2)
    return spec.d_model * (2 * spec.d_model + 2 * spec.d_kv + inner)
