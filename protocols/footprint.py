"""What the parties of a run take of memory, estimated from the sizes of its weights and activations.

    peak of a role = process + resident · weights + passing · largest + element · activations

process: Python, libraries and kernels, in bytes. resident: bytes kept for each distinct weight; passing:
for each weight of the largest part that is made at once, a layer or a vocabulary table, while it is made.
element: bytes for each value of the widest tensors. The factors of a system follow from what its roles
hold (int16 weights: 2, shares of them: 8) and from measured peaks of whole parties.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

from protocols.party import Role
from protocols.transformer.spec import TransformerSpec
from protocols.workload import (
    Argmax,
    Attention,
    Bootstrapping,
    Generation,
    Layer,
    Linear,
    Nonlinear,
    Workload,
)


@dataclass(frozen=True)
class Need:
    """What one role takes of its machine at most. folder: where its disk space is."""

    memory_bytes: int
    disk_bytes: int = 0
    folder: str | None = None


@dataclass(frozen=True)
class Footprint:
    """The factors of one role."""

    process: float
    resident: float = 0.0
    passing: float = 0.0
    element: float = 0.0


@dataclass(frozen=True)
class Sizes:
    """Counts of a workload: distinct weights, those of the largest part, values of the widest tensors."""

    weights: int
    largest: int
    activations: int


def layer_weights(spec: TransformerSpec) -> int:
    """Weights of one layer's four matrices."""
    inner = spec.d_ff * (3 if spec.gated else 2)
    return spec.d_model * (2 * spec.d_model + 2 * spec.d_kv + inner)


def sizes(workload: Workload, tables: int = 2) -> Sizes:
    """The counts of `workload`. tables: vocabulary tables that a model has, embedding and head; BERT
    has no head."""
    match workload:
        case Argmax(n=n):
            return Sizes(0, 0, n)
        case Nonlinear(shape=shape):
            return Sizes(0, 0, prod(shape))
        case Linear(n=n, d_in=d_in, d_out=d_out):
            return Sizes(d_in * d_out, d_in * d_out, n * (d_in + d_out))
        case Attention(q_len=q_len, kv_len=kv_len, d_head=d_head):
            return Sizes(0, 0, (q_len + 2 * kv_len) * d_head + q_len * kv_len)
        case Layer(spec=spec, q_len=q_len, kv_len=kv_len):
            weights = layer_weights(spec)
            return Sizes(weights, weights, _activations(spec, q_len, kv_len))
        case Generation():
            return _model(workload, tables)
        case Bootstrapping(log_slots=log_slots):
            return Sizes(0, 0, 1 << log_slots)


def _model(work: Generation, tables: int) -> Sizes:
    spec = work.spec
    layer, table = layer_weights(spec), spec.vocab * spec.d_model
    layers = 1 if work.tie_layers else spec.n_layers
    weights = layers * layer + (1 if spec.family == "bert" else tables) * table
    length, rows = work.prompt_len + work.new_tokens, work.prompt_len
    if work.drafted:
        length, rows = length + work.drafted, max(rows, work.drafted + 1)
    cached = 2 * (spec.n_layers - 1) * length * spec.d_kv
    passing = _activations(spec, rows, length) + rows * spec.vocab
    return Sizes(weights, max(layer, table), passing + cached)


def _activations(spec: TransformerSpec, q_len: int, kv_len: int) -> int:
    inner = spec.d_ff * (2 if spec.gated else 1)
    rows = q_len * (4 * spec.d_model + inner + spec.n_heads * kv_len)
    return rows + 2 * kv_len * spec.d_kv


def peaks(roles: Mapping[Role, Footprint], counts: Sizes) -> dict[Role, Need]:
    """Memory of each role at its peak."""
    return {role: Need(peak(part, counts)) for role, part in roles.items()}


def peak(part: Footprint, counts: Sizes) -> int:
    """Bytes of one process at its peak."""
    held = part.resident * counts.weights + part.passing * counts.largest
    return round(part.process + held + part.element * counts.activations)
