"""The shape and style of a transformer."""

from dataclasses import dataclass
from typing import Literal

Family = Literal["gpt2", "bert", "llama", "glm"]


@dataclass(frozen=True)
class TransformerSpec:
    """A model's dimensions. `family` decides its block.

    | family | norm | where | activation | positions | residual | mask |
    |---|---|---|---|---|---|---|
    | gpt2 | LayerNorm | before | GeLU (tanh) | learned | plain | causal |
    | bert | LayerNorm | after | GeLU (erf) | learned | plain | none |
    | llama | RMSNorm | before | SwiGLU, no biases | rotary | plain | causal |
    | glm | LayerNorm | before | GeLU (tanh) | rotary, 2D | normed input·sqrt(2·n_layers) | causal |

    Rotary positions turn the two halves of a head against each other; 2D ones do so inside each half.
    In a whole GLM the prompt is not masked (`model.visible_prefix`).

    `d_model` is the hidden width, `d_ff` the inner width of the feed-forward block. `n_kv_heads`
    keys and values serve the `n_heads` queries in equal groups (Ainslie et al., arXiv:2305.13245);
    None gives each query its own. `rope_theta` is the base of rotary positions.
    """

    name: str
    family: Family
    n_layers: int
    d_model: int
    n_heads: int
    d_ff: int
    vocab: int
    max_positions: int
    norm_eps: float = 1e-5
    n_kv_heads: int | None = None
    rope_theta: float = 10000.0

    @property
    def d_head(self) -> int:
        """Width of one attention head."""
        return self.d_model // self.n_heads

    @property
    def kv_heads(self) -> int:
        """Heads of keys and of values: the rows of a cache."""
        return self.n_heads if self.n_kv_heads is None else self.n_kv_heads

    @property
    def d_kv(self) -> int:
        """Width of one token's keys, and of its values, over all heads."""
        return self.kv_heads * self.d_head

    @property
    def causal(self) -> bool:
        """Whether a token sees only itself and earlier ones."""
        return self.family != "bert"

    @property
    def gated(self) -> bool:
        """Whether the feed-forward block is silu(gate)·up instead of GeLU(up)."""
        return self.family == "llama"

    @property
    def rotary(self) -> bool:
        """Whether positions enter as rotations of queries and keys."""
        return self.family in ("llama", "glm")

    @property
    def norm_first(self) -> bool:
        """Whether norms stand before their sub-block (else after the residual sum)."""
        return self.family != "bert"

    @property
    def rms_norm(self) -> bool:
        """RMSNorm instead of LayerNorm."""
        return self.family == "llama"

    @property
    def residual_scale(self) -> float:
        """Factor on the residual branch: GLM's sqrt(2·n_layers), else 1."""
        return float((2 * self.n_layers) ** 0.5) if self.family == "glm" else 1.0
