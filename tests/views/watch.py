"""Sessions of three parties as threads, in which every message and every stream of a key is noted.

A test learns what a role received, which role read which stream under which key, and who holds that
key. Keys follow from `seed` alone, so that a session can be played again, the same but for the words
of some keys (`Change`) or of one stream (`Fault`).
"""

import hashlib
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor

from protocols.arith.prg import KEY_BYTES, Prg, Stream
from protocols.arith.ring import use_threads
from protocols.in_process_party import MemoryParty, run_parties
from protocols.party import ROLES, Phase, Role
from protocols.permllm import weight_halves

Walk = Callable[[MemoryParty], object]  # all that one role does in a session


@dataclass(frozen=True)
class Received:
    """One tensor. place: which message of its source it came in, and which tensor of it it was."""

    to: Role
    source: Role
    phase: Phase
    place: tuple[int, int]
    tensor: Tensor


@dataclass(frozen=True)
class Read:
    """One stream that a role opened. draws: kind and words, in order."""

    role: Role
    key: bytes
    name: str
    draws: list[tuple[str, Tensor]] = field(default_factory=list)


@dataclass(frozen=True)
class Fault:
    """A mistake with a stream, made by all its readers. name: the stream that is read in its place;
    draw: given the name and all draws so far, changes the last one."""

    name: Callable[[str], str] = lambda name: name
    draw: Callable[[str, list[Tensor]], object] = lambda name, draws: None


@dataclass(frozen=True)
class Change:
    """Changes of the words of some streams, drawn anew for each `salt`: of those under `keys` whose names
    do not begin with one of `fixed`. Permutations stay. nudge: 64-bit words change by 2^32 or not at
    all; else all words are others.
    """

    keys: frozenset[bytes]
    salt: int
    nudge: bool
    fixed: tuple[str, ...] = ()

    def stream(self, prg_key: bytes, name: str, stream_key: bytes) -> Stream | None:
        """Where the changes of a stream come from, if it is to change."""
        if prg_key not in self.keys or name.startswith(self.fixed):
            return None
        return Stream(_hash(stream_key, self.salt))

    def apply(self, changes: Stream, out: Tensor) -> None:
        """Change `out` in place."""
        if not self.nudge:
            changes._fill(out)
        elif out.dtype == torch.int64:
            out += (changes.int64(*out.shape) & 1) << NUDGED_BIT


@dataclass
class Session:
    """What was noted. holders: the roles that made a generator of a key."""

    received: list[Received] = field(default_factory=list)
    reads: list[Read] = field(default_factory=list)
    holders: dict[bytes, frozenset[Role]] = field(default_factory=dict)

    def view(self, role: Role, *sources: Role) -> list[Tensor]:
        """What a role received of some sources (default: of all), but for keys, by source in order."""
        chosen = [r for r in self.received if r.to == role and r.source in (sources or ROLES)]
        ordered = sorted(chosen, key=lambda r: (r.source, r.place))
        return [r.tensor for r in ordered if not self.is_key(r.tensor)]

    def is_key(self, tensor: Tensor) -> bool:
        """Whether a message is a key that somebody used."""
        return tensor.dtype == torch.uint8 and tensor.numpy().tobytes() in self.holders

    def unknown_to(self, role: Role) -> frozenset[bytes]:
        """The keys that a role does not hold."""
        return frozenset(key for key, roles in self.holders.items() if role not in roles)


RIGHT = Fault()
NUDGED_BIT = 32


def watch(walk: Walk, change: Change | None = None, fault: Fault = RIGHT, seed: int = 0) -> Session:
    """Play one session, with keys that follow from `seed`."""
    session, here, lock = Session(), threading.local(), threading.Lock()
    make, derive, receive = Prg.__init__, Prg.key, MemoryParty.recv
    weight_masks: dict[bytes, tuple[bytes, str]] = {}  # key of a stream: its generator's, its name

    def prg(self: Prg, key: bytes) -> None:
        make(self, key)
        with lock:
            session.holders[key] = session.holders.get(key, frozenset()) | {here.role}

    def root(own_seed: int | None, name: str) -> Prg:
        here.roots += own_seed is None  # a key of the operating system comes once
        return Prg(_hash(f"{here.role}/{name}/{here.roots}".encode(), seed))

    def open_stream(prg_key: bytes, name: str, key: bytes) -> Stream:
        read = Read(here.role, prg_key, name)
        session.reads.append(read)
        changes = None if change is None else change.stream(prg_key, name, key)
        return _Watched(key, read, fault, changes, change)

    def stream(self: Prg, name: str) -> Stream:
        name = fault.name(name)
        return open_stream(self._key, name, derive(self, name))

    def key(self: Prg, name: str) -> bytes:
        own = derive(self, name)
        if name.startswith("model/"):
            weight_masks[own] = self._key, name
            session.reads.append(Read(here.role, self._key, name))
        return own

    def weight_mask(key: bytes) -> Stream:
        return open_stream(*weight_masks[key], key)

    def recv(self: MemoryParty, source: Role) -> tuple[Tensor, ...]:
        tensors = receive(self, source)
        number, phase = here.heard.get(source, 0), self._current()
        here.heard[source] = number + 1
        copies = [(number, i, tensor.clone()) for i, tensor in enumerate(tensors)]
        session.received.extend(
            Received(self.role, source, phase, (n, i), tensor) for n, i, tensor in copies
        )
        return tensors

    def live(party: MemoryParty) -> object:
        here.role, here.heard, here.roots = party.role, {}, 0
        use_threads(1)
        return walk(party)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Prg, "__init__", prg)
        patch.setattr(Prg, "root", root)
        patch.setattr(Prg, "stream", stream)
        patch.setattr(Prg, "key", key)
        patch.setattr(weight_halves, "Stream", weight_mask)
        patch.setattr(MemoryParty, "recv", recv)
        run_parties(dict.fromkeys(ROLES, live))
    return session


class _Watched(Stream):
    """A stream that notes its draws, and changes all but permutations."""

    def __init__(
        self, key: bytes, read: Read, fault: Fault, changes: Stream | None, change: Change | None
    ) -> None:
        super().__init__(key)
        self._read, self._fault = read, fault
        self._changes, self._change = changes, change
        self._draws: list[Tensor] = []
        self._ordering = False

    def _fill(self, out: Tensor) -> Tensor:
        super()._fill(out)
        if self._ordering:
            return out
        self._note(str(out.dtype).removeprefix("torch."), out)
        if self._change is not None and self._changes is not None:
            self._change.apply(self._changes, out)
        self._draws.append(out)
        self._fault.draw(self._read.name, self._draws)
        return out

    def permutations(self, rows: int, n: int) -> Tensor:
        self._ordering = True
        out = super().permutations(rows, n)
        self._ordering = False
        self._note("permutation", out)
        return out

    def _note(self, kind: str, out: Tensor) -> None:
        self._read.draws.append((kind, out))


def _hash(name: bytes, seed: int) -> bytes:
    return hashlib.blake2b(name, salt=seed.to_bytes(16, "little"), digest_size=KEY_BYTES).digest()
