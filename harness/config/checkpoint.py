"""What a configuration leaves to files: a checkpoint's dimensions, and a prompt's tokens."""

from dataclasses import asdict, replace
from pathlib import Path

from harness.config.experiments import GenerateConfig, ModelConfig
from harness.config.schema import RunConfig
from harness.errors import ConfigError, rejected


def resolve(config: RunConfig) -> RunConfig:
    """`config` with the dimensions of `model.checkpoint` and the tokens of `experiment.prompt`.

    Raises ConfigError for a folder that is no checkpoint, or has no tokenizer where one is needed.
    """
    if config.model.checkpoint is not None:
        config = replace(config, model=_described(config.model, Path(config.model.checkpoint)))
    if isinstance(config.experiment, GenerateConfig) and config.experiment.prompt is not None:
        config = replace(config, experiment=_tokenized(config.experiment, config.model))
    return config


def _described(model: ModelConfig, folder: Path) -> ModelConfig:
    from protocols.transformer.checkpoint import CheckpointError, check  # noqa: PLC0415 - slow

    if model.tie_layers:
        raise rejected("model.tie_layers", True, "false with model.checkpoint")
    try:
        spec = check(folder)
    except CheckpointError as error:
        raise ConfigError("model.checkpoint", str(error)) from error
    return ModelConfig(**asdict(spec), checkpoint=str(folder.resolve()))


def _tokenized(generate: GenerateConfig, model: ModelConfig) -> GenerateConfig:
    from protocols.errors import TokenizerError  # noqa: PLC0415 - slow
    from protocols.transformer.checkpoint.tokenizer import load_tokenizer  # noqa: PLC0415 - slow

    if generate.tokens is not None:
        raise rejected(
            "experiment.tokens", generate.tokens, "null where experiment.prompt is given"
        )
    if model.checkpoint is None:
        rule = "null without model.checkpoint, whose tokenizer it needs (or give experiment.tokens)"
        raise rejected("experiment.prompt", generate.prompt, rule)
    try:
        tokens = load_tokenizer(Path(model.checkpoint)).encode(generate.prompt or "")
    except TokenizerError as error:
        raise ConfigError("experiment.prompt", str(error)) from error
    return replace(generate, tokens=tokens)
