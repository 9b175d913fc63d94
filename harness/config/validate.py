"""What the types cannot say: ranges, and rules between keys."""

import math
from collections.abc import Collection
from dataclasses import fields
from typing import get_args

from harness.config.experiments import (
    EXPERIMENTS,
    SLOWDOWN_HEAD,
    SLOWDOWN_WORK,
    ArgmaxConfig,
    AttentionConfig,
    BootstrappingConfig,
    GenerateConfig,
    LayerConfig,
    LinearConfig,
    ModelConfig,
    NonlinearConfig,
    SlowdownConfig,
    VerifyConfig,
    WholeModelConfig,
)
from harness.config.groups import options
from harness.config.network import DirectionConfig, LinkConfig, NetworkConfig
from harness.config.runners import check_runner
from harness.config.schema import SHAPED_PHASES, RunConfig
from harness.config.systems import check_options, system_schema
from harness.errors import rejected
from protocols.transformer.spec import Family
from protocols.workload import NonlinearOp

BOOTSTRAPS = "orion"  # the one system with ciphertexts that need it


def validate(config: RunConfig) -> RunConfig:
    """Return `config` unchanged, or raise `ConfigError` for the first rule it breaks."""
    _plain_keys(config)
    _names(config)
    _model(config.model)
    _experiment(config)
    check_options(config.system)
    if config.trace and getattr(config.system, "offline_ahead", False):
        rule = "false with system.offline_ahead: a trace follows one thread"
        raise rejected("trace", config.trace, rule)
    _network(config.network, emulated=config.shaper.name == "emulated")
    return config


def _plain_keys(config: RunConfig) -> None:
    at_least("repeat", config.repeat, 1)
    at_least("warmup", config.warmup, 0)
    at_least("threads", config.threads, 1)
    if not 0 <= config.seed < 2**63:
        raise rejected("seed", config.seed, "a whole number from 0 to 2^63 - 1")
    _key_seed(config)
    if not 0 < config.timeout_s < math.inf:
        raise rejected("timeout_s", config.timeout_s, "a number > 0")
    if not 0 <= config.calibration.max_age_s < math.inf:
        rule = "a number ≥ 0 (0: calibrate before every run)"
        raise rejected("calibration.max_age_s", config.calibration.max_age_s, rule)
    if not 0 <= config.calibration.patience_s < math.inf:
        rule = "a number ≥ 0 (0: measure a link once)"
        raise rejected("calibration.patience_s", config.calibration.patience_s, rule)
    one_of("shape", config.shape, SHAPED_PHASES)
    if not config.results_dir:
        raise rejected("results_dir", config.results_dir, "a folder")


def _key_seed(config: RunConfig) -> None:
    """Keys that follow from a number protect nothing: only made-up secrets may stand behind them."""
    if config.key_seed is None:
        return
    if not 0 <= config.key_seed < 2**63:
        raise rejected("key_seed", config.key_seed, "null or a whole number from 0 to 2^63 - 1")
    user = config.experiment.user()
    secrets = {
        "a checkpoint": config.model.checkpoint,
        "a user's prompt": user.prompt if user is not None else None,
        "runner=remote": config.runner.name == "remote",
    }
    for what, given in secrets.items():
        if given:
            rule = "null: keys that follow from a number are for tests on synthetic data alone"
            raise rejected("key_seed", f"{config.key_seed} with {what}", rule)


def _names(config: RunConfig) -> None:
    for key, name in (("network.name", config.network.name), ("model.name", config.model.name)):
        if not name:
            raise rejected(key, name, "a name")
    if EXPERIMENTS.get(config.experiment.name) is not type(config.experiment):
        raise rejected("experiment.name", config.experiment.name, "left as the option gives it")
    one_of("system.name", config.system.name, options("system"))
    if system_schema(config.system.name) is not type(config.system):
        raise rejected("system.name", config.system.name, "left as the option gives it")
    one_of("runner.name", config.runner.name, options("runner"))
    check_runner(config.runner)
    one_of("shaper.name", config.shaper.name, options("shaper"))


