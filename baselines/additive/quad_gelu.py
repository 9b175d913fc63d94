"""Quad, MPCFormer's stand-in for GeLU: 0.125·x² + 0.25·x + 0.5. One square: 64 bits a party, 1 hop.

In a gated feed-forward block it stands in for SiLU: quad(gate)·up.

The constants are those of the trained models; the authors' benchmark has the last two swapped, which
costs the same. Exact up to one rounding. Messages and what is learnt: `wide`, squares. Source: MPCFormer
(arXiv:2211.01452), section 4.
"""

from torch import Tensor

from baselines.additive.context import FRAC, Context
from baselines.additive.encoding import constant
from baselines.additive.product_truncation import quadratic
from protocols.shares.approximations import QUAD


def quad(ctx: Context, x: Tensor) -> Tensor:
    """Shares of 0.125·x² + 0.25·x + 0.5, both at FRAC."""
    shift = FRAC + 3  # 0.125 = 2^-3
    y = quadratic(ctx, x, shift, linear=constant(QUAD[1] / QUAD[2], FRAC))
    return ctx.public(y, constant(QUAD[0], FRAC))
