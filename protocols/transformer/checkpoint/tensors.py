"""The tensors of a checkpoint: where each is, whether it is as expected, and its values.

Needs the package `safetensors`, whose reader maps a file and reads its header alone until a tensor is
asked for.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from protocols.errors import CheckpointError
from protocols.transformer.checkpoint.config import read_object

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
_DTYPES = {"F16": "float16", "BF16": "bfloat16", "F32": "float32"}
# What TensorFlow calls them, kept by the published BERT checkpoints.
_OLD_NAMES = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}


class Read(Protocol):
    """How a family gets at its tensors: by name without the model's prefix, and expected shape."""

    def __call__(self, name: str, *shape: int) -> Tensor:
        """The tensor as float32, or something of its shape; CheckpointError if it does not fit."""


@dataclass(frozen=True)
class _Entry:
    path: Path
    stored: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Tensors:
    """The tensors of one folder by name. `prefix` is what the file's names begin with, or empty."""

    where: Path
    prefix: str
    entries: Mapping[str, _Entry]
    promised: Mapping[str, str]

    def expect(self, name: str, *shape: int) -> Tensor:
        """A tensor of `shape` without values (device meta), if the header has one to fit it."""
        entry = self.entries.get(name)
        if entry is None:
            raise self._missing(name, shape)
        if entry.shape != shape:
            problem = f"has shape {entry.shape}, expected {shape} by config.json"
            raise CheckpointError(entry.path, f"tensor {entry.stored} {problem}")
        if entry.dtype not in _DTYPES:
            expected = ", ".join(_DTYPES.values())
            problem = f"has dtype {entry.dtype}, expected one of {expected}"
            raise CheckpointError(entry.path, f"tensor {entry.stored} {problem}")
        return torch.empty(shape, device="meta")

    def read(self, name: str, *shape: int) -> Tensor:
        """The tensor as float32. CheckpointError for values that are no numbers."""
        self.expect(name, *shape)
        entry = self.entries[name]
        with _opened(entry.path) as file:
            tensor: Tensor = file.get_tensor(entry.stored)
        if wrong := int(tensor.numel() - tensor.isfinite().sum()):
            problem = f"has {wrong} values that are NaN or infinite"
            raise CheckpointError(entry.path, f"tensor {entry.stored} {problem}")
        return tensor.float()

    def _missing(self, name: str, shape: tuple[int, ...]) -> CheckpointError:
        full = name if name.startswith("lm_head.") else self.prefix + name
        where = self.where.with_name(self.promised.get(full, self.where.name))
        return CheckpointError(where, f"tensor {full} is missing, expected shape {shape}")


def open_tensors(folder: Path, prefix: str) -> Tensors:
    """Read the headers of `folder`. Names that begin with `prefix` are known without it as well.

    Raises CheckpointError if a file is missing or cannot be read, or without `safetensors`.
    """
    where, promised = _index(folder)
    found: dict[str, _Entry] = {}
    for shard in sorted(set(promised.values())) or [where.name]:
        if Path(shard).name != shard or not (folder / shard).is_file():
            raise CheckpointError(folder / shard, f"no such file, but {INDEX} names it")
        found |= _header(folder / shard)
    prefixed = any(name.startswith(prefix) for name in found)
    entries = {_plain(name, prefix): entry for name, entry in found.items()}
    return Tensors(where, prefix if prefixed else "", entries, promised)


def _index(folder: Path) -> tuple[Path, dict[str, str]]:
    """The file that holds or lists all tensors, and which shard it promises each in."""
    if (folder / SINGLE).is_file():
        return folder / SINGLE, {}
    if (folder / INDEX).is_file():
        files = read_object(folder / INDEX).get("weight_map")
        if isinstance(files, dict) and files and all(isinstance(f, str) for f in files.values()):
            return folder / INDEX, files
        raise CheckpointError(folder / INDEX, "expected a weight_map from tensors to files")
    pickles = sorted(folder.glob("*.bin"))
    hint = f" ({pickles[0].name} is a pickle, which is not read: convert it)" if pickles else ""
    raise CheckpointError(folder, f"has neither {SINGLE} nor {INDEX}{hint}")


def _header(path: Path) -> dict[str, _Entry]:
    entries = {}
    with _opened(path) as file:
        for name in file.keys():  # noqa: SIM118 - not a mapping
            piece = file.get_slice(name)
            entries[name] = _Entry(path, name, tuple(piece.get_shape()), piece.get_dtype())
    return entries


def _plain(name: str, prefix: str) -> str:
    name = name.removeprefix(prefix)
    for old, new in _OLD_NAMES.items():
        if name.endswith(old):
            return name.removesuffix(old) + new
    return name


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        from safetensors import SafetensorError, safe_open  # noqa: PLC0415 - an optional extra
    except ImportError:
        hint = "pip install 'permbench[hf]'"
        raise CheckpointError(path, f"needs the package safetensors: {hint}") from None
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (OSError, SafetensorError) as error:
        raise CheckpointError(path, f"cannot be read as safetensors: {error}") from None
