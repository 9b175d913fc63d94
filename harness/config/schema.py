"""The configuration of one run, as frozen dataclasses.

They are the types that the files of conf/ and the command line are checked against. Plain keys have
their defaults here; a group's values stand in conf/<group>/<option>.yaml.
"""

from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, cast

from harness.config.network import NetworkConfig
from harness.registry import options_class
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


@dataclass(frozen=True)
class ModelConfig:
    """A model's dimensions: the fields of `TransformerSpec`, each overridable.

    tie_layers: all layers share the first one's weights, so that a model that does not fit still
    costs what it costs. checkpoint: a folder in Hugging Face's layout; it brings its dimensions.
    """

    name: str
    family: str
    n_layers: int
    d_model: int
    n_heads: int
    d_ff: int
    vocab: int
    max_positions: int
    norm_eps: float
    n_kv_heads: int | None = None
    rope_theta: float = 10000.0
    tie_layers: bool = False
    checkpoint: str | None = None

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
    n: int

    def workload(self, model: ModelConfig) -> Workload:
        """See the base class; the model plays no part."""
        return Argmax(self.n)


@dataclass(frozen=True)
class NonlinearConfig(ExperimentConfig):
    """`op` (gelu, softmax, layernorm) on a tensor of `shape`; the last two act on rows."""

    uses_model: ClassVar[bool] = False
    op: str
    shape: list[int]

    def workload(self, model: ModelConfig) -> Workload:
        """See the base class; the model plays no part."""
        return Nonlinear(cast(NonlinearOp, self.op), tuple(self.shape))


@dataclass(frozen=True)
class LinearConfig(ExperimentConfig):
    """One linear layer from `d_in` to `d_out` on `n` rows."""

    uses_model: ClassVar[bool] = False
    n: int
    d_in: int
    d_out: int

    def workload(self, model: ModelConfig) -> Workload:
        """See the base class; the model plays no part."""
        return Linear(self.n, self.d_in, self.d_out)


@dataclass(frozen=True)
class LayerConfig(ExperimentConfig):
    """One layer of the model on `q_len` new tokens, `kv_len` keys in all (new ones included)."""

    q_len: int
    kv_len: int

    def workload(self, model: ModelConfig) -> Workload:
        """See the base class."""
        return Layer(model.spec(), self.q_len, self.kv_len)


@dataclass(frozen=True)
class WholeModelConfig(ExperimentConfig):
    """The whole model on `prompt_len` tokens drawn from the seed, until `new_tokens` have come out.

    BERT makes one pass and no tokens, whatever `new_tokens` is.
    """

    prompt_len: int
    new_tokens: int

    def workload(self, model: ModelConfig) -> Workload:
        """See the base class."""
        return model.generation(self.prompt_len, self.new_tokens)


@dataclass(frozen=True)
class GenerateConfig(ExperimentConfig):
    """The whole model on a prompt of the user's: `prompt` text (needs model.checkpoint's tokenizer)
    or token ids `tokens`. temperature 0 is greedy; top_k, top_p and sample_seed (null: from the
    operating system) say how P1 draws otherwise."""

    prompt: str | None
    tokens: list[int] | None
    new_tokens: int
    temperature: float
    top_k: int | None
    top_p: float
    sample_seed: int | None

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
    """strict: refuse to run over a link outside tolerance (else record it and flag it). max_age_s: for
    how long a good measurement of the same links counts, between runs of the same parties."""

    strict: bool = True
    max_age_s: float = 60.0


@dataclass(frozen=True)
class RunConfig:
    """One run.

    repeat, warmup: measured and unmeasured online evaluations. threads: of compute, per party.
    seed: of synthetic weights and inputs, jitter and loss. key_seed: of all keys, for tests; null
    draws them from the operating system. timeout_s: longest silence of a party. shape: the phases
    that are shaped. trace: keep what `permbench replay` needs. force: measure again what is stored.
    """

    experiment: ExperimentConfig
    system: SystemConfig
    model: ModelConfig
    network: NetworkConfig
    runner: RunnerConfig
    shaper: ShaperConfig
    repeat: int = 10
    warmup: int = 2
    threads: int = 1
    seed: int = 1
    key_seed: int | None = None
    timeout_s: float = 120.0
    shape: str = "online"
    trace: bool = False
    calibration: CalibrationConfig = field(default_factory=CalibrationConfig)
    force: bool = False
    results_dir: str = "results/runs"

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