def _model(model: ModelConfig) -> None:
    one_of("model.family", model.family, get_args(Family))
    for key in ("n_layers", "d_model", "n_heads", "d_ff", "vocab", "max_positions"):
        at_least(f"model.{key}", getattr(model, key), 1)
    if not 0 < model.norm_eps < 1:
        raise rejected("model.norm_eps", model.norm_eps, "a number between 0 and 1")
    if model.d_model % model.n_heads:
        rule = f"a divisor of model.d_model = {model.d_model}"
        raise rejected("model.n_heads", model.n_heads, rule)
    kv_heads = model.n_kv_heads
    if kv_heads is not None and (kv_heads < 1 or model.n_heads % kv_heads):
        rule = f"null or a divisor of model.n_heads = {model.n_heads}"
        raise rejected("model.n_kv_heads", kv_heads, rule)
    _rotary(model)


def _rotary(model: ModelConfig) -> None:
    """Rotary positions turn pairs of a head's elements; glm's, of each of its halves."""
    if not 1 < model.rope_theta < math.inf:
        raise rejected("model.rope_theta", model.rope_theta, "a number > 1")
    spec = model.spec()
    multiple = {"llama": 2, "glm": 4}.get(model.family, 1)
    if spec.d_head % multiple:
        rule = (
            f"such that a head's width, d_model / n_heads, is a multiple of {multiple} "
            f"for family {model.family}; it is {spec.d_head}"
        )
        raise rejected("model.d_model", model.d_model, rule)


def _experiment(config: RunConfig) -> None:
    match config.experiment:
        case ArgmaxConfig(n=n):
            at_least("experiment.n", n, 1)
        case NonlinearConfig(op=op, shape=shape):
            one_of("experiment.op", op, get_args(NonlinearOp))
            if not shape or min(shape) < 1:
                rule = "a list of whole numbers ≥ 1, e.g. [32,1024]"
                raise rejected("experiment.shape", shape, rule)
        case LinearConfig() | AttentionConfig() as work:
            for key in (f.name for f in fields(work) if f.name != "name"):
                at_least(f"experiment.{key}", getattr(work, key), 1)
        case BootstrappingConfig() as bootstrapping:
            _bootstrapping(bootstrapping, config.system.name)
        case SlowdownConfig() as slowdown:
            _slowdown(slowdown)
        case LayerConfig() as layer:
            _layer(layer, config.model)
        case WholeModelConfig(prompt_len=prompt_len, new_tokens=new_tokens):
            at_least("experiment.prompt_len", prompt_len, 1)
            _length("experiment.new_tokens", prompt_len, new_tokens, config.model)
        case VerifyConfig() as verify:
            _verify(verify, config.model)
        case GenerateConfig() as generate:
            _generate(generate, config.model)
            _once(config)


def _length(key: str, prompt_len: int, new_tokens: int, model: ModelConfig) -> None:
    at_least(key, new_tokens, 1)
    if prompt_len + new_tokens > model.max_positions:
        rule = f"such that prompt and new tokens fit model.max_positions = {model.max_positions}"
        raise rejected(key, new_tokens, rule)


def _slowdown(slowdown: SlowdownConfig) -> None:
    one_of("experiment.work", slowdown.work, SLOWDOWN_WORK)
    at_least("experiment.d", slowdown.d, 1)
    if slowdown.work == "layer" and slowdown.d % SLOWDOWN_HEAD:
        rule = f"a multiple of {SLOWDOWN_HEAD} with experiment.work=layer"
        raise rejected("experiment.d", slowdown.d, rule)


def _bootstrapping(work: BootstrappingConfig, system: str) -> None:
    if system != BOOTSTRAPS:
        raise rejected("system", system, f"{BOOTSTRAPS} with experiment=bootstrapping")
    ranges = {"log_n": (10, 16), "log_slots": (1, work.log_n - 1), "levels": (1, 9)}
    for key, (least, most) in ranges.items():
        given = getattr(work, key)
        if not least <= given <= most:
            raise rejected(f"experiment.{key}", given, f"a whole number from {least} to {most}")


def _verify(verify: VerifyConfig, model: ModelConfig) -> None:
    if model.family == "bert":
        raise rejected("model.family", model.family, "a family that generates: bert only encodes")
    at_least("experiment.prompt_len", verify.prompt_len, 1)
    _length("experiment.drafted", verify.prompt_len + 2, verify.drafted, model)
    if not verify.acceptance or not all(0 <= rate <= 1 for rate in verify.acceptance):
        rule = "a list of numbers from 0 to 1, e.g. [0.5,0.9]"
        raise rejected("experiment.acceptance", verify.acceptance, rule)


