"""What is computed: the model's dimensions, and a class for each experiment.

Their fields are keys of the command line and of conf/model and conf/experiment, as those of
`harness.config.schema` are.
"""

from dataclasses import dataclass, field, replace
from typing import ClassVar, cast, get_args

from protocols.errors import Unsupported
from protocols.options import doc
from protocols.transformer.spec import Family, TransformerSpec
from protocols.workload import (
    Argmax,
    Attention,
    Bootstrapping,
    Generation,
    Layer,
    Linear,
    Nonlinear,
    NonlinearOp,
    Sampling,
    UserInput,
    Workload,
)

AT_LEAST_1 = "a whole number ≥ 1"


@dataclass(frozen=True)
class ModelConfig:
    """A model's dimensions: the fields of `TransformerSpec`, each overridable."""

    name: str = field(metadata=doc("its name in tables", "a name"))
    family: str = field(
        metadata=doc(
            "kind of transformer: norms, activation, positions", ", ".join(get_args(Family))
        )
    )
    n_layers: int = field(metadata=doc("transformer layers", AT_LEAST_1))
    d_model: int = field(metadata=doc("hidden width", "a multiple of model.n_heads"))
    n_heads: int = field(metadata=doc("attention heads", AT_LEAST_1))
    d_ff: int = field(metadata=doc("inner width of the feed-forward block", AT_LEAST_1))
    vocab: int = field(metadata=doc("size of the vocabulary", AT_LEAST_1))
    max_positions: int = field(metadata=doc("the longest sequence, in tokens", AT_LEAST_1))
    norm_eps: float = field(metadata=doc("added to a norm's variance", "a number between 0 and 1"))
    n_kv_heads: int | None = field(
        default=None,
        metadata=doc(
            "heads of keys and values; null: one for each query head",
            "null or a divisor of model.n_heads",
        ),
    )
    rope_theta: float = field(
        default=10000.0, metadata=doc("base of rotary positions", "a number > 1")
    )
    tie_layers: bool = field(
        default=False,
        metadata=doc("all layers share the first one's weights: less memory, the same cost"),
    )
    checkpoint: str | None = field(
        default=None,
        metadata=doc(
            "folder in Hugging Face's layout, which brings weights and dimensions",
            "a path, or null: synthetic weights",
        ),
    )

    def spec(self) -> TransformerSpec:
        """The same as the protocols' type."""
        return TransformerSpec(
            name=self.name,
            family=cast(Family, self.family),
            n_layers=self.n_layers,
            d_model=self.d_model,
            n_heads=self.n_heads,
            d_ff=self.d_ff,
            vocab=self.vocab,
            max_positions=self.max_positions,
            norm_eps=self.norm_eps,
            n_kv_heads=self.n_kv_heads,
            rope_theta=self.rope_theta,
        )

    def generation(self, prompt_len: int, new_tokens: int) -> Generation:
        """One pass through the whole model."""
        new_tokens = 0 if self.family == "bert" else new_tokens
        return Generation(self.spec(), prompt_len, new_tokens, self.tie_layers, self.checkpoint)


@dataclass(frozen=True)
class ExperimentConfig:
    """What is computed. A sub-class for each experiment."""

    uses_model: ClassVar[bool] = True
    name: str

    def workload(self, model: ModelConfig) -> Workload:
        """The protocols' type for this experiment on `model`."""
        raise NotImplementedError

    def user(self) -> UserInput | None:
        """What P1 alone knows, beyond what a seed says."""
        return None


@dataclass(frozen=True)
class ArgmaxConfig(ExperimentConfig):
    """Index of the largest of `n` values."""

    uses_model: ClassVar[bool] = False
    n: int = field(metadata=doc("how many values", AT_LEAST_1))

    def workload(self, model: ModelConfig) -> Workload:
        """See the base class; the model plays no part."""
        return Argmax(self.n)


