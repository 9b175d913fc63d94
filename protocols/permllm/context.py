"""One role's state shared by all protocol steps: its transport, its keys, and the pass it walks.

Keys (prepare): P2 draws k02 and k12 and sends each to the role it shares it with.

| from | to | what | bytes | hop |
|---|---|---|---|---|
| P2 | P0 | k02: permutations, pads t, r, τ0, U, dithers ρ | 16 | 1 |
| P2 | P1 | k12: masks λ, μ | 16 | 1 |

A third key stays with P2: low bits ℓ of truncated masks. P0 could compute x mod 2^s from ℓ.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from protocols.arith.prg import KEY_BYTES, Prg, Stream
from protocols.errors import PeerError
from protocols.party import P0, P1, P2, Party, Role
from protocols.permllm.domain import MAX_WEIGHT_FRAC, Domain
from protocols.permllm.masked import Masked


class Context:
    """A role's party, PRG keys and current pass ("offline" or "online")."""

    def __init__(self, party: Party, seed: int | None, domain: Domain) -> None:
        self.party = party
        self.domain = domain
        self.role: Role = party.role
        self.offline_pass = True
        self._seed = seed
        self._evaluation = 0
        self._drawn: set[str] = set()
        self._p0p2: Prg | None = None
        self._p1p2: Prg | None = None
        self._p2: Prg | None = None

    def establish(self) -> None:
        """Hand out the dealer's keys (phase prepare)."""
        if self.role == P2:
            root = Prg.root(self._seed, "dealer")
            self._p0p2 = self._hand_out(root.key("P0"), P0)
            self._p1p2 = self._hand_out(root.key("P1"), P1)
            self._p2 = Prg(root.key("P2"))
            return
        (key,) = self.receive("keys", P2, (KEY_BYTES,), dtype=torch.uint8)
        prg = Prg(bytes(key.numpy()))
        if self.role == P0:
            self._p0p2 = prg
        else:
            self._p1p2 = prg

    def _hand_out(self, key: bytes, to: Role) -> Prg:
        self.party.send(to, torch.tensor(list(key), dtype=torch.uint8))
        return Prg(key)

    def receive(
        self, step: str, source: Role, *shapes: tuple[int, ...], dtype: torch.dtype | None = None
    ) -> tuple[Tensor, ...]:
        """The next message of `source`: one tensor of each shape, of `dtype` (default: the shares').

        Raises PeerError with the step's name for a message that is anything else. Every value of an
        integer type is a share; real numbers must be finite.
        """
        dtype = self.domain.dtype if dtype is None else dtype
        tensors = self.party.recv(source)
        if [(t.dtype, tuple(t.shape)) for t in tensors] != [(dtype, shape) for shape in shapes]:
            sent = ", ".join(_told(t.dtype, tuple(t.shape)) for t in tensors) or "nothing"
            right = ", ".join(_told(dtype, shape) for shape in shapes)
            raise PeerError(f"{step}: {source} sent {sent} instead of {right}")
        if dtype.is_floating_point and not all(bool(t.isfinite().all()) for t in tensors):
            raise PeerError(f"{step}: {source} sent a number that is not finite")
        return tensors

    def begin_offline(self) -> None:
        """Start the offline pass of a fresh evaluation: no stream is ever drawn twice."""
        self.offline_pass = True
        self._evaluation += 1
        self._drawn.clear()

    def begin_online(self) -> None:
        """Start the online pass of the current evaluation."""
        self.offline_pass = False

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
        self, name: str, safe_bits: int, bits: int, *shape: int
    ) -> tuple[Tensor, Tensor]:
        """A mask that allows the exact truncation of |x| < 2^safe_bits by `bits` bits.

        λ = m·2^bits + ℓ and ℓ at the dealer; m·2^bits and 0 at P1, good for nothing but truncation.
        """
        domain = self.domain
        known = domain.round_mask(domain.safe_mask(self.p1p2(name), safe_bits, *shape), bits)
        if self.role == P1:
            return known, torch.zeros_like(known)
        low = domain.low_bits(self.p2(name), bits, *shape)
        return known + low, low

    def _once(self, name: str) -> str:
        """A stream's name in this evaluation; a second draw would repeat a mask."""
        if name in self._drawn:
            raise RuntimeError(f"stream {name} is drawn twice in evaluation {self._evaluation}")
        self._drawn.add(name)
        return f"{self._evaluation}/{name}"

    def model_stream(self, name: str) -> Stream:
        """A stream of P0 and the dealer that belongs to the model: the same in every evaluation."""
        return _known(self._p0p2).stream(f"model/{name}")


def _known(prg: Prg | None) -> Prg:
    if prg is None:
        raise RuntimeError("this role does not hold that key")
    return prg


def _told(dtype: torch.dtype, shape: tuple[int, ...]) -> str:
    """A tensor's type and shape as int64 (2, 3)."""
    return f"{str(dtype).removeprefix('torch.')} {shape}"


class Step:
    """One protocol step, walked once in the offline pass (on masks) and once online (on values)."""

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

    def receive(
        self, source: Role, *shapes: tuple[int, ...], dtype: torch.dtype | None = None
    ) -> tuple[Tensor, ...]:
        """See `Context.receive`, which names this step."""
        return self.ctx.receive(self.name, source, *shapes, dtype=dtype)


def agree_exponents(ctx: Context, exponents: Sequence[int] | None, count: int) -> list[int]:
    """P0 tells P1 and P2 the public power-of-two exponents of its weight tensors (8 bytes each)."""
    if ctx.role != P0:
        step = "weight exponents"
        (told,) = ctx.receive(step, P0, (count,), dtype=torch.int64)
        if bool(((told < 0) | (told > MAX_WEIGHT_FRAC)).any()):
            raise PeerError(f"{step}: {P0} sent one outside 0..{MAX_WEIGHT_FRAC}")
        return [int(e) for e in told]
    if exponents is None:
        raise RuntimeError("P0 has no weights")
    message = torch.tensor(exponents, dtype=torch.int64)
    ctx.party.send(P1, message)
    ctx.party.send(P2, message)
    return list(exponents)
