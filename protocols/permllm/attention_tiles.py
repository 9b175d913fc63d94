"""Attention of a prefill, its rows in tiles: the steps of `attention` and the softmax between them, with
no tensor of all n·L scores at once.

A tile is some rows with the keys that they may see: of a causal family those up to its own last row. So
about half of all scores are computed, sent and dealt; a score that no row may use still is one within its
own tile, where P1 sees a constant. Every tile has masks, pads and permutations of its own.

No tile waits for another: all of one direction follow each other, and the hops are those of one.

| phase | from | to | what | name | payload | hop |
|---|---|---|---|---|---|---|
| offline | P2 | P1, P0 | of each tile what `attention` and `permuted_functions` list | | | 1 |
| online | P0 | P1 | E_q, E_k, E_v (all rows, one message) | scores/open | 8·(h + 2·kv)·n·w | 1 |
| online | P1 | P0 | P1's share of s, a message a tile | scores/share | 8·S | 2 |
| online | P0 | P1 | (π(Δ) + ρ >> s) + t, likewise | softmax/reveal | 4·S | 3 |
| online | P1 | P0 | f(π(x)) − μ | softmax/return | 8·S | 4 |
| online | P0 | P1 | E_p | sum/open | 8·S | 5 |
| online | P1 | P0 | P1's share of o | sum/share | 8·h·n·w | 6 |

S = h · the sum over all tiles of rows times keys (`score_count`). What the roles learn is what they learn
of `attention`, and of scores which tile they are of. In a causal family P1 knows of every row of scores
its position anyway, by the number of its constants; where all rows see the same keys there is one tile.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from protocols.party import P0, P1, P2
from protocols.permllm.attention import Cache, WeightedSum
from protocols.permllm.context import Context, Step
from protocols.permllm.masked_value import Masked
from protocols.permllm.permuted_functions import Function, Permuted
from protocols.transformer.spec import TransformerSpec

TILE_SCORES = 1 << 21  # of all heads, in a tile: 16 MiB of int64
Hide = Callable[
    [Masked], Masked
]  # scores (h, rows, keys) → those of keys after each row made constant


@dataclass(frozen=True)
class Tile:
    """New rows start, …, stop − 1, and how many keys they see at most."""

    start: int
    stop: int
    keys: int

    @property
    def rows(self) -> int:
        """How many."""
        return self.stop - self.start


def tiles_of(spec: TransformerSpec, n: int, length: int, prefix: int = 0) -> list[Tile]:
    """The tiles of n new rows of `length` keys, the first `prefix` of which every row sees. One where they
    are few, or where early rows see late keys."""
    past, rows = length - n, max(1, TILE_SCORES // (spec.n_heads * length))
    if n <= rows or not spec.causal or prefix > past:
        return [Tile(0, n, length)]
    ends = [min(start + rows, n) for start in range(0, n, rows)]
    return [Tile(lo, hi, past + hi) for lo, hi in zip([0, *ends], ends, strict=False)]


def score_count(spec: TransformerSpec, n: int, length: int, prefix: int = 0) -> int:
    """S: how many scores all heads compute."""
    return spec.n_heads * sum(t.rows * t.keys for t in tiles_of(spec, n, length, prefix))


class TileScores(Step):
    """s = q·kᵀ of one tile (`attention.Scores`), whose q and keys are opened already."""

    def __init__(self, ctx: Context, name: str, cache: Cache) -> None:
        super().__init__(ctx, name)
        self._cache = cache
        self._scale = cache.width**0.5

    def offline(self, q: Masked, pad: Tensor | None, length: int) -> Masked:
        """q (kv, g·rows, w), its pad r at P2 → (kv, g·rows, length)."""
        shape, frac = (*q.shape[:2], length), q.frac + self._cache.key_frac
        tau0 = torch.empty(0)
        if self.role != P1:
            tau0 = self.domain.mask(self.ctx.p0p2(self.name), *shape, scale=self._scale)
        if self.role == P0:
            self.keep(tau0)
            return Masked(shape, frac, None)
        keys, matmul_t = self._cache.keys, self.domain.matmul_t
        masks = keys.mask.view(length)  # b
        mu = self.domain.mask(self.ctx.p1p2(self.name), *shape, scale=self._scale)
        if pad is not None:  # P2
            cross = matmul_t(pad, masks)  # r_q·b
            cross += matmul_t(q.held, keys.pad.view(length))  # + a·r_k
            self.party.send(P1, cross - tau0)  # τ1
        else:
            (tau1,) = self.receive(P2, shape)
            self.keep(q.held, matmul_t(q.held, masks) + tau1 - mu)  # a; a·b + τ1 − μ
        return Masked(shape, frac, mu)

    def send_share(self, opened: Tensor, length: int) -> None:
        """P1: E_q·b + a·E_k + a·b + τ1 − μ, for E_q (kv, g·rows, w)."""
        keys, matmul_t = self._cache.keys, self.domain.matmul_t
        query_mask, own = self.take()
        cross = matmul_t(opened, keys.mask.view(length))
        cross += matmul_t(query_mask, keys.opened.view(length))
        self.party.send(P0, cross + own)

    def receive_share(self, q: Masked, length: int) -> Masked:
        """P0: Δs = Δq·Δk + τ0 and P1's share."""
        tau0: Tensor
        (tau0,) = self.take()
        local = self.domain.matmul_t(q.held, self._cache.keys.value.view(length)) + tau0
        (share,) = self.receive(P1, tuple(local.shape))
        return Masked(tuple(local.shape), q.frac + self._cache.key_frac, local + share)


