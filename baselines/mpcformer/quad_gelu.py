"""Quad, MPCFormer's stand-in for GeLU: 0.125·x² + 0.25·x + 0.5. One square: 64 bits a party, 1 hop.

In a gated feed-forward block it stands in for SiLU: quad(gate)·up.

The constants are those of the trained models; the authors' benchmark has the last two swapped, which
costs the same. Exact up to one rounding. Messages and what is learnt: `wide`, squares. Source: MPCFormer
(arXiv:2211.01452), section 4.
"""

from torch import Tensor

from baselines.mpcformer.context import FRAC, Context
from baselines.mpcformer.encoding import constant
from baselines.mpcformer.product_truncation import quadratic

SQUARE, LINEAR, CONSTANT = 0.125, 0.25, 0.5


def quad(ctx: Context, x: Tensor) -> Tensor:
    """Shares of 0.125·x² + 0.25·x + 0.5, both at FRAC."""
    shift = FRAC + 3  # 0.125 = 2^-3
    y = quadratic(ctx, x, shift, linear=constant(LINEAR / SQUARE, FRAC))
    return ctx.public(y, constant(CONSTANT, FRAC))
