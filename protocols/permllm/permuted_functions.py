"""Non-linear functions f on permuted plaintext: P1 sees π(x), never x in order.

P0 draws π, a pad t and a dither ρ, one an element, from its stream with the dealer. Only the window of
the values travels (32 bits of them, `domain`).

Offline: σ = π(λ) − ρ >> s, − t to P1; c = π⁻¹(μ) − λ' to P0, with μ and λ' from the masks' stream.
Online:  P0 sends (π(Δ) + ρ >> s) + t; P1 adds σ, gets π(x), computes y = f(π(x)) in float64, encodes
it and returns y − μ; P0 un-permutes and adds c, so that Δ' = f(x) − λ'.

| phase | from | to | what | name | payload | hop |
|---|---|---|---|---|---|---|
| offline | P2 | P1 | σ | | 4·n·inputs | 1 |
| offline | P2 | P0 | c | | 8·n | 1 |
| online | P0 | P1 | (π(Δ) + ρ >> s) + t | reveal | 4·n·inputs | 1 |
| online | P1 | P0 | f(π(x)) − μ | return | 8·n | 2 |

P1 learns π(x), rounded by a coin that ρ hides from it (and never holds both λ and π(λ)); P0 learns
y − μ, which μ hides; P2 learns π, t, ρ, all masks. P1 ends the run where a value is too large for the
window: one that wraps would be a wrong answer without a sign of it. Granularity: elementwise functions
use one permutation of all elements; row functions an independent one inside each row and one of the
rows. Source: PermLLM, section 4.
"""

import math
from collections.abc import Callable
from math import prod

import torch
from torch import Tensor

from protocols.arith.prg import Stream
from protocols.errors import OutOfRange
from protocols.party import P0, P1, P2
from protocols.permllm.context import Context, Step, named
from protocols.permllm.domain import WINDOW_FRAC
from protocols.permllm.masked_value import Masked

NO_INDEX = torch.empty(0, dtype=torch.int64)
Function = Callable[..., Tensor]  # float64 (rows, cols) a input → float64 (rows, cols)


def permutation_index(stream: Stream, steps: int, rows: int, cols: int) -> Tensor:
    """Gather indices, int64 (steps, rows·cols): in each step the columns of each row, and the rows,
    permuted, independently of every other step."""
    columns = stream.permutations(steps * rows, cols).reshape(steps, rows, cols)
    order = stream.permutations(steps, rows)
    index = columns + cols * torch.arange(rows)[:, None]
    return index.gather(1, order[:, :, None].expand(-1, -1, cols)).reshape(steps, rows * cols)