@dataclass(frozen=True)
class TileSteps:
    """The steps of one tile."""

    scores: TileScores
    softmax: Permuted
    sum: WeightedSum


class AttentionTiles(Step):
    """o = softmax(q·kᵀ)·v in tiles. softmax: the function of the scores, and what it takes as hidden."""

    def __init__(
        self, ctx: Context, name: str, cache: Cache, softmax: Function, hidden: float
    ) -> None:
        super().__init__(ctx, name)
        self._cache, self._function, self._hidden = cache, softmax, hidden
        self._steps: list[TileSteps] = []

    def __call__(
        self,
        qkv: tuple[Masked, Masked, Masked],
        tiles: list[Tile],
        hide: Hide,
        frac: int,
        value_frac: int,
        truncated: int,
    ) -> Masked:
        """q (h, n, w), k and v (kv, n, w) → o (h, n, w). frac: of the probabilities; value_frac,
        truncated: see `WeightedSum`."""
        q, k, v = qkv
        self._cache.grow(k.shape[1], self.ctx.offline_pass)
        self._make_steps(len(tiles))
        work = _Work(tiles, q, self._cache.heads, hide, frac, value_frac, truncated)
        if self.ctx.offline_pass:
            parts = list(self._offline(work, k, v))
        elif self.role == P0:
            parts = self._online_p0(work, k, v)
        else:
            parts = self._online_p1(work, k, v)
        return Masked.cat([work.ungrouped(part) for part in parts], dim=1)

    def _make_steps(self, count: int) -> None:
        for i in range(len(self._steps), count):
            name = f"{self.name}/tile {i}"
            self._steps.append(
                TileSteps(
                    TileScores(self.ctx, f"{name}/scores", self._cache),
                    Permuted(self.ctx, f"{name}/softmax", self._function, hidden=self._hidden),
                    WeightedSum(self.ctx, f"{name}/sum", self._cache),
                )
            )

    def _offline(self, work: "_Work", k: Masked, v: Masked) -> Iterator[Masked]:
        keys, values = self._cache.keys, self._cache.values
        pads: list[Tensor] = []
        if self.role != P1:
            stream = self.ctx.p0p2(self.name)
            pads = [self.domain.mask(stream, *x.shape) for x in (work.q, k, v)]  # r of q, k, v
        if self.role == P0:
            self.keep(pads)
        else:
            keys.mask.extend(k.held)
            values.mask.extend(v.held)
        if self.role == P2:
            keys.pad.extend(pads[1])
            values.pad.extend(pads[2])
        for tile, steps in zip(work.tiles, self._steps, strict=False):
            pad = work.grouped(pads[0], tile) if self.role == P2 else None
            scores = steps.scores.offline(work.query(tile), pad, tile.keys)
            p = steps.softmax([work.shown(scores)], work.frac, work.score_rows(tile))
            yield steps.sum(p.reshape(*scores.shape), work.value_frac, work.truncated)

    def _online_p0(self, work: "_Work", k: Masked, v: Masked) -> list[Masked]:
        (pads,) = self.take()
        with self.party.step("scores"), self.party.step("open"):
            opened = [x.held - r for x, r in zip((work.q, k, v), pads, strict=True)]
            self.party.send(P1, *opened)  # E_q, E_k, E_v
        self._cache.keys.value.extend(k.held)
        self._cache.values.value.extend(v.held)
        pairs = list(zip(work.tiles, self._steps, strict=False))
        shapes, locals_ = [], []
        for tile, steps in pairs:
            with self.party.step("scores"), self.party.step("share"):
                scores = steps.scores.receive_share(work.query(tile), tile.keys)
            shapes.append(scores.shape)
            steps.softmax.show([work.shown(scores)])
        for (_, steps), shape in zip(pairs, shapes, strict=True):
            p = Masked(shape, work.frac, steps.softmax.collect(shape))
            locals_.append(steps.sum.open(p))
        return [
            Masked(tuple(local.shape), work.frac + work.value_frac, steps.sum.close(local))
            for (_, steps), local in zip(pairs, locals_, strict=True)
        ]

    def _online_p1(self, work: "_Work", k: Masked, v: Masked) -> list[Masked]:
        with self.party.step("scores"), self.party.step("open"):
            e_q, e_k, e_v = self.receive(P0, work.q.shape, k.shape, v.shape)
        self._cache.keys.opened.extend(e_k)
        self._cache.values.opened.extend(e_v)
        pairs = list(zip(work.tiles, self._steps, strict=False))
        for tile, steps in pairs:
            with self.party.step("scores"), self.party.step("share"):
                steps.scores.send_share(work.grouped(e_q, tile), tile.keys)
        for tile, steps in pairs:
            shown = Masked(work.score_shape(tile), work.q.frac, None)
            steps.softmax([shown], work.frac, work.score_rows(tile))
        sums = []
        for tile, steps in pairs:
            p = Masked(work.grouped_shape(tile), work.frac, None)
            sums.append(steps.sum(p, work.value_frac, work.truncated))
        return sums


