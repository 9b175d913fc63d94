"""One role's state shared by all protocol steps: its transport, its keys, and the pass under way.

Keys (prepare): P2 draws k02 and k12 and sends each to the role it shares it with.

| from | to | what | bytes | hop |
|---|---|---|---|---|
| P2 | P0 | k02: permutations, pads t, r, τ0, U, dithers ρ | 16 | 1 |
| P2 | P1 | k12: masks λ, μ | 16 | 1 |
| P0 | P1 | k01, with mask_holder=dealer: V, in place of U | 16 | 2 |

A third key stays with P2: low bits ℓ of truncated masks. P0 could compute x mod 2^s from ℓ.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

import torch
from torch import Tensor

from protocols.arith.prg import KEY_BYTES, Prg, Stream
from protocols.errors import PeerError
from protocols.party import P0, P1, P2, Party, Role
from protocols.permllm.domain import MAX_WEIGHT_FRAC, Domain, Ring64
from protocols.permllm.masked_value import Masked
from protocols.permllm.material_ledger import Ledger, Store
from protocols.permllm.weight_halves import Memory, in_memory

NO_STEPS = range(0)
S = TypeVar("S", bound="Step")
P = ParamSpec("P")
T = TypeVar("T")


class Pass(threading.local):
    """The pass that this thread is in: offline or online, and for which steps of the evaluation.

    Offline several steps may go at once, their rows one below the other; online it is one.
    """

    offline = True
    steps = NO_STEPS
    party: Party | None = None  # of a thread aside
    owed: "tuple[Callable[[], object], int] | None" = None  # work, and messages to come before it


class Context:
    """A role's party, PRG keys, material, and the pass under way."""

    def __init__(
        self,
        party: Party,
        seed: int | None,
        domain: Domain,
        mask_holder: Role = P1,
        memory: Memory = in_memory,
        store: Store | None = None,
    ) -> None:
        self._party = party
        self.domain = domain
        self.mask_holder = mask_holder
        self.memory = memory
        self.role: Role = party.role
        self.ledger = Ledger(store)
        self._pass = Pass()
        self._seed = seed
        self._evaluation = 0
        self._drawn: set[str] = set()
        self._p0p2: Prg | None = None
        self._p1p2: Prg | None = None
        self._p2: Prg | None = None
        self._p0p1: Prg | None = None

    def establish(self) -> None:
        """Hand out the dealer's keys (phase prepare)."""
        if self.role == P2:
            root = Prg.root(self._seed, "dealer")
            self._p0p2 = self._hand_out(root.key("P0"), P0)
            self._p1p2 = self._hand_out(root.key("P1"), P1)
            self._p2 = Prg(root.key("P2"))
            return
        if self.role == P0:
            self._p0p2 = self._received(P2)
        else:
            self._p1p2 = self._received(P2)
        if self.mask_holder == P2:
            self._establish_weight_key()

    def _establish_weight_key(self) -> None:
        """P0 draws k01 itself: the dealer, who holds W − V, must never see it."""
        if self.role == P0:
            self._p0p1 = self._hand_out(Prg.root(self._seed, "provider").key("P1"), P1)
        else:
            self._p0p1 = self._received(P0)

    def _received(self, source: Role) -> Prg:
        (key,) = self.receive("keys", source, (KEY_BYTES,), dtype=torch.uint8)
        return Prg(bytes(key.numpy()))

    def _hand_out(self, key: bytes, to: Role) -> Prg:
        self.party.send(to, torch.tensor(list(key), dtype=torch.uint8))
        return Prg(key)

    @property
    def ring(self) -> Ring64:
        """The domain, for steps that need a ring. Raises TypeError for another."""
        if not isinstance(self.domain, Ring64):
            raise TypeError(f"{self.domain.name} shares are no words of a ring")
        return self.domain

    def keep_pace(self) -> None:
        """P0 waits until the holder of masked weights has taken in what was sent so far, so that no
        more than a layer's is under way."""
        if self.role == P0:
            self.receive("prepare", self.mask_holder)
        elif self.role == self.mask_holder:
            self.party.send(P0)

    def receive(
        self, step: str, source: Role, *shapes: tuple[int, ...], dtype: torch.dtype | None = None
    ) -> tuple[Tensor, ...]:
        """The next message of `source`: one tensor of each shape, of `dtype` (default: the shares').

        Raises PeerError with the step's name for a message that is anything else. Every value of an
        integer type is a share; real numbers must be finite.
        """
        dtype = self.domain.dtype if dtype is None else dtype
        self._pay()
        tensors = self.party.recv(source)
        if [(t.dtype, tuple(t.shape)) for t in tensors] != [(dtype, shape) for shape in shapes]:
            sent = ", ".join(_described(t.dtype, tuple(t.shape)) for t in tensors) or "nothing"
            right = ", ".join(_described(dtype, shape) for shape in shapes)
            raise PeerError(f"{step}: {source} sent {sent} instead of {right}")
        if dtype.is_floating_point and not all(bool(t.isfinite().all()) for t in tensors):
            raise PeerError(f"{step}: {source} sent a number that is not finite")
        return tensors

    def owe(self, work: Callable[[], object], messages: int) -> None:
        """Do `work` once `messages` more have come and the next is waited for: what no other message
        of this thread waits for is done while it would wait."""
        self._pass.owed = work, messages

    def _pay(self) -> None:
        if self._pass.owed is None:
            return
        work, messages = self._pass.owed
        self._pass.owed = (work, messages - 1) if messages else None
        if not messages:
            work()

    @property
    def party(self) -> Party:
        """Messages to the other roles, of this thread."""
        return self._pass.party or self._party

    def aside(self, party: Party) -> None:
        """From now on this thread is one aside, whose messages go through `party`."""
        self._pass.party = party

    @property
    def offline_pass(self) -> bool:
        """Whether it computes on masks, or on values."""
        return self._pass.offline

    @property
    def steps(self) -> range:
        """The steps of the evaluation under way."""
        return self._pass.steps

    def each_step(self) -> Iterator[int]:
        """Walk the steps one by one inside; yields 0, 1, …: the place of each among them."""
        steps = self.steps
        for place, step in enumerate(steps):
            self._pass.steps = range(step, step + 1)
            yield place
        self._pass.steps = steps

    def begin_offline(self, steps: range) -> None:
        """Start the offline pass of `steps`; step 0 begins a fresh evaluation: no stream is ever drawn
        twice, and what is left of the evaluation before is discarded. Raises RuntimeError."""
        if steps.start == 0:
            self._evaluation += 1
            self._drawn.clear()
            self.ledger.begin()
        self.ledger.deal(steps)
        self._pass.offline, self._pass.steps = True, steps

    def begin_online(self, step: int) -> None:
        """Start the online pass of `step`, whose material is burnt with it. Raises RuntimeError."""
        self.ledger.burn(step)
        self._pass.offline, self._pass.steps = False, range(step, step + 1)

    def truncate(self, x: Masked, bits: int) -> Masked:
        """x at `bits` fewer fractional bits, exactly to 1 ulp (`domain`); local to every role."""
        if x.half is None:
            return Masked(x.shape, x.frac - bits, None)
        domain = self.domain
        shift = domain.truncate_mask if self.offline_pass else domain.truncate_value
        return Masked(x.shape, x.frac - bits, shift(x.half, bits))

    def p0p2(self, name: str) -> Stream:
        """This evaluation's stream `name` of P0 and the dealer."""
        return _known(self._p0p2).stream(self._once(f"p0p2/{name}"))

    def p1p2(self, name: str) -> Stream:
        """This evaluation's stream `name` of P1 and the dealer."""
        return _known(self._p1p2).stream(self._once(f"p1p2/{name}"))

    def p2(self, name: str) -> Stream:
        """This evaluation's stream `name` of the dealer alone."""
        return _known(self._p2).stream(self._once(f"p2/{name}"))

    def truncatable_mask(
        self, name: str, safe_bits: int, bits: int | Tensor, *shape: int
    ) -> tuple[Tensor, Tensor]:
        """A mask that allows the exact truncation of |x| < 2^safe_bits by `bits` bits.

        bits: of all, or int64 of each element. λ = m·2^bits + ℓ and ℓ at the dealer; m·2^bits and 0 at
        P1, good for nothing but truncation.
        """
        domain = self.domain
        known = domain.round_mask(domain.safe_mask(self.p1p2(name), safe_bits, *shape), bits)
        if self.role == P1:
            return known, torch.zeros_like(known)
        low = domain.low_bits(self.p2(name), bits, *shape)
        return known + low, low

    def _once(self, name: str) -> str:
        """A stream's name in this evaluation; a second draw would repeat a mask."""
        indexed = f"{self._evaluation}/{self.steps.start}/{name}"
        if indexed in self._drawn:
            raise RuntimeError(f"stream {name} is drawn twice in evaluation {self._evaluation}")
        self._drawn.add(indexed)
        return indexed

    def weight_key(self, name: str) -> bytes:
        """Key of the mask of a weight matrix, at P0 and at whoever draws the mask: the same in every
        evaluation."""
        prg = self._p0p2 if self.mask_holder == P1 else self._p0p1
        return _known(prg).key(f"model/{name}")


