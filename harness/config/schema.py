"""The configuration of one run, as frozen dataclasses.

They are the types that the files of conf/ and the command line are checked against. Plain keys have
their defaults here; a group's values stand in conf/<group>/<option>.yaml. What a key means stands here
alone, in its field's metadata: `harness.config.reference` makes help and reference of it.
"""

from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, cast, get_args

from harness.config.network import NetworkConfig
from harness.registry import options_class
from protocols.options import doc
from protocols.transformer.spec import Family, TransformerSpec
from protocols.workload import (
    Argmax,
    Generation,
    Layer,
    Linear,
    Nonlinear,
    NonlinearOp,
    Sampling,
    UserInput,
    Workload,
)

SHAPED_PHASES = ("online", "all")
AT_LEAST_0, AT_LEAST_1 = "a whole number ≥ 0", "a whole number ≥ 1"


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
class SystemConfig:
    """A system under test. `harness.config.systems` adds the fields of the system's options."""

    name: str

    def options(self) -> Any:
        """The system's own options. Raises ValueError."""
        given = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "name"}
        return options_class(self.name)(**given)


@dataclass(frozen=True)
class RunnerConfig:
    """Where the parties live."""

    name: str


@dataclass(frozen=True)
class ShaperConfig:
    """What makes the WAN."""

    name: str


@dataclass(frozen=True)
class CalibrationConfig:
    """How links are measured before a run."""

    strict: bool = field(
        default=True,
        metadata=doc(
            "refuse to run over a link outside tolerance; false: measure, and mark the run"
        ),
    )
    patience_s: float = field(
        default=30.0,
        metadata=doc(
            "how long to wait and measure a link again before it is refused, in seconds",
            "a number ≥ 0 (0: measure once)",
        ),
    )
    max_age_s: float = field(
        default=60.0,
        metadata=doc(
            "how long a good measurement counts for later runs over the same links, in seconds",
            "a number ≥ 0 (0: calibrate before every run)",
        ),
    )


@dataclass(frozen=True)
class MemoryConfig:
    """What is looked at before a run."""

    check: bool = field(
        default=True,
        metadata=doc("refuse a run that memory or disk of this machine are too small for"),
    )


@dataclass(frozen=True)
class TransportConfig:
    """What the parties' connections are like."""

    tls: bool | None = field(
        default=None,
        metadata=doc("TLS 1.3 on every connection; null: with runner=remote and runner=docker"),
    )


@dataclass(frozen=True)
class RunConfig:
    """One run."""

    experiment: ExperimentConfig = field(metadata=doc("what is computed"))
    system: SystemConfig = field(metadata=doc("the method of private inference"))
    model: ModelConfig = field(
        metadata=doc("the model's dimensions, for experiments that have one")
    )
    network: NetworkConfig = field(metadata=doc("the links between the parties"))
    runner: RunnerConfig = field(metadata=doc("where the parties live"))
    shaper: ShaperConfig = field(metadata=doc("what makes the links slow"))
    repeat: int = field(default=10, metadata=doc("measured evaluations", AT_LEAST_1))
    warmup: int = field(
        default=2, metadata=doc("evaluations before them, not measured", AT_LEAST_0)
    )
    threads: int = field(default=1, metadata=doc("threads of compute of each party", AT_LEAST_1))
    seed: int = field(
        default=1,
        metadata=doc(
            "of synthetic weights and inputs, jitter and loss", "a whole number from 0 to 2^63 - 1"
        ),
    )
    key_seed: int | None = field(
        default=None,
        metadata=doc(
            "of all keys, for tests; null: the operating system draws them",
            "null or a whole number from 0 to 2^63 - 1",
        ),
    )
    timeout_s: float = field(
        default=120.0, metadata=doc("longest silence of a party, in seconds", "a number > 0")
    )
    shape: str = field(
        default="online",
        metadata=doc(
            "the phases over slow links; others run at full speed", " or ".join(SHAPED_PHASES)
        ),
    )
    trace: bool = field(default=False, metadata=doc("keep what permbench replay needs"))
    calibration: CalibrationConfig = field(default_factory=CalibrationConfig)
    transport: TransportConfig = field(default_factory=TransportConfig)
    memory: MemoryConfig = field(default_factory=MemoryConfig)
    force: bool = field(default=False, metadata=doc("measure again what is stored"))
    results_dir: str = field(
        default="results/runs", metadata=doc("the folder that records go to", "a folder")
    )

    def workload(self) -> Workload:
        """What is computed, as the protocols see it."""
        return self.experiment.workload(self.model)

    def title(self) -> str:
        """A short human name: experiment with its values, system, model, network, shaper."""
        values = [
            f"{f.name}={getattr(self.experiment, f.name)}"
            for f in fields(self.experiment)
            if f.name != "name" and getattr(self.experiment, f.name) is not None
        ]
        model = [self.model.name] if self.experiment.uses_model else []
        parts = [*model, self.system.name, self.network.name, self.shaper.name]
        return " ".join([self.experiment.name, *values, *parts])


EXPERIMENTS: dict[str, type[ExperimentConfig]] = {
    "argmax": ArgmaxConfig,
    "nonlinear": NonlinearConfig,
    "linear": LinearConfig,
    "layer": LayerConfig,
    "model": WholeModelConfig,
    "generate": GenerateConfig,
}
