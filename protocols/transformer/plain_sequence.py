"""What every plaintext model offers: logits of one sequence, token by token or several at once."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from torch import Tensor

from protocols.transformer.spec import TransformerSpec


class PlainSequence(ABC):
    """One sequence through one model. `reset` forgets it."""

    _spec: TransformerSpec

    @abstractmethod
    def reset(self) -> None:
        """Forget the sequence."""

    def step(self, tokens: Sequence[int]) -> Tensor:
        """Logits (vocab,) after the last of `tokens`: first the prompt, then one at a time.

        Raises ValueError for a family without a head, and for tokens or positions that the model
        does not have.
        """
        return self._logits(tokens, 1)[0]

    def verify(self, tokens: Sequence[int]) -> Tensor:
        """The same after each of `tokens`, (n, vocab)."""
        return self._logits(tokens, len(tokens))

    def encode(self, tokens: Sequence[int]) -> Tensor:
        """The last layer's output for a sequence of its own, (n, d_model)."""
        self.reset()
        return self._run(tokens)

    def _logits(self, tokens: Sequence[int], last: int) -> Tensor:
        if not self._has_head:
            raise ValueError(f"{self._spec.family} has no head: it encodes")
        return self._scored(self._run(tokens)[-last:])

    @property
    @abstractmethod
    def _has_head(self) -> bool:
        """All but BERT's do."""

    @abstractmethod
    def _run(self, tokens: Sequence[int]) -> Tensor:
        """All layers over `tokens` (n), which join the sequence: (n, d_model)."""

    @abstractmethod
    def _scored(self, x: Tensor) -> Tensor:
        """Last norm and head: (n, vocab)."""
