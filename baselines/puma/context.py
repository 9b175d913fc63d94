"""One role's state: which it is, its two keys, and the streams of the current evaluation.

Key κ_i belongs to share i: P_i and P_(i-1), who hold x_i, hold κ_i as well, and draw the same values
from it without a message. P_i draws κ_i in phase prepare and sends it to P_(i-1).

| phase | from | to | what | bytes | hop |
|---|---|---|---|---|---|
| prepare | P_i | P_(i-1) | κ_i | 16 | 1 |

The third role knows nothing of κ_i. A protocol draws all it needs from one key in the same round at
both holders, so that their streams stay in step whatever runs beside it.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from baselines.puma.cost import Cost, rotation
from baselines.puma.round_scheduler import Round
from baselines.puma.share import Bits, Share, Term
from protocols.arith.prg import KEY_BYTES, Prg, Stream
from protocols.party import ROLES, Role

NameStep = Callable[[str], AbstractContextManager[None]]


def _nameless(name: str) -> AbstractContextManager[None]:
    """Nobody asks for steps' names."""
    return nullcontext()


class Context:
    """What a role needs to run protocols. `index` is i of P_i.

    step: `Party.step`. Not for what runs in `together` with others: a message of several is of none.
    """

    def __init__(self, role: Role, seed: int | None, step: NameStep = _nameless) -> None:
        self.role: Role = role
        self.step = step
        self.index = ROLES.index(role)
        self.before: Role = ROLES[self.index - 1]
        self.after: Role = ROLES[(self.index + 1) % 3]
        self._seed = seed
        self._evaluation = 0
        self._keys: dict[int, Prg] = {}
        self._streams: dict[int, Stream] = {}

    async def establish(self) -> None:
        """Draw and hand out the keys."""
        own = Prg.root(self._seed, f"puma/{self.role}").key("pair")
        message = torch.tensor(list(own), dtype=torch.uint8)
        received = await Round({self.before: (message,)}, {self.after: 1})
        (other,) = received[self.after]
        self._keys = {self.index: Prg(own), (self.index + 1) % 3: Prg(bytes(other.numpy()))}
        self._open_streams("model")

    def begin_evaluation(self) -> None:
        """Fresh streams: none is ever read twice."""
        self._evaluation += 1
        self._open_streams(f"evaluation/{self._evaluation}")

    def _open_streams(self, name: str) -> None:
        self._streams = {i: key.stream(name) for i, key in self._keys.items()}

    def draw(self, share: int, *shape: int) -> Tensor:
        """Uniform int64 of `shape` that belong to share `share`; only its holders can draw them."""
        return self._streams[share].int64(*shape)

    def draw_zero(self, *shape: int) -> Tensor:
        """This role's term of a fresh sharing of zero: uniform, and they add up to 0."""
        own = self._streams[self.index].int64(*shape)
        return own.sub_(self._streams[(self.index + 1) % 3].int64(*shape))

    def draw_zero_bits(self, count: int, dtype: torch.dtype) -> Tensor:
        """The same for exclusive or: a vector of `count` words."""
        words = -(-count * dtype.itemsize // 8)
        own = self._streams[self.index].int64(words)
        own.bitwise_xor_(self._streams[(self.index + 1) % 3].int64(words))
        return own.view(dtype)[:count]

    async def rotate(self, tensor: Tensor) -> Tensor:
        """Send a tensor to the role before this one, receive that of the role after it."""
        received = await Round({self.before: (tensor,)}, {self.after: 1})
        return received[self.after][0]

    def plus(self, x: Share, public: Tensor | int) -> Share:
        """x + a public integer (tensor) at x's scale, which joins share 0."""
        first = x.first + public if self.index == 0 else x.first
        second = x.second + public if self.index == 2 else x.second
        return Share(first, second, x.frac)

    def add(self, x: Term, public: Tensor | int) -> Term:
        """A term of x + a public integer (tensor) at x's scale."""
        return Term(x.value + public, x.frac) if self.index == 0 else x

    def flip(self, bits: Bits, public: int) -> Bits:
        """bits ⊕ a public word."""
        first = bits.first ^ public if self.index == 0 else bits.first
        second = bits.second ^ public if self.index == 2 else bits.second
        return Bits(first, second)


def establish_cost() -> Cost:
    """One key from each role."""
    return rotation(KEY_BYTES)
