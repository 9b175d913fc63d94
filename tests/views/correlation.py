"""Repeats of one evaluation of PermLLM on one input, and what the roles held and saw of each.

Rounding is what must tell P1 nothing: what it sees of a fixed input differs between repeats in the last
bits alone. `repeats` records, of every evaluation,

- every number that P1 drew and every half that it held (`known`);
- every permuted tensor that P1 saw, back in order (`seen`);
- of every rounding (a window, an exact truncation) the exact secret and the result (`roundings`).

Of variant=fused: its scores, and its sums of squares; their error, in roundings of the row's elements, is
in `squares`.

`FAULTS` are ways to get the remedies wrong.
"""

import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from protocols.arith.prg import Prg, Stream
from protocols.in_process_party import MemoryParty, run_parties
from protocols.party import P0, P1, P2, ROLES, Role
from protocols.permllm import generation, programs, square_sum
from protocols.permllm.context import Context
from protocols.permllm.domain import Ring64
from protocols.permllm.masked_value import Masked
from protocols.permllm.options import PermLLMOptions
from protocols.permllm.permuted_functions import Revealed
from protocols.permllm.slot_softmax import SCORE_BYTES, SlotSoftmax, Weights
from protocols.permllm.square_sum import SquareSum
from protocols.permllm.system import PermLLM
from protocols.transformer.model import ModelWeights
from protocols.transformer.source import model_weights
from protocols.transformer.spec import Family, TransformerSpec
from protocols.transformer.weights import LayerWeights, Linear, synthetic_layer
from protocols.workload import Generation, Layer, Workload

SEED = 7
PAPER, FULL = PermLLMOptions(), PermLLMOptions(variant="fused")
GROWN = 8.0  # synthetic matrices are so small that a rounding hardly shows in the step after it
Faulty = Callable[[], Any]  # a context manager


@dataclass
class Rounding:
    """One place where low bits are cut: rows are evaluations, columns elements in their own order.

    secret: x / 2^bits, float64. error: result − secret. low: P0's half mod 2^bits, float64.
    """

    bits: int
    secret: Tensor
    error: Tensor
    low: Tensor


@dataclass
class Repeats:
    """What `repeats` recorded, by name; rows are evaluations."""

    known: Tensor  # int64
    seen: dict[str, Tensor]  # float64
    roundings: dict[str, Rounding]
    squares: dict[str, Tensor]  # float64 (evaluations,)


def workload(family: Family) -> Workload:
    """A layer with cached rows; of BERT, whose layers truncate their input, a model of two."""
    spec = TransformerSpec(family, family, 2, 16, 2, 32, 20, 64)
    return Generation(spec, 1, 0) if family == "bert" else Layer(spec, 1, 4)


def grown(weights: LayerWeights) -> LayerWeights:
    """The layer with larger matrices."""
    larger: dict[str, Any] = {
        key: replace(part, weight=part.weight * GROWN)
        for key, part in vars(weights).items()
        if isinstance(part, Linear)
    }
    return replace(weights, **larger)


@dataclass
class _Recorder:
    """Notes of all roles, by (role, pass, name); one entry an evaluation."""

    role: threading.local = field(default_factory=threading.local)
    notes: dict[tuple[Role, str, str], list[Tensor]] = field(
        default_factory=lambda: defaultdict(list)
    )
    bits: dict[str, int] = field(default_factory=dict)
    known: list[list[Tensor]] = field(default_factory=list)

    def note(self, role: Role, what: str, name: str, value: Tensor) -> None:
        self.notes[role, what, name].append(value.detach().reshape(-1).clone())

    def of(self, role: Role, what: str, name: str) -> Tensor:
        return torch.stack(self.notes[role, what, name])

    def hold(self, value: Tensor | None) -> None:
        """P1 holds `value` in the offline pass."""
        if value is not None and getattr(self.role, "name", "") == P1 and self.known:
            self.known[-1].append(value.detach().reshape(-1).to(torch.int64).clone())

    def matrix(self) -> Tensor:
        """Every number P1 held, each once, int64 (evaluations, numbers)."""
        rows = torch.stack([torch.cat(held) for held in self.known])
        _, group = torch.unique(rows[:2], dim=1, return_inverse=True)
        first = torch.full((int(group.max()) + 1,), rows.shape[1])
        first.scatter_reduce_(0, group, torch.arange(rows.shape[1]), "amin")
        return rows[:, first]