def _generate(generate: GenerateConfig, model: ModelConfig) -> None:
    tokens = generate.tokens
    if not tokens:
        raise rejected("experiment.tokens", tokens, "token ids, unless experiment.prompt is given")
    if not 0 <= min(tokens) <= max(tokens) < model.vocab:
        raise rejected("experiment.tokens", tokens, f"token ids below model.vocab = {model.vocab}")
    if model.family == "bert":
        raise rejected("model.family", model.family, "a family that generates: bert only encodes")
    _length("experiment.new_tokens", len(tokens), generate.new_tokens, model)
    if not 0 <= generate.temperature < math.inf:
        raise rejected("experiment.temperature", generate.temperature, "a number ≥ 0 (0: greedy)")
    if generate.top_k is not None:
        at_least("experiment.top_k", generate.top_k, 1)
    if not 0 < generate.top_p <= 1:
        raise rejected("experiment.top_p", generate.top_p, "a number above 0, up to 1")


def _once(config: RunConfig) -> None:
    """A text is generated once; `experiment=model` measures."""
    if (config.repeat, config.warmup) != (1, 0):
        key, value = ("repeat", config.repeat) if config.repeat != 1 else ("warmup", config.warmup)
        raise rejected(key, value, "repeat=1 and warmup=0 with experiment=generate")


def _layer(layer: LayerConfig, model: ModelConfig) -> None:
    at_least("experiment.q_len", layer.q_len, 1)
    if layer.kv_len < layer.q_len:
        rule = f"≥ experiment.q_len = {layer.q_len}, whose tokens it includes"
        raise rejected("experiment.kv_len", layer.kv_len, rule)
    if layer.kv_len > model.max_positions:
        rule = f"≤ model.max_positions = {model.max_positions}"
        raise rejected("experiment.kv_len", layer.kv_len, rule)


def _network(network: NetworkConfig, emulated: bool) -> None:
    _link("network.", network.main_link(), emulated)
    _link("network.dealer.", network.dealer, emulated)
    for name, values in network.links.items():
        _direction(f"network.links.{name}.", DirectionConfig(**values), emulated)


def _link(prefix: str, link: LinkConfig, emulated: bool) -> None:
    if not 0 <= link.rtt_ms < math.inf:
        raise rejected(f"{prefix}rtt_ms", link.rtt_ms, "a number ≥ 0")
    _direction(prefix, link.direction(), emulated)


def _direction(prefix: str, direction: DirectionConfig, emulated: bool) -> None:
    if not 0 <= direction.delay_ms < math.inf:
        raise rejected(f"{prefix}delay_ms", direction.delay_ms, "a number ≥ 0")
    _rate(f"{prefix}rate_mbit", direction.rate_mbit)
    _jitter(f"{prefix}jitter_ms", direction.jitter_ms, direction.delay_ms)
    _loss(f"{prefix}loss", direction.loss, emulated)


def _rate(key: str, rate_mbit: float | None) -> None:
    if rate_mbit is not None and not 0 < rate_mbit < math.inf:
        raise rejected(key, rate_mbit, "a number > 0 or null (unlimited)")


def _jitter(key: str, jitter_ms: float, delay_ms: float) -> None:
    if not 0 <= jitter_ms <= delay_ms:
        rule = f"from 0 to the one-way delay, {delay_ms:g} ms"
        raise rejected(key, jitter_ms, rule)


def _loss(key: str, loss: float, emulated: bool) -> None:
    if not 0 <= loss < 1:
        raise rejected(key, loss, "a number from 0 to below 1")
    if loss and emulated:
        rule = "0 with shaper=emulated: network.loss needs a packet-level shaper"
        raise rejected(key, loss, rule)


def at_least(key: str, value: int, least: int) -> None:
    """Raise `ConfigError` unless value ≥ least."""
    if value < least:
        raise rejected(key, value, f"a whole number ≥ {least}")


def one_of(key: str, value: str, allowed: Collection[str]) -> None:
    """Raise `ConfigError` unless `value` is among `allowed`."""
    if value not in allowed:
        raise rejected(key, value, f"one of {', '.join(allowed)}")
