"""What is computed: the experiments as data, shared by every system and by the plaintext check."""

from dataclasses import dataclass
from typing import Literal

from protocols.transformer.spec import TransformerSpec

NonlinearOp = Literal["gelu", "softmax", "layernorm", "reciprocal", "rsqrt", "exp", "comparison"]
ROW_OPS: tuple[NonlinearOp, ...] = ("softmax", "layernorm")  # the others are elementwise


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
class Linear:
    """y = x·Wᵀ + b on a shared x (n, d_in), with P0's W (d_out, d_in) and b; the answer stays shared."""

    n: int
    d_in: int
    d_out: int


@dataclass(frozen=True)
class Attention:
    """One head, softmax(q·kᵀ / √d_head)·v: q (q_len, d_head), k and v (kv_len, d_head), all keys seen."""

    q_len: int
    kv_len: int
    d_head: int


@dataclass(frozen=True)
class Layer:
    """One transformer layer of `spec` on `q_len` new tokens, `kv_len` keys in all (new ones included)."""

    spec: TransformerSpec
    q_len: int
    kv_len: int


@dataclass(frozen=True)
class Generation:
    """A whole model of `spec`: `prompt_len` tokens in, `new_tokens` out, greedily unless P1 says else.

    BERT makes one bidirectional pass and no tokens (`new_tokens` 0); its answer, known to P1, is the
    last hidden states. tie_layers: all layers share the weights of the first, so that a model that
    does not fit still costs what it costs. checkpoint: a folder that P0 loads instead of synthetic
    weights. drafted: where not 0, a last step takes in the last token and so many drafted ones at once,
    and gives the token that follows each of them.
    """

    spec: TransformerSpec
    prompt_len: int
    new_tokens: int
    tie_layers: bool = False
    checkpoint: str | None = None
    drafted: int = 0


@dataclass(frozen=True)
class Bootstrapping:
    """One CKKS ciphertext of 2^`log_slots` values is given `levels` multiplications again, in a ring of
    degree 2^`log_n`. Only system=orion has such ciphertexts."""

    log_n: int
    log_slots: int
    levels: int


Workload = Argmax | Nonlinear | Linear | Attention | Layer | Generation | Bootstrapping
NO_CIPHERTEXT = "it has no ciphertext to bootstrap; system=orion has"
NO_HEAD = "attention by itself has no protocol here: experiment=layer has it, with all else"


@dataclass(frozen=True)
class Sampling:
    """How P1 picks a token from logits: greedily at temperature 0, else from the `top_k` most likely
    that together reach `top_p`. `seed` null draws from the operating system."""

    temperature: float = 0.0
    top_k: int | None = None
    top_p: float = 1.0
    seed: int | None = None


@dataclass(frozen=True)
class UserInput:
    """What only P1 knows. prompt: token ids; None draws `prompt_len` of them from the run's seed."""

    prompt: tuple[int, ...] | None = None
    sampling: Sampling = Sampling()


@dataclass(frozen=True)
class StepPlan:
    """One step of an evaluation: `tokens` go in at once."""

    kind: Literal["whole", "prefill", "decode", "verify"]
    tokens: int = 0

    @property
    def picks(self) -> int:
        """How many tokens come out, those that follow the last ones that went in."""
        return self.tokens if self.kind == "verify" else 1


def steps(workload: Workload) -> tuple[StepPlan, ...]:
    """The steps of one evaluation; all but a generation have one."""
    if not isinstance(workload, Generation):
        return (StepPlan("whole"),)
    decode = [StepPlan("decode", 1)] * max(0, workload.new_tokens - 1)
    verify = [StepPlan("verify", workload.drafted + 1)] if workload.drafted else []
    return (StepPlan("prefill", workload.prompt_len), *decode, *verify)