def repeats(
    family: Family,
    count: int,
    fixed: Role | None = None,
    options: PermLLMOptions = PAPER,
    key_seed: int = SEED,
) -> Repeats:
    """`count` evaluations of one input. fixed: whose streams with the dealer are the same in all."""
    work, recorder = workload(family), _Recorder()

    def walk(party: MemoryParty) -> None:
        recorder.role.name = party.role
        system = PermLLM(party, work, SEED, options, key_seed=key_seed)
        with party.phase("prepare"):
            system.prepare()
        for _ in range(count):
            if party.role == P1:
                recorder.known.append([])
            with party.phase("offline"):
                system.offline(0)
            recorder.role.name = "online"
            with party.phase("input"):
                system.share_input(0)
            with party.phase("online"):
                system.online(0)
            recorder.role.name = party.role

    with ExitStack() as stack:
        for patched in (
            *_larger_weights(),
            *_recording(recorder),
            *_recording_fused(recorder),
            *_fixing(fixed),
        ):
            stack.enter_context(patched)
        run_parties(dict.fromkeys(ROLES, walk), timeout_s=300)
    return _sorted_out(recorder)


def _sorted_out(recorder: _Recorder) -> Repeats:
    roundings, (seen, squares) = {}, _sorted_out_fused(recorder)
    for name, bits in recorder.bits.items():
        p0, p2 = recorder.of(P0, "half", name), recorder.of(P2, "half", name)
        secret = (p0 + p2).double() * 2.0**-bits
        if (P1, "seen", name) in recorder.notes:
            index, shown = recorder.of(P0, "index", name), recorder.of(P1, "seen", name)
            copies = shown.shape[1] // index.shape[1]
            shown = shown.reshape(len(shown), copies, -1)
            result = torch.empty_like(shown).scatter_(2, index[:, None].expand_as(shown), shown)
            result = result.reshape(len(shown), -1)
            seen[name] = result
        else:
            result = (recorder.of(P0, "result", name) + recorder.of(P1, "result", name)).double()
        low = (p0 & ((1 << bits) - 1)).double()
        roundings[name] = Rounding(bits, secret, result - secret, low)
    return Repeats(recorder.matrix(), seen, roundings, squares)


def _sorted_out_fused(recorder: _Recorder) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    seen, squares = {}, {}
    for role, what, name in list(recorder.notes):
        if (role, what) == (P1, "scores"):
            place, shown = recorder.of(P0, "slots", name), recorder.of(P1, what, name)
            seen[name] = torch.empty_like(shown).scatter_(1, place, shown)
        if (role, what) == (P1, "square"):
            halves = recorder.of(P0, "row", name) + recorder.of(P2, "row", name)
            row = halves.double() * 2.0**-square_sum.CUT_BITS
            shown = recorder.of(P1, what, name) * 2.0**square_sum.SQUARE_FRAC
            error = shown[:, 0] - row.square().sum(1)
            squares[name], seen[name] = error / (2 * row.norm(dim=1)), shown
    return seen, squares


def _larger_weights() -> list[Any]:
    def larger_model(*args: Any) -> ModelWeights:
        weights = model_weights(*args)
        return replace(weights, layers=[grown(layer) for layer in weights.layers])

    return [
        patch.object(programs, "synthetic_layer", lambda *args: grown(synthetic_layer(*args))),
        patch.object(generation, "model_weights", larger_model),
    ]