@dataclass(frozen=True)
class NonlinearConfig(ExperimentConfig):
    """`op` (gelu, softmax, layernorm) on a tensor of `shape`; the last two act on rows."""

    uses_model: ClassVar[bool] = False
    op: str = field(metadata=doc("the function", ", ".join(get_args(NonlinearOp))))
    shape: list[int] = field(
        metadata=doc(
            "shape of the tensor; softmax and layernorm act on its rows",
            "a list of whole numbers ≥ 1, e.g. [32,1024]",
        )
    )

    def workload(self, model: ModelConfig) -> Workload:
        """See the base class; the model plays no part."""
        return Nonlinear(cast(NonlinearOp, self.op), tuple(self.shape))


@dataclass(frozen=True)
class LinearConfig(ExperimentConfig):
    """One linear layer from `d_in` to `d_out` on `n` rows."""

    uses_model: ClassVar[bool] = False
    n: int = field(metadata=doc("rows", AT_LEAST_1))
    d_in: int = field(metadata=doc("values in a row that goes in", AT_LEAST_1))
    d_out: int = field(metadata=doc("values in a row that comes out", AT_LEAST_1))

    def workload(self, model: ModelConfig) -> Workload:
        """See the base class; the model plays no part."""
        return Linear(self.n, self.d_in, self.d_out)


@dataclass(frozen=True)
class AttentionConfig(ExperimentConfig):
    """One attention head on `q_len` queries over `kv_len` keys, all of which every query sees."""

    uses_model: ClassVar[bool] = False
    d_head: int = field(metadata=doc("width of the head", AT_LEAST_1))
    q_len: int = field(metadata=doc("queries", AT_LEAST_1))
    kv_len: int = field(metadata=doc("keys, each with a value", AT_LEAST_1))

    def workload(self, model: ModelConfig) -> Workload:
        """See the base class; the model plays no part."""
        return Attention(self.q_len, self.kv_len, self.d_head)


SLOWDOWN_WORK = ("linear", "gelu", "softmax", "layer")
SLOWDOWN_HEAD, SLOWDOWN_KEYS = 64, 128  # of the layer: width of a head, keys in all


@dataclass(frozen=True)
class SlowdownConfig(ExperimentConfig):
    """One vector of `d` values through a matrix, a function or a decode step of GPT-2's kind of layer,
    and in the same run through PyTorch in the clear."""

    uses_model: ClassVar[bool] = False
    work: str = field(metadata=doc("what is computed", ", ".join(SLOWDOWN_WORK)))
    d: int = field(
        metadata=doc(
            "values in and values out",
            f"a whole number ≥ 1; of a layer a multiple of {SLOWDOWN_HEAD}",
        )
    )

    def workload(self, model: ModelConfig) -> Workload:
        """That of `linear`, `nonlinear` or `layer`; the model plays no part."""
        if self.work == "linear":
            return Linear(1, self.d, self.d)
        if self.work == "layer":
            return Layer(self._spec(), 1, SLOWDOWN_KEYS)
        return Nonlinear(cast(NonlinearOp, self.work), (1, self.d))

    def _spec(self) -> TransformerSpec:
        return TransformerSpec(
            name=f"gpt2-{self.d}",
            family="gpt2",
            n_layers=1,
            d_model=self.d,
            n_heads=self.d // SLOWDOWN_HEAD,
            d_ff=4 * self.d,
            vocab=1,
            max_positions=SLOWDOWN_KEYS,
        )


@dataclass(frozen=True)
class LayerConfig(ExperimentConfig):
    """One layer of the model on `q_len` new tokens, `kv_len` keys in all (new ones included)."""

    q_len: int = field(metadata=doc("new tokens", AT_LEAST_1))
    kv_len: int = field(
        metadata=doc(
            "keys in all, those of the new tokens included",
            "from experiment.q_len to model.max_positions",
        )
    )

    def workload(self, model: ModelConfig) -> Workload:
        """See the base class."""
        return Layer(model.spec(), self.q_len, self.kv_len)


NEW_TOKENS = doc("tokens to come out", "≥ 1; prompt and they fit model.max_positions")


@dataclass(frozen=True)
class WholeModelConfig(ExperimentConfig):
    """The whole model on `prompt_len` tokens drawn from the seed, until `new_tokens` have come out.

    BERT makes one pass and no tokens, whatever `new_tokens` is.
    """

    prompt_len: int = field(metadata=doc("tokens of the prompt, drawn from the seed", AT_LEAST_1))
    new_tokens: int = field(metadata=NEW_TOKENS)

    def workload(self, model: ModelConfig) -> Workload:
        """See the base class."""
        return model.generation(self.prompt_len, self.new_tokens)


