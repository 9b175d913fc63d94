"""What a generation produces, as its tokens come."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from harness.config.experiments import GenerateConfig
from harness.config.schema import RunConfig
from harness.parties.control import readable
from harness.progress import Progress
from protocols.party import Role
from protocols.system import System
from protocols.transformer.checkpoint.tokenizer import Tokenizer, load_tokenizer


class TokenStream:
    """Receives each step's answer; the base class is for experiments without tokens."""

    def received(self, parts: Mapping[Role, tuple[Tensor, ...]]) -> bool:
        """Take one step's answer in; whether the generation is over."""
        return False

    def result(self) -> dict[str, Any] | None:
        """The tokens, for the record."""
        return None


class PrintedTokens(TokenStream):
    """Streams P1's tokens to `progress`, as text where there is a tokenizer."""

    def __init__(
        self,
        system: type[System],
        prompt: list[int],
        tokenizer: Tokenizer | None,
        progress: Progress,
    ) -> None:
        self._system = system
        self._prompt, self._tokenizer, self._progress = prompt, tokenizer, progress
        self._stream = tokenizer.stream() if tokenizer else None
        self._tokens: list[int] = []

    def received(self, parts: Mapping[Role, tuple[Tensor, ...]]) -> bool:
        """Also ends at the model's end-of-text tokens."""
        token = self._system.token(parts)
        self._tokens.append(token)
        self._progress.say(readable(self._stream.push(token)) if self._stream else f"{token} ")
        return self._tokenizer is not None and token in self._tokenizer.eos_ids

    def result(self) -> dict[str, Any] | None:
        """Prompt tokens, tokens, and text where there is a tokenizer."""
        if self._stream:
            self._progress.say(readable(self._stream.finish()))
        self._progress.say("\n")
        text = self._tokenizer.decode(self._tokens) if self._tokenizer else None
        return {"prompt_tokens": self._prompt, "tokens": self._tokens, "text": text}


def token_stream(config: RunConfig, system: type[System], progress: Progress) -> TokenStream:
    """The tokens of `generate`, printed as they come; nothing for everything else."""
    experiment = config.experiment
    if not isinstance(experiment, GenerateConfig):
        return TokenStream()
    tokenizer = None
    if experiment.prompt is not None and config.model.checkpoint is not None:
        tokenizer = load_tokenizer(Path(config.model.checkpoint))
    return PrintedTokens(system, list(experiment.tokens or ()), tokenizer, progress)