def _recording(recorder: _Recorder) -> list[Any]:
    """Listen at the windows, the truncations, the halves and the draws."""
    offline, online, truncate = Revealed.offline, Revealed.online, Context.truncate
    made, drawn64, drawn32 = Masked.__init__, Stream.int64, Stream.int32

    def reveal_offline(self: Revealed, inputs: list[Masked], rows: int = 1) -> Tensor | None:
        if self.role == P2:
            recorder.note(P2, "half", self.name, torch.cat([x.flat for x in inputs]))
        return offline(self, inputs, rows)

    def reveal_online(self: Revealed, inputs: list[Masked]) -> Tensor | None:
        seen = online(self, inputs)
        if seen is None:
            recorder.bits[self.name] = inputs[0].frac - self._window_frac
            recorder.note(P0, "half", self.name, torch.cat([x.flat for x in inputs]))
            recorder.note(P0, "index", self.name, self.index)
        else:
            recorder.note(P1, "seen", self.name, seen * 2.0**self._window_frac)
        return seen

    counts: dict[Role, int] = dict.fromkeys(ROLES, 0)

    def cut(self: Context, x: Masked, bits: int) -> Masked:
        result = truncate(self, x, bits)
        name = f"truncation {counts[self.role]} of {x.shape}"
        counts[self.role] += 1
        if x.half is not None and result.half is not None:
            recorder.note(self.role, "half", name, x.half)
            recorder.note(self.role, "result", name, result.half)
            if self.role == P0:
                recorder.bits[name] = bits
        return result

    def begins(original: Callable[..., None]) -> Callable[..., None]:
        def begin(self: Context, *steps: Any) -> None:
            counts[self.role] = 0
            original(self, *steps)

        return begin

    def make(self: Masked, *args: Any, **named: Any) -> None:
        made(self, *args, **named)
        recorder.hold(self.half)

    def draw64(self: Stream, *shape: int) -> Tensor:
        value = drawn64(self, *shape)
        recorder.hold(value)
        return value

    def draw32(self: Stream, *shape: int) -> Tensor:
        value = drawn32(self, *shape)
        recorder.hold(value)
        return value

    return [
        patch.object(Revealed, "offline", reveal_offline),
        patch.object(Revealed, "online", reveal_online),
        patch.object(Context, "truncate", cut),
        patch.object(Context, "begin_offline", begins(Context.begin_offline)),
        patch.object(Context, "begin_online", begins(Context.begin_online)),
        patch.object(Masked, "__init__", make),
        patch.object(Stream, "int64", draw64),
        patch.object(Stream, "int32", draw32),
    ]


def _recording_fused(recorder: _Recorder) -> list[Any]:
    """Listen at the scores in slots, and at the sums of squares."""
    probabilities, online = SlotSoftmax._probabilities, SlotSoftmax._online_p0
    squares_offline, squares_online = SquareSum._offline, SquareSum._online

    def note_scores(self: SlotSoftmax, scores: Tensor, frac: int) -> Tensor:
        shown = self.ctx.ring.signed(scores, SCORE_BYTES).double()
        recorder.note(P1, "scores", self.name, shown)
        return probabilities(self, scores, frac)

    def note_slots(self: SlotSoftmax, *args: Any) -> Weights:
        weights = online(self, *args)
        slots = weights.slots
        recorder.note(P0, "slots", self.name, slots.head[:, None] * slots.key.shape[1] + slots.key)
        return weights

    def note_mask(self: SquareSum, x: Masked) -> None:
        if self.role == P2:
            recorder.note(P2, "row", self.name, x.held)
        squares_offline(self, x)

    def note_square(self: SquareSum, x: Masked) -> Tensor | None:
        if self.role == P0:
            recorder.note(P0, "row", self.name, x.held)
        square = squares_online(self, x)
        if square is not None:
            recorder.note(P1, "square", self.name, square)
        return square

    return [
        patch.object(SlotSoftmax, "_probabilities", note_scores),
        patch.object(SlotSoftmax, "_online_p0", note_slots),
        patch.object(SquareSum, "_offline", note_mask),
        patch.object(SquareSum, "_online", note_square),
    ]


