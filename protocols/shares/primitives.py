"""What a system on secret shares brings of its own.

S is what one role holds of a shared tensor: a tensor of integers, or the parts of a replicated sharing.
All online roles call the same methods in the same order with the same shapes; what one role alone knows it
passes, the others pass None. `own` makes P0's weights when they are wanted, which is once.

A system that deals correlations ahead walks every step twice (`deals`): offline on shares without data,
to learn which correlations are needed, then online.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import ClassVar, Generic, Literal, Protocol, TypeVar

from torch import Tensor

from protocols.errors import Unsupported
from protocols.party import P0, P1, Party
from protocols.token_sampling import Picker
from protocols.transformer.model import ModelWeights
from protocols.transformer.spec import TransformerSpec
from protocols.transformer.weights import LayerWeights, Linear
from protocols.workload import NonlinearOp

Tables = tuple[Tensor, Tensor]
# Number of keys L → which of them count, bool (n, L); None: all.
Seen = Callable[[int], Tensor | None]
Which = Literal[1, 2]  # of a layer's norms
Tokens = list[int] | None


class Shaped(Protocol):
    """A share knows the shape of its secret."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the secret."""


S = TypeVar("S", bound=Shaped)


class SharedLinear(ABC, Generic[S]):
    """One secret matrix of P0, and its bias."""

    def prepare(self) -> None:
        """Phase prepare: bring the weights into shared form."""

    @abstractmethod
    def __call__(self, x: S) -> S:
        """x (n, k) → x·Wᵀ + b (n, m)."""


class SharedLayer(ABC, Generic[S]):
    """One layer's weights in shared form; tied layers have the same.

    Norms may leave their gain and bias to the matrix that follows them, into which P0 has folded them;
    then `gained` applies them where the residual needs the normed tensor itself.
    """

    def prepare(self) -> None:
        """Phase prepare: bring the weights into shared form."""

    @abstractmethod
    def normed(self, which: Which, x: S) -> S:
        """The rows of x (n, d_model), normed."""

    def gained(self, which: Which, normed: S) -> S:
        """What `normed` gave, with the gain and bias it may have left out."""
        return normed

    @abstractmethod
    def projected(self, x: S, tables: Tables | None) -> tuple[S, S, S]:
        """Queries, keys and values (heads, n, d_head) of x (n, d_model), queries so scaled that scores
        need no factor. tables: cos and sin of the positions, in a step of their own or none."""

    @abstractmethod
    def up(self, x: S) -> S:
        """x (n, d_model) → the inner values (n, d_ff), or twice as wide where the family is gated."""

    @abstractmethod
    def added(self, key: Literal["out", "down"], x: S, residual: S) -> S:
        """The matrix's output plus the residual branch, (n, d_model)."""


class SharedCache(ABC, Generic[S]):
    """Keys and values of one layer of one sequence."""

    @abstractmethod
    def clear(self) -> None:
        """Forget all rows."""

    @abstractmethod
    def fill(self, k: S, v: S) -> None:
        """Take rows (kv_heads, L, d_head) that an experiment assumes to be there."""

    @abstractmethod
    def scores(self, q: S, k: S, v: S, seen: Seen) -> S:
        """Take the new rows k, v; q (heads, n, d_head) → q·kᵀ, (heads, n, L) over all rows."""

    @abstractmethod
    def weighted(self, p: S) -> S:
        """p·v: (heads, n, L) → (heads, n, d_head)."""


class SharedEmbedding(ABC, Generic[S]):
    """The tables before the first layer; BERT's norm too."""

    def prepare(self) -> None:
        """Phase prepare: bring the weights into shared form."""

    @abstractmethod
    def __call__(self, tokens: Tokens, count: int, first: int) -> S:
        """P1 passes `count` token ids, which stand at positions `first`, … → (count, d_model)."""


class Primitives(ABC, Generic[S]):
    """One role's primitives and what they keep: keys, streams, correlations.

    A system brings those that its experiments need, and refuses the others in `System.check`.
    """

    deals: ClassVar[bool] = False

    def __init__(self, party: Party) -> None:
        self.party = party

    def step(self, name: str) -> AbstractContextManager[None]:
        """`Party.step`."""
        return self.party.step(name)

    def _lacks(self, name: str) -> Unsupported:
        return Unsupported(f"{type(self).__name__} brings no {name}")

    @property
    def owns_weights(self) -> bool:
        """Whether this role holds the model in the clear."""
        return self.party.role == P0

    @property
    def owns_input(self) -> bool:
        """Whether this role holds the input in the clear."""
        return self.party.role == P1

    @property
    def without_data(self) -> bool:
        """Whether the pass under way has shapes alone."""
        return False

    def establish(self) -> None:
        """Phase prepare: keys."""

    def begin_offline(self, step: int) -> None:
        """Offline, before anything else of a step; step 0 begins a fresh evaluation."""

    def begin_online(self) -> None:
        """Before the input of a step is shared."""

    def end_online(self) -> None:
        """After a step."""

    @abstractmethod
    def given(self, own: Tensor | None, shape: tuple[int, ...]) -> S:
        """P1 passes float64 values → their shared form."""

    @abstractmethod
    def part(self, x: S) -> tuple[Tensor, ...]:
        """This role's part of an answer that stays shared, for `System.reveal`."""

    @abstractmethod
    def each(self, x: S, change: Callable[[Tensor], Tensor]) -> S:
        """A reordering of elements (reshape, transpose, slice), of all parts alike."""

    def argmax(self, x: S) -> Tensor | None:
        """x (n,) → the index of the largest at P1, None elsewhere."""
        raise self._lacks("argmax")

    def function(self, op: NonlinearOp, x: S) -> S:
        """The function called `op`."""
        raise self._lacks("function")

    def product(self, x: S, y: S) -> S:
        """x∘y."""
        raise self._lacks("product")

    def softmax(self, scores: S, visible: Tensor | None) -> S:
        """Weights of the rows (heads, n, L). visible: which scores count, bool (n, L); None: all."""
        raise self._lacks("softmax")

    def activation(self, spec: TransformerSpec, x: S) -> S:
        """GeLU, or SiLU where the family is gated, elementwise."""
        raise self._lacks("activation")

    @abstractmethod
    def linear(
        self, name: str, shape: tuple[int, int], own: Callable[[], Linear] | None
    ) -> SharedLinear[S]:
        """A matrix (m, k) with a bias."""

    def layer(
        self, name: str, spec: TransformerSpec, own: Callable[[], LayerWeights] | None
    ) -> SharedLayer[S]:
        """The weights of one layer."""
        raise self._lacks("layer")

    def cache(self, spec: TransformerSpec) -> SharedCache[S]:
        """An empty cache of one layer."""
        raise self._lacks("cache")

    def embedding(self, spec: TransformerSpec, own: ModelWeights | None) -> SharedEmbedding[S]:
        """The tables before the first layer."""
        raise self._lacks("embedding")

    def head(
        self, spec: TransformerSpec, own: ModelWeights | None, embedding: SharedEmbedding[S]
    ) -> SharedLinear[S]:
        """Final norm and head: hidden states (n, d_model) → logits (n, vocab)."""
        raise self._lacks("head")

    def chosen(self, logits: S, pick: Picker) -> tuple[Tokens, tuple[Tensor, ...]]:
        """The tokens that follow, at P1 (None elsewhere), and this role's part of the answer."""
        raise self._lacks("chosen")

    def reveal(self, x: S) -> Tensor | None:
        """x in the clear, float64, at P1; None elsewhere."""
        raise self._lacks("reveal")
