"""From a folder to a model: the family is looked up by the config's model_type.

Each family states its tensors once, as reads with the expected shape. `check` runs these reads
against the headers, `load` against the files.
"""

from pathlib import Path
from typing import Protocol

from protocols.transformer.checkpoint import bert, chatglm, gpt2, llama
from protocols.transformer.checkpoint.config import Config, read_config
from protocols.transformer.checkpoint.tensors import Read, Tensors, open_tensors
from protocols.transformer.model import ModelWeights
from protocols.transformer.spec import TransformerSpec


class Family(Protocol):
    """What the module of a family offers."""

    @property
    def PREFIX(self) -> str:  # noqa: N802 - a module's constant
        """What its tensors' names begin with when a head stands beside the model."""

    def spec_of(self, config: Config, name: str) -> TransformerSpec:
        """The shape; CheckpointError for a variant that is not supported."""

    def weights_of(self, config: Config, spec: TransformerSpec, read: Read) -> ModelWeights:
        """The weights, `read` being called for a layer or table when it is asked for."""


FAMILIES: dict[str, Family] = {"gpt2": gpt2, "llama": llama, "bert": bert, "chatglm": chatglm}


def spec_of(folder: Path) -> TransformerSpec:
    """The shape that config.json describes, named after the folder. Raises CheckpointError."""
    return _described(folder)[2]


def check(folder: Path) -> TransformerSpec:
    """`spec_of`, after making sure that `load` will find every tensor in its shape.

    Reads JSON and the headers of the safetensors files, none of the weights. Raises CheckpointError.
    """
    return _checked(folder)[2]


def load(folder: Path) -> ModelWeights:
    """The weights as float32, in this project's layout, each layer and table read when asked for.

    Takes model.safetensors, whole or in shards, of float16, bfloat16 or float32. Raises
    CheckpointError as `check` does.
    """
    family, config, spec, tensors = _checked(folder)
    return family.weights_of(config, spec, tensors.read)


def _checked(folder: Path) -> tuple[Family, Config, TransformerSpec, Tensors]:
    family, config, spec = _described(folder)
    tensors = open_tensors(folder, family.PREFIX)
    weights = family.weights_of(config, spec, tensors.expect)
    _ = weights.token_embedding, weights.head, list(weights.layers)
    return family, config, spec, tensors


def _described(folder: Path) -> tuple[Family, Config, TransformerSpec]:
    config = read_config(folder)
    kind = config.get("model_type")
    family = FAMILIES.get(kind) if isinstance(kind, str) else None
    if family is None:
        raise config.error(f"model_type is {kind!r}, supported: {', '.join(FAMILIES)}")
    if config.get("quantization_config") is not None:
        raise config.error("quantization_config is set, supported: unquantized weights alone")
    return family, config, family.spec_of(config, folder.resolve().name)