def _fixing(role: Role | None) -> list[Any]:
    """Let the streams of P0 (or P1) and the dealer be those of one evaluation for ever."""
    if role is None:
        return []
    method, key = {P0: ("p0p2", "_p0p2"), P1: ("p1p2", "_p1p2")}[role]
    return [patch.object(Context, method, lambda self, name: getattr(self, key).stream(name))]


# --- ways to get it wrong ------------------------------------------------------------------------


@contextmanager
def _dither(fault: Callable[[Tensor, int], Tensor]) -> Iterator[None]:
    """Let windows have the dithers `fault(ρ, bits)`."""
    inside, offline, low_bits = threading.local(), Revealed.offline, Ring64.low_bits

    def reveal(self: Revealed, inputs: list[Masked], rows: int = 1) -> Tensor | None:
        inside.window = True
        index = offline(self, inputs, rows)
        inside.window = False
        return index

    def draw(self: Ring64, stream: Stream, bits: int, *shape: int) -> Tensor:
        drawn = low_bits(self, stream, bits, *shape)
        return fault(drawn, bits) if getattr(inside, "window", False) else drawn

    with patch.object(Revealed, "offline", reveal), patch.object(Ring64, "low_bits", draw):
        yield


def _repeated(rho: Tensor, bits: int) -> Tensor:
    """From a key and a name that never change, or that P1 has too."""
    return Prg(bytes(16)).stream("dither").int64(*rho.shape) & ((1 << bits) - 1)


@contextmanager
def mask_known_to_p1(part: str) -> Iterator[None]:
    """Forget the dealer's low bits in the steps whose name has `part`."""
    right = Context.truncatable_mask

    def wrong(
        self: Context, name: str, safe_bits: int, bits: int | Tensor, *shape: int
    ) -> tuple[Tensor, Tensor]:
        if part not in name:
            return right(self, name, safe_bits, bits, *shape)
        mask = self.domain.safe_mask(self.p1p2(name), safe_bits, *shape)
        return mask, torch.zeros_like(mask)

    with patch.object(Context, "truncatable_mask", wrong):
        yield


@contextmanager
def low_bits_of_p0_and_the_dealer() -> Iterator[None]:
    """ℓ from a stream that P0 has too: it can compute x mod 2^s."""
    with patch.object(Context, "p2", lambda self, name: self.p0p2(f"low/{name}")):
        yield


@contextmanager
def squares_without_dither() -> Iterator[None]:
    """The sum's carries are equations for the row, in order."""
    drawn = Ring64.low_bits

    def none(self: Ring64, stream: Stream, bits: int | Tensor, *shape: int) -> Tensor:
        low = drawn(self, stream, bits, *shape)
        return low * 0 if isinstance(bits, int) and bits == square_sum.CUT_BITS else low

    with patch.object(Ring64, "low_bits", none):
        yield


FAULTS: dict[str, tuple[Family, Faulty]] = {
    "no dither": ("gpt2", lambda: _dither(lambda rho, _: rho * 0)),
    "one dither a message": ("gpt2", lambda: _dither(lambda rho, _: rho * 0 + rho.flatten()[0])),
    "a dither for ever, or one that P1 has": ("gpt2", lambda: _dither(_repeated)),
    "q, k, v forgotten": ("gpt2", lambda: mask_known_to_p1("/qkv")),
    "weighted sum forgotten": ("glm", lambda: mask_known_to_p1("/sum")),
    "rotary positions forgotten": ("llama", lambda: mask_known_to_p1("/rotary")),
    "gains forgotten": ("bert", lambda: mask_known_to_p1("/gain")),
}