def _known(prg: Prg | None) -> Prg:
    if prg is None:
        raise RuntimeError("this role does not hold that key")
    return prg


def _described(dtype: torch.dtype, shape: tuple[int, ...]) -> str:
    """A tensor's type and shape as int64 (2, 3)."""
    return f"{str(dtype).removeprefix('torch.')} {shape}"


class Step:
    """One protocol step, which runs once in the offline pass (on masks) and once online (on values).

    On the wire (`Party.step`) it has the last part of its name: whoever walks the steps adds the rest.
    """

    def __init__(self, ctx: Context, name: str) -> None:
        self.ctx = ctx
        self.name = name

    @property
    def domain(self) -> Domain:
        """The numbers of all shares."""
        return self.ctx.domain

    @property
    def role(self) -> Role:
        """The role this object plays."""
        return self.ctx.role

    @property
    def party(self) -> Party:
        """Messages to the other roles."""
        return self.ctx.party

    @property
    def _material(self) -> str:
        """A step may hold another of its name: each has material of its own."""
        return f"{self.name} ({type(self).__name__})"

    def keep(self, *pieces: Any) -> None:
        """For this step's online pass, where it is the only one under way."""
        (step,) = self.ctx.steps
        self.ctx.ledger.keep(step, self._material, *pieces)

    def keep_each(self, *tensors: Tensor) -> None:
        """For the online pass of every step under way: an equal part of each tensor's first
        dimension."""
        parts = [tensor.tensor_split(len(self.ctx.steps)) for tensor in tensors]
        for step, *pieces in zip(self.ctx.steps, *parts, strict=True):
            self.ctx.ledger.keep(step, self._material, *pieces)

    def take(self) -> tuple[Any, ...]:
        """What was kept for the step that is online."""
        return self.ctx.ledger.take(self.ctx.steps.start, self._material)

    def receive(
        self, source: Role, *shapes: tuple[int, ...], dtype: torch.dtype | None = None
    ) -> tuple[Tensor, ...]:
        """See `Context.receive`, which names this step."""
        return self.ctx.receive(self.name, source, *shapes, dtype=dtype)


def named(run: Callable[Concatenate[S, P], T]) -> Callable[Concatenate[S, P], T]:
    """A step's method, whose messages and compute have the step's name on the wire."""

    @wraps(run)
    def call(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        with self.party.step(self.name.rpartition("/")[2]):
            return run(self, *args, **kwargs)

    return call


def agree_exponents(ctx: Context, exponents: Sequence[int] | None, count: int) -> list[int]:
    """P0 tells P1 and P2 the public power-of-two exponents of its weight tensors (8 bytes each)."""
    if ctx.role != P0:
        step = "weight exponents"
        (exponents_sent,) = ctx.receive(step, P0, (count,), dtype=torch.int64)
        if bool(((exponents_sent < 0) | (exponents_sent > MAX_WEIGHT_FRAC)).any()):
            raise PeerError(f"{step}: {P0} sent one outside 0..{MAX_WEIGHT_FRAC}")
        return [int(e) for e in exponents_sent]
    if exponents is None:
        raise RuntimeError("P0 has no weights")
    message = torch.tensor(exponents, dtype=torch.int64)
    ctx.party.send(P1, message)
    ctx.party.send(P2, message)
    return list(exponents)
