"""e^−z for z ≥ 0 by two tables, in 9 hops.

    e^−z = e^−(2^8·h)·e^−l            z = 2^8·h + l in units of 2^-12, clipped at 16 bits, which is 16

| hop | what | opened, bits a party |
|---|---|---|
| 1 | [z ≥ 2^16] | 1 |
| 2 | z, or 2^16 − 1 beyond | 16 |
| 3, 4 | h: z >> 8 (`truncation.reduce`) | 1, then 8 |
| 5, 6 | both tables (`lut`), 256 entries each | 2·n, then 2·n |
| 7, 8, 9 | their product, truncated (`truncation.truncate`) | n, 1, n |

Each learns what the gates list: masked values. Error: 1.5·2^-12, of both
tables and the truncation. Source: SIGMA (ePrint 2023/1269), section 5.
"""

import torch
from torch import Tensor

from baselines.fss.context import FRAC, Context, gate
from baselines.fss.drelu import drelu, select
from baselines.fss.encoding import encode
from baselines.fss.lut import Table, look_up
from baselines.fss.multiply import multiply
from baselines.fss.truncation import reduce, truncate

BITS, DIGIT = 16, 8
_STEPS = torch.arange(1 << DIGIT, dtype=torch.float64) * 2.0**-FRAC
UPPER = Table(encode(torch.exp(-_STEPS * (1 << DIGIT))))
LOWER = Table(encode(torch.exp(-_STEPS)))


@gate("exponential")
def decay(ctx: Context, z: Tensor, z_width: int) -> Tensor:
    """The masked e^−z of z ≥ 0, z mod 2^z_width, both at FRAC."""
    width, last = ctx.bits, (1 << BITS) - 1
    beyond = drelu(ctx, ctx.plus(z, -last - 1), z_width)
    index = z + ctx.open(select(ctx, beyond, ctx.plus(-z, last), BITS), BITS)
    share, finish = reduce(ctx, index, BITS, DIGIT)
    upper = ctx.open(finish(ctx.open(share, 1)), BITS - DIGIT)
    shares = look_up(ctx, (upper, UPPER), (index, LOWER), width=width)
    high, low = ctx.open_all(*[(share, width) for share in shares])
    return truncate(ctx, ctx.open(multiply(ctx, high, low, width), width), FRAC)
