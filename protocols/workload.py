"""What is computed: the experiments as data, shared by every system and by the plaintext check."""

from dataclasses import dataclass
from typing import Literal

from protocols.transformer.spec import TransformerSpec

NonlinearOp = Literal["gelu", "softmax", "layernorm"]


@dataclass(frozen=True)
class Argmax:
    """Index of the largest of `n` values, known to P1 alone at the end."""

    n: int


@dataclass(frozen=True)
class Nonlinear:
    """One non-linear function on a shared tensor of `shape`; softmax and layernorm act on its rows."""

    op: NonlinearOp
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Layer:
    """One transformer layer of `spec` on `q_len` new tokens, `kv_len` keys in all (new ones included)."""

    spec: TransformerSpec
    q_len: int
    kv_len: int


Workload = Argmax | Nonlinear | Layer