@dataclass(frozen=True)
class _Work:
    """One call of `AttentionTiles`: q (h, n, w), and shapes with and without groups of query heads that
    share one of `kv` key heads."""

    tiles: list[Tile]
    q: Masked
    kv: int
    hide: Hide
    frac: int
    value_frac: int
    truncated: int

    def query(self, tile: Tile) -> Masked:
        """The tile's rows of q, (kv, g·rows, w)."""
        rows = self.score_rows(tile) // self.kv
        own = self.q.narrow(1, tile.start, tile.rows)
        return own.reshape(self.kv, rows, self.q.shape[2])

    def grouped(self, x: Tensor, tile: Tile) -> Tensor:
        """The tile's rows of x (h, n, w), (kv, g·rows, w)."""
        return x[:, tile.start : tile.stop].reshape(self.kv, -1, x.shape[2])

    def score_rows(self, tile: Tile) -> int:
        """Rows of scores of all heads."""
        return self.q.shape[0] * tile.rows

    def score_shape(self, tile: Tile) -> tuple[int, int, int]:
        """Of all scores: (h, rows, keys)."""
        return (self.q.shape[0], tile.rows, tile.keys)

    def grouped_shape(self, tile: Tile) -> tuple[int, int, int]:
        """The same as (kv, g·rows, keys)."""
        return (self.kv, self.score_rows(tile) // self.kv, tile.keys)

    def shown(self, scores: Masked) -> Masked:
        """Scores (kv, g·rows, keys) as (h, rows, keys), those that no row may use hidden."""
        heads = self.q.shape[0]
        rows = scores.shape[0] * scores.shape[1] // heads
        return self.hide(scores.reshape(heads, rows, scores.shape[2]))

    def ungrouped(self, o: Masked) -> Masked:
        """(kv, g·rows, w) → (h, rows, w)."""
        heads = self.q.shape[0]
        return o.reshape(heads, o.shape[0] * o.shape[1] // heads, o.shape[2])
