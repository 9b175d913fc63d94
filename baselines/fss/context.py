"""One role's state shared by all primitives: its transport, the dealer's keys, and the pass under way.

**Masked values.** A secret x in Z_2^n is x̂ = x + r mod 2^n at P0 and at P1, and r at the dealer. A tensor
that primitives take or give is x̂ online, r in the dealer's offline pass, and without data (torch's `meta`
device) in the offline pass of P0 and P1. What is linear is done to x̂ and to r alike; a public constant
is added online alone (`plus`).

A **gate** gives shares of y + r′ at P0 and P1, and r′ at the dealer: shares of several gates add up, and
`open` makes a masked value of them. Its keys are made and sent in the offline pass, in the order in which
the online pass takes them. All are packed to the bit (`bits`).

| phase | from | to | what | payload | hop |
|---|---|---|---|---|---|
| prepare | P2 | P0 | a PRG key for the masks of weights | 16 | 1 |
| offline | P2 | P0, P1 | keys of each gate | as its module says, packed | 1 |
| online | P0, P1 | each other | shares of y + r′ of w bits | ⌈n·w/8⌉ | 1 |

P0 and P1 learn x̂, which r hides perfectly; P2 learns all masks and no message of P0 or P1.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from math import prod
from typing import Concatenate, ParamSpec, TypeVar

import torch
from torch import Tensor

from baselines.fss import dpf
from baselines.fss.bits import (
    Field,
    Layout,
    Words,
    chunks,
    low_bits,
    pack,
    tensor_of,
    unpack,
    words_of,
)
from baselines.fss.key_queue import KeyQueue, Read
from baselines.fss.options import FssOptions
from baselines.fss.points import Message, Points, aes_key
from protocols.arith.prg import KEY_BYTES, Prg, Stream
from protocols.errors import PeerError
from protocols.on_disk import Messages
from protocols.party import P0, P1, P2, Party, Role

FRAC = 12  # fractional bits of every value unless its function says otherwise
# Numbers a message, multiples of 8: only the last one is filled up to a byte.
CHUNK = 1 << 20
POINTS = 1 << 14  # keys of points
_LEAVES = 1 << 20  # seeds at a time where whole trees are evaluated

Shape = tuple[int, ...]
P = ParamSpec("P")
T = TypeVar("T")


class Context:
    """A role's party and its unused keys."""

    def __init__(
        self, party: Party, seed: int | None, options: FssOptions, file: Messages | None = None
    ) -> None:
        """file: where keys wait; None: in memory."""
        self.party = party
        self.role: Role = party.role
        self.options = options
        self.bits = options.ring_bits
        self.online = False
        self._seed = seed
        self._root: Prg | None = None
        self._pass = self._drawn = self._points = 0
        self._step = ""  # under way
        self._keys = KeyQueue(file)

    @property
    def is_dealer(self) -> bool:
        """Whether this role makes the keys: P2."""
        return self.role == P2

    @property
    def leads(self) -> bool:
        """Whether this role adds what is public to its share: P0."""
        return self.role == P0

    @property
    def peer(self) -> Role:
        """The other computing party."""
        return P1 if self.leads else P0

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Call what is done inside `name`, in traces and in errors, after the step that it is part of."""
        outer = self._step
        self._step = f"{outer}/{name}" if outer else name
        try:
            with self.party.step(name):
                yield
        finally:
            self._step = outer

    def establish(self) -> None:
        """Hand out the key of the weights' masks (phase prepare)."""
        if self.is_dealer:
            self._root = Prg.root(self._seed, "dealer")
            key = self._root.key("weights")
            self.party.send(P0, torch.tensor(list(key), dtype=torch.uint8))
        elif self.leads:
            with self.step("masks of weights"):
                self._root = Prg(bytes(self._received(P2, KEY_BYTES).numpy()))

    def weight_masks(self, name: str) -> Stream:
        """P0 and the dealer: the stream of a matrix's masks."""
        if self._root is None:
            raise RuntimeError("establish comes first")
        root = Prg(self._root.key("weights")) if self.is_dealer else self._root
        return root.stream(f"model/{name}")

    def begin_offline(self) -> None:
        """Start the offline pass of one step: no stream is ever drawn twice, no key is kept."""
        self.online = False
        self._pass += 1
        self._drawn = self._points = 0
        self._keys.clear()

    def begin_online(self) -> None:
        """Start the online pass of the current step."""
        self.online = True
        self._points = 0

    def end_online(self) -> None:
        """Raise RuntimeError if the two passes have not run the same way."""
        if self._keys:
            raise RuntimeError(f"{len(self._keys)} messages of keys were dealt and not used")

    def mask(self, shape: Shape, width: int) -> Tensor:
        """A fresh r, `width` bits each, at the dealer; nothing elsewhere."""
        if self.is_dealer:
            return self._stream().int64(*shape) & low_bits(width)
        return self.nothing(shape)

    def nothing(self, shape: Shape) -> Tensor:
        """A tensor without data."""
        return torch.empty(shape, dtype=torch.int64, device="meta")

    def public(self, value: Tensor) -> Tensor:
        """A public value as a masked one, whose mask is 0."""
        if self.online:
            return value
        return torch.zeros_like(value) if self.is_dealer else value.to("meta")

    def plus(self, x: Tensor, value: Tensor | int) -> Tensor:
        """The masked x + value for a public value."""
        return x + value if self.online else x

    def shared(
        self, shape: Shape, width: int, value: Callable[[], Tensor], now: bool = False
    ) -> Tensor:
        """A share of the `value` (of `shape`) that the dealer computes, `width` bits for each element.

        now: P0 and P1 have it in the offline pass already, and not online."""
        layout, places = Layout((Field(width),)), chunks(prod(shape), CHUNK)
        if not self.is_dealer:
            return self._at_once(layout, shape) if now else self._held(layout, shape)
        first = self._stream().int64(*shape) & low_bits(width)
        rest = (value() - first) & low_bits(width)
        for role, half in ((P0, first.reshape(-1)), (P1, rest.reshape(-1))):
            for lo, hi in places:
                self._send(role, layout, hi - lo, [words_of(half[lo:hi])])
        return rest

    def known(self, role: Role, shape: Shape, width: int, value: Callable[[], Tensor]) -> Tensor:
        """The `value` that the dealer computes, in the clear at `role` alone; elsewhere nothing."""
        layout = Layout((Field(width),))
        if self.role == role:
            return self._held(layout, shape)
        if self.is_dealer:
            flat = (value() & low_bits(width)).reshape(-1)
            for lo, hi in chunks(len(flat), CHUNK):
                self._send(role, layout, hi - lo, [words_of(flat[lo:hi])])
        return self.nothing(shape)

    def told(self, shape: Shape, width: int, value: Callable[[], Tensor]) -> Tensor:
        """The same at P0 and at P1."""
        if not self.is_dealer:
            return self.known(self.role, shape, width, value)
        found = value()
        for role in (P0, P1):
            self.known(role, shape, width, lambda: found)
        return found

    def point(
        self, shape: Shape, width: int, alpha: Callable[[], Tensor], trees: bool = False
    ) -> Points:
        """Keys of `dpf` for the dealer's alpha, of which `width` bits count. trees: whole trees will be
        evaluated."""
        size = max(8, _LEAVES >> dpf.levels(width)) if trees else POINTS
        flat = (alpha() & low_bits(width)).reshape(-1) if self.is_dealer else None
        messages = []
        for lo, hi in chunks(prod(shape), min(size, POINTS)):
            self._points += 1
            key = aes_key(self._pass, self._points)
            if flat is None:
                messages.append(Message(lo, hi, key, self._next_keys(dpf.layout(width), hi - lo)))
            else:
                sign = self._send_points(words_of(flat[lo:hi]), width, key)
                messages.append(Message(lo, hi, key, sign=sign))
        return Points(0 if self.leads else 1, width, shape, messages)

    def _send_points(self, alpha: Words, width: int, key: bytes) -> Words:
        *both, sign = dpf.generate(alpha, width, self._stream(), key)
        for role, keys in zip((P0, P1), both, strict=True):
            self._send(role, dpf.layout(width), len(alpha), dpf.fields(keys))
        return sign

    def open(self, share: Tensor, width: int) -> Tensor:
        """The masked value of `width` bits from this role's share. One hop."""
        return self.open_all((share, width))[0]

    def open_all(self, *shares: tuple[Tensor, int]) -> tuple[Tensor, ...]:
        """Several at once, in one message."""
        if not self.online:
            return tuple(share for share, _ in shares)
        own = [_packed(share, width) for share, width in shares]
        theirs = self.party.exchange(self.peer, *own)
        self._check(self.peer, theirs, [part.numel() for part in own])
        opened = []
        for (share, width), part in zip(shares, theirs, strict=True):
            other = self._numbers(self.peer, part, tuple(share.shape), width)
            opened.append((share + other) & low_bits(width))
        return tuple(opened)

    def send_masked(self, to: Role, value: Tensor, width: int) -> None:
        """Masked numbers of `width` bits."""
        self.party.send(to, _packed(value, width))

    def receive_masked(self, source: Role, shape: Shape, width: int) -> Tensor:
        """What `source` sends by `send_masked`."""
        size = Layout((Field(width),)).size(prod(shape))
        return self._numbers(source, self._received(source, size), shape, width)

    def _numbers(self, source: Role, packed: Tensor, shape: Shape, width: int) -> Tensor:
        layout, count = Layout((Field(width),)), prod(shape)
        self._check_spare(source, layout, count, packed)
        return tensor_of(unpack(layout, count, packed), shape)

    def _received(self, source: Role, size: int) -> Tensor:
        """One message of `size` bytes. Raises PeerError for any other."""
        message = self.party.recv(source)
        self._check(source, message, [size])
        return message[0]

    def _received_keys(self, layout: Layout, count: int) -> Tensor:
        packed = self._received(P2, layout.size(count))
        self._check_spare(P2, layout, count, packed)
        return packed

    def _check(self, source: Role, message: tuple[Tensor, ...], sizes: list[int]) -> None:
        right = [(torch.uint8, (size,)) for size in sizes]
        sent = [(tensor.dtype, tuple(tensor.shape)) for tensor in message]
        if sent != right:
            raise PeerError(f"{self._step}: {source} sent {sent} instead of {right}")

    def _check_spare(self, source: Role, layout: Layout, count: int, packed: Tensor) -> None:
        spare = layout.spare(count)
        if spare and int(packed[-1]) >> (8 - spare):
            raise PeerError(f"{self._step}: {source} sent bits that no number has")

    def _stream(self) -> Stream:
        if self._root is None:
            raise RuntimeError("establish comes first")
        self._drawn += 1
        return self._root.stream(f"{self._pass}/{self._drawn}")

    def _send(self, role: Role, layout: Layout, count: int, numbers: list[Words]) -> None:
        self.party.send(role, pack(layout, count, numbers))

    def keep(self, share: Tensor) -> None:
        """For `kept` of the online pass, in the same order."""
        self._keys.append("kept", _packed(share, self.bits))

    def kept(self, shape: Shape) -> Tensor:
        """What was kept, mod 2^n."""
        layout = Layout((Field(self.bits),))
        return tensor_of(unpack(layout, prod(shape), self._next("kept")()), shape)

    def _held(self, layout: Layout, shape: Shape) -> Tensor:
        """The next keys of one field: stored offline, numbers of `shape` online."""
        places = chunks(prod(shape), CHUNK)
        packed = [self._next_keys(layout, hi - lo) for lo, hi in places]
        read = [part() for part in packed if part is not None]
        return _unpacked(layout, shape, read) if self.online else self.nothing(shape)

    def _at_once(self, layout: Layout, shape: Shape) -> Tensor:
        """The same in the offline pass."""
        if self.online:
            return self.nothing(shape)
        places = chunks(prod(shape), CHUNK)
        return _unpacked(layout, shape, [self._received_keys(layout, hi - lo) for lo, hi in places])

    def _next_keys(self, layout: Layout, count: int) -> Read | None:
        """The next message of keys: received offline, taken online."""
        if self.online:
            return self._next((layout, count))
        self._keys.append((layout, count), self._received_keys(layout, count))
        return None

    def _next(self, kind: object) -> Read:
        try:
            return self._keys.take(kind)
        except RuntimeError as error:
            raise RuntimeError(f"{self._step}: {error}") from None


def gate(
    name: str,
) -> Callable[[Callable[Concatenate[Context, P], T]], Callable[Concatenate[Context, P], T]]:
    """A protocol whose messages are those of the gate `name`."""

    def named(
        protocol: Callable[Concatenate[Context, P], T],
    ) -> Callable[Concatenate[Context, P], T]:
        @wraps(protocol)
        def run(ctx: Context, /, *args: P.args, **options: P.kwargs) -> T:
            with ctx.step(name):
                return protocol(ctx, *args, **options)

        return run

    return named


def _unpacked(layout: Layout, shape: Shape, packed: list[Tensor]) -> Tensor:
    """The numbers of one field that came in several messages."""
    places = chunks(prod(shape), CHUNK)
    numbers = [
        unpack(layout, hi - lo, part)[0] for (lo, hi), part in zip(places, packed, strict=True)
    ]
    return tensor_of(numbers, shape)


def _packed(value: Tensor, width: int) -> Tensor:
    numbers = words_of(value & low_bits(width))
    return pack(Layout((Field(width),)), value.numel(), [numbers])
