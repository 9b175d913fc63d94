"""Rotary positions: a public rotation, applied by each party to its share, and one truncation.

    R(x) = (x·cos + J(x)·sin) / 2^16        cos and sin at scale 2^16, J a signed permutation

No message of its own (`truncate` says what truncation costs).
"""

from torch import Tensor

from baselines.additive.context import FRAC, Context
from baselines.additive.encoding import encode
from baselines.additive.truncate import truncate
from protocols.transformer.rotary import rotate_half
from protocols.transformer.spec import TransformerSpec

Tables = tuple[Tensor, Tensor]


def rotate(ctx: Context, spec: TransformerSpec, x: Tensor, tables: Tables) -> Tensor:
    """Shares of the rotated rows: x (heads, n, d_head), tables (n, d_head) in float64."""
    if x.is_meta:
        return truncate(ctx, x, FRAC)
    cos, sin = (encode(table) for table in tables)
    return truncate(ctx, x * cos + rotate_half(x, spec) * sin, FRAC)