@dataclass(frozen=True)
class VerifyConfig(ExperimentConfig):
    """After a prompt one token, and then one pass over that token and `drafted` guesses of what follows
    it: what verifying drafts would cost, and gain at rates of acceptance that are assumed."""

    prompt_len: int = field(metadata=doc("tokens of the prompt, drawn from the seed", AT_LEAST_1))
    drafted: int = field(
        metadata=doc(
            "drafted tokens that one pass verifies, drawn from the seed",
            "≥ 1; prompt, two tokens and they fit model.max_positions",
        )
    )
    acceptance: list[float] = field(
        metadata=doc(
            "shares of drafted tokens that are right, for which the gain is computed",
            "a list of numbers from 0 to 1, e.g. [0.5,0.9]",
        )
    )

    def workload(self, model: ModelConfig) -> Workload:
        """See the base class."""
        return replace(model.generation(self.prompt_len, 2), drafted=self.drafted)


@dataclass(frozen=True)
class GenerateConfig(ExperimentConfig):
    """The whole model on a prompt of the user's: a text, or token ids."""

    prompt: str | None = field(
        metadata=doc("the prompt; needs model.checkpoint, which has a tokenizer", "a text or null")
    )
    tokens: list[int] | None = field(
        metadata=doc("the prompt as token ids, instead of a text", "a list, e.g. [3,1,4], or null")
    )
    new_tokens: int = field(metadata=NEW_TOKENS)
    temperature: float = field(
        metadata=doc("how freely P1 draws a token; 0: the likeliest", "a number ≥ 0")
    )
    top_k: int | None = field(
        metadata=doc("draw from that many of the likeliest alone", "a whole number ≥ 1, or null")
    )
    top_p: float = field(
        metadata=doc(
            "draw from the likeliest that together have this probability", "above 0, up to 1"
        )
    )
    sample_seed: int | None = field(
        metadata=doc(
            "decides P1's draws; null: the operating system does", "a whole number or null"
        )
    )

    def workload(self, model: ModelConfig) -> Workload:
        """See the base class. The prompt's tokens must be known."""
        return model.generation(len(self.tokens or ()), self.new_tokens)

    def user(self) -> UserInput | None:
        """The prompt, and how P1 picks."""
        sampling = Sampling(self.temperature, self.top_k, self.top_p, self.sample_seed)
        return UserInput(tuple(self.tokens or ()), sampling)


@dataclass(frozen=True)
class BootstrappingConfig(ExperimentConfig):
    """One CKKS ciphertext of 2^`log_slots` values is given `levels` multiplications again."""

    uses_model: ClassVar[bool] = False
    log_n: int = field(
        metadata=doc(
            "the ring's degree is 2^log_n; below 16 not secure", "a whole number from 10 to 16"
        )
    )
    log_slots: int = field(
        metadata=doc("2^log_slots values in the ciphertext", "from 1 to experiment.log_n - 1")
    )
    levels: int = field(
        metadata=doc("multiplications that it has afterwards", "a whole number from 1 to 9")
    )

    def workload(self, model: ModelConfig) -> Workload:
        """See the base class; the model plays no part."""
        return Bootstrapping(self.log_n, self.log_slots, self.levels)


@dataclass(frozen=True)
class ProgramConfig(ExperimentConfig):
    """What the programs of `system=external` compute; permbench knows only their answer."""

    uses_model: ClassVar[bool] = False

    def workload(self, model: ModelConfig) -> Workload:
        """Raises Unsupported: no system of permbench computes it."""
        raise Unsupported("experiment=program is what the programs of system=external compute")


EXPERIMENTS: dict[str, type[ExperimentConfig]] = {
    "argmax": ArgmaxConfig,
    "nonlinear": NonlinearConfig,
    "linear": LinearConfig,
    "attention": AttentionConfig,
    "slowdown": SlowdownConfig,
    "layer": LayerConfig,
    "model": WholeModelConfig,
    "generate": GenerateConfig,
    "verify": VerifyConfig,
    "bootstrapping": BootstrappingConfig,
    "program": ProgramConfig,
}