class Revealed(Step):
    """P1 learns π(x₁), … for secrets of one shape and scale; nobody else learns anything.

    `index` is π at P0, online: position i of what P1 sees holds element index[i]. Inputs of several
    steps stand one below the other. Every |x| must be
    below half the window's range, 2^(30 − window_frac), but for those that are exactly `hidden`.
    """

    def __init__(
        self,
        ctx: Context,
        name: str,
        window_frac: int = WINDOW_FRAC,
        hidden: float | None = None,
    ) -> None:
        super().__init__(ctx, name)
        self._window_frac, self._hidden = window_frac, hidden
        self.index = NO_INDEX

    def offline(self, inputs: list[Masked], rows: int = 1) -> Tensor | None:
        """Draw π, t and ρ (P0, P2) and deal σ. rows: of one step. Returns π of each step, int64
        (steps, size), to those who know it."""
        steps, count = len(self.ctx.steps), len(inputs)
        size = inputs[0].numel // steps
        if self.role == P1:
            shape = (steps * count, size)
            (sigma,) = self.receive(P2, shape, dtype=self.domain.window_dtype)
            self.keep_each(sigma)
            return None
        stream, shift = self.ctx.p0p2(self.name), inputs[0].frac - self._window_frac
        index = permutation_index(stream, steps, rows, size // rows)
        pad = self.domain.narrow_mask(stream, steps * count, size)  # t
        dither = self.domain.low_bits(stream, shift, steps, count, size)  # ρ in P1's order
        if self.role == P0:  # in half the bytes: these are most of a long prompt's material
            self.keep_each(index.to(torch.int32), pad, dither.to(self.domain.window_dtype))
            return index
        halves = torch.stack([x.flat.reshape(steps, size) for x in inputs], dim=1)
        seen = halves.gather(2, index[:, None].expand(-1, count, -1))  # π(λ)
        windows = self.domain.window_mask(seen - dither, shift).reshape(steps * count, size)
        self.party.send(P1, windows - pad)  # σ = (π(λ) − ρ >> s) − t   (steps·inputs, size)
        return index

    def online(self, inputs: list[Masked]) -> Tensor | None:
        """π of all inputs, float64 (inputs, size), at P1; None at P0. Raises OutOfRange."""
        with self.party.step("reveal"):
            return self._online(inputs)

    def _online(self, inputs: list[Masked]) -> Tensor | None:
        if self.role == P0:
            index, pad, dither = self.take()
            self.index = index[0].to(torch.int64)
            shift = inputs[0].frac - self._window_frac
            windows = [
                self.domain.window_value(x.flat[self.index] + rho, shift)
                for x, rho in zip(inputs, dither[0], strict=True)
            ]
            self.party.send(P1, torch.stack(windows) + pad)  # (π(Δ) + ρ >> s) + t   (inputs, size)
            return None
        (sigma,) = self.take()
        shape = (len(inputs), inputs[0].numel)
        (padded,) = self.receive(P0, shape, dtype=self.domain.window_dtype)
        seen = self.domain.decode(padded + sigma, self._window_frac)  # π(x)
        check_range(self.name, seen, self.domain.window_limit(self._window_frac), self._hidden)
        return seen


def check_range(name: str, seen: Tensor, limit: float, hidden: float | None = None) -> None:
    """Whether what step `name` shows P1, but for those that are `hidden`, is below `limit`, half of
    what is not taken for another value. Raises OutOfRange."""
    if seen.numel() == 0 or float(seen.abs().max()) < limit:
        return
    visible = seen[seen != hidden] if hidden is not None else seen.reshape(-1)
    if visible.numel() == 0 or float(visible.abs().max()) < limit:
        return
    value = float(visible[visible.abs().argmax()])
    wrapped = value - math.copysign(4 * limit, value)  # if it lies outside the window
    raise OutOfRange(
        f"{name}: a value of {value:.6g} or {wrapped:.6g}; PermLLM computes there with "
        f"magnitudes below {limit:g}"
    )


class Permuted(Step):
    """y = f(x₁, …) by rows, or elementwise where `rows` is 1."""

    def __init__(
        self,
        ctx: Context,
        name: str,
        function: Function,
        window_frac: int = WINDOW_FRAC,
        hidden: float | None = None,
    ) -> None:
        super().__init__(ctx, name)
        self._function = function
        self._revealed = Revealed(ctx, name, window_frac, hidden)

    @named
    def __call__(self, inputs: list[Masked], out_frac: int, rows: int = 1) -> Masked:
        """Inputs of one shape and scale → one output of that shape at scale `out_frac`. rows: of all
        steps under way together."""
        shape, rows = inputs[0].shape, rows // len(self.ctx.steps) or 1
        if self.ctx.offline_pass:
            half = self._offline(inputs, rows)
        else:
            half = self._online(inputs, out_frac, rows)
        return Masked(shape, out_frac, None if half is None else half.reshape(shape))

    def _offline(self, inputs: list[Masked], rows: int) -> Tensor | None:
        index = self._revealed.offline(inputs, rows)
        if self.role == P0:
            (correction,) = self.receive(P2, (inputs[0].numel,))  # c
            self.keep_each(correction)
            return None
        size = inputs[0].numel
        masks = self.ctx.p1p2(self.name)
        mu, fresh = self.domain.mask(masks, size), self.domain.mask(masks, size)
        if index is None:  # P1
            self.keep_each(mu)
            return fresh
        restored = torch.empty(index.shape, dtype=mu.dtype)
        restored.scatter_(1, index, mu.reshape(index.shape))  # π⁻¹(μ)
        self.party.send(P0, restored.reshape(-1) - fresh)  # c = π⁻¹(μ) − λ'
        return fresh

    def _online(self, inputs: list[Masked], out_frac: int, rows: int) -> Tensor | None:
        seen = self._revealed.online(inputs)
        with self.party.step("return"):
            return self._return(inputs, out_frac, rows, seen)

    @named
    def show(self, inputs: list[Masked]) -> None:
        """P0's first message alone. `collect` gives what P1 returns; other messages may lie between."""
        self._revealed.online(inputs)

    @named
    def collect(self, shape: tuple[int, ...]) -> Tensor:
        """P0's half of the output, of `shape`."""
        with self.party.step("return"):
            return self._collect(prod(shape)).reshape(shape)

    def _collect(self, size: int) -> Tensor:
        correction: Tensor
        (correction,) = self.take()
        (reply,) = self.receive(P1, (size,))
        correction[self._revealed.index] += reply  # Δ' = π⁻¹(y − μ) + c = y − λ'
        self._revealed.index = NO_INDEX  # of a long prompt it is large
        return correction

    def _return(
        self, inputs: list[Masked], out_frac: int, rows: int, seen: Tensor | None
    ) -> Tensor | None:
        if seen is None:
            return self._collect(inputs[0].numel)
        (mu,) = self.take()
        y = self._function(*seen.reshape(len(inputs), rows, -1))
        self.party.send(P0, self.domain.encode(y, out_frac).reshape(-1) - mu)  # y − μ   (size,)
        return None
