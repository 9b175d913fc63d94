"""GELU and SiLU as ReLU less a table of what is missing, in 7 hops.

    f(x) = ReLU(x) − δ(|x|),        δ(a) = a − f(a)  for a ≥ 0, which f's symmetry gives both signs

| hop | what | opened, bits a party |
|---|---|---|
| 1 | borrow of y = x rounded to 6 fractional bits (`truncation.reduce`); d = [x ≥ 0] | 1 + 1 |
| 2 | y, n − 6 bits | n − 6 |
| 3 | d·y; then \\|y\\| = 2·d·y − y | n − 6 |
| 4 | [\\|y\\| ≥ 2^k], beyond the table's end | 1 |
| 5 | the index: \\|y\\|, or 2^k − 1 beyond | k |
| 6 | the table's sum (`lut`) | n |
| 7 | d·x − δ | n |

GELU ends at 4 (k = 8, 256 entries), SiLU at 16 (k = 10). Each learns what the gates list: masked values.
Error: of |x|, up to 2^-7, by which δ changes half as much. Source: SIGMA (ePrint 2023/1269), section 5.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from baselines.fss.context import FRAC, Context, gate
from baselines.fss.drelu import drelu, drelu_share, select
from baselines.fss.encoding import encode
from baselines.fss.lut import Table, look_up
from baselines.fss.truncation import reduce
from protocols.transformer.reference import gelu

INDEX_FRAC = 6
CUT = FRAC - INDEX_FRAC


@dataclass(frozen=True)
class Curve:
    """f, and the bits of its table's index."""

    exact: Callable[[Tensor], Tensor]
    bits: int

    @cached_property
    def missing(self) -> Table:
        """δ at FRAC."""
        a = torch.arange(1 << self.bits, dtype=torch.float64) * 2.0**-INDEX_FRAC
        return Table(encode(a - self.exact(a)))

    def __call__(self, x: Tensor) -> Tensor:
        """f as the table has it, float64."""
        place = torch.floor(x * 2.0**INDEX_FRAC + 0.5).abs().clamp(max=(1 << self.bits) - 1)
        return x.relu() - self.missing.entries[place.long()] * 2.0**-FRAC


GELU = Curve(lambda x: gelu(x, "erf"), 8)
SILU = Curve(torch.nn.functional.silu, 10)


@gate("activate")
def activate(ctx: Context, x: Tensor, curve: Curve) -> Tensor:
    """The masked f(x), both at FRAC."""
    width, narrow, last = ctx.bits, ctx.bits - CUT, (1 << curve.bits) - 1
    share, finish = reduce(ctx, ctx.plus(x, 1 << (CUT - 1)), width, CUT)
    borrow, positive = ctx.open_all((share, 1), (drelu_share(ctx, x, width), 1))
    y = ctx.open(finish(borrow), narrow)
    size = 2 * ctx.open(select(ctx, positive, y, narrow), narrow) - y
    beyond = drelu(ctx, ctx.plus(size, -last - 1), narrow)
    over = select(ctx, beyond, ctx.plus(-size, last), curve.bits)
    index = size + ctx.open(over, curve.bits)
    (missing,) = look_up(ctx, (index, curve.missing), width=width)
    return ctx.open(select(ctx, positive, x, width) - missing, width)
