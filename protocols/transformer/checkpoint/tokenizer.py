"""Text to token ids and back, by the tokenizer that lies beside a checkpoint."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from protocols.errors import TokenizerError
from protocols.transformer.checkpoint.glm_tokenizer import GLM_MODEL, GlmCodec

_FILES = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json", "vocab.txt")
_INCOMPLETE = "\ufffd"  # what a decoder makes of a character whose last bytes are still to come


class Codec(Protocol):
    """What a `Tokenizer` needs from a library."""

    def encode(self, text: str) -> list[int]:
        """The ids, with the special tokens that the model expects around a prompt."""

    def decode(self, ids: list[int]) -> str:
        """The text, without special tokens."""


@dataclass(frozen=True)
class Tokenizer:
    """One checkpoint's tokenizer. `eos_ids` are the tokens that end a generation."""

    codec: Codec
    eos_ids: frozenset[int]

    def encode(self, text: str) -> list[int]:
        """The ids of a prompt, with the special tokens that the model expects around it."""
        return self.codec.encode(text)

    def decode(self, ids: list[int]) -> str:
        """The text of `ids`, without special tokens."""
        return self.codec.decode(ids)

    def stream(self) -> "TextStream":
        """The text of tokens that come one at a time."""
        return TextStream(self.codec)


class TextStream:
    """Text as its tokens come. All that is emitted, put together, is the text of all tokens."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        # The tokens of the last piece of text that was complete (whether a word begins with a space
        # depends on what stands before it), then those that came after it.
        self._ids: list[int] = []
        self._before = 0
        self._shown = 0

    def push(self, token: int) -> str:
        """The text that `token` completes: none while a character still lacks bytes."""
        self._ids.append(token)
        text = self._codec.decode(self._ids)
        complete = text.rstrip(_INCOMPLETE)
        new = complete[self._shown :]
        self._shown = max(self._shown, len(complete))
        if new and complete == text:
            self._ids = self._ids[self._before :]
            self._before = len(self._ids)
            self._shown = len(self._codec.decode(self._ids))
        return new

    def finish(self) -> str:
        """What is left at the end: characters that never became complete."""
        return self._codec.decode(self._ids)[self._shown :]


def load_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer in `folder`, read from there alone; no code from the folder is run.

    Raises TokenizerError without tokenizer files, or without the package that reads them.
    """
    if (folder / GLM_MODEL).is_file():
        return _load_glm(folder)
    if not any((folder / name).is_file() for name in _FILES):
        raise TokenizerError(folder, f"has no tokenizer: none of {', '.join(_FILES)}, {GLM_MODEL}")
    codec = _load_auto(folder)
    return Tokenizer(codec, _eos_ids(folder, codec.eos_id))


class _AutoCodec:
    """A tokenizer of the package transformers."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self.eos_id: int | None = tokenizer.eos_token_id

    def encode(self, text: str) -> list[int]:
        """See `Codec`."""
        return list(self._tokenizer.encode(text))

    def decode(self, ids: list[int]) -> str:
        """See `Codec`."""
        text: str = self._tokenizer.decode(
            ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return text


def _load_auto(folder: Path) -> _AutoCodec:
    try:
        from transformers import AutoTokenizer  # noqa: PLC0415 - an optional extra
    except ImportError:
        hint = "its tokenizer needs the package transformers: pip install 'permbench[hf]'"
        raise TokenizerError(folder, hint) from None
    for name in ("tokenizer.json", "tokenizer_config.json"):
        _settings(folder, name)
    try:
        loaded = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    except (OSError, ValueError, ImportError, LookupError, TypeError) as error:
        raise TokenizerError(folder, f"tokenizer cannot be loaded: {error}") from None
    return _AutoCodec(loaded)


def _load_glm(folder: Path) -> Tokenizer:
    try:
        codec = GlmCodec(folder)
    except ImportError:
        hint = "its tokenizer needs the package sentencepiece: pip install 'permbench[hf]'"
        raise TokenizerError(folder, hint) from None
    except (OSError, ValueError, RuntimeError) as error:
        raise TokenizerError(folder, f"tokenizer cannot be loaded: {error}") from None
    return Tokenizer(codec, _eos_ids(folder, codec.eos_id))


def _eos_ids(folder: Path, of_tokenizer: int | None) -> frozenset[int]:
    """As transformers' `generate` has it: the generation config's, else the model config's."""
    for name in ("generation_config.json", "config.json"):
        eos = _settings(folder, name).get("eos_token_id")
        if eos is not None:
            return frozenset(eos if isinstance(eos, list) else [eos])
    return frozenset() if of_tokenizer is None else frozenset([of_tokenizer])


def _settings(folder: Path, name: str) -> dict[str, Any]:
    path = folder / name
    try:
        found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except (OSError, ValueError) as error:
        raise TokenizerError(path, f"cannot be read as JSON: {error}") from None
    if not isinstance(found, dict):
        raise TokenizerError(path, "cannot be read as JSON: not an object")
    return found
