"""Which scheme the matrices of a workload are multiplied under, and what they take then."""

from baselines.he_linear.ckks_parameters import CkksSizes, ckks_sizes
from baselines.he_linear.options import HeLinearOptions
from baselines.he_linear.parameters import BfvSizes, matrices, plain_bits
from protocols.workload import Workload

Sizes = BfvSizes | CkksSizes


def sizes_of(workload: Workload, options: HeLinearOptions) -> Sizes | None:
    """None where there is no matrix. Raises Unsupported for parameters that do not fit."""
    shapes = tuple(matrices(workload))
    if not shapes:
        return None
    if options.scheme == "ckks":
        return ckks_sizes(shapes, options.precision)
    sizes = BfvSizes(plain_bits(workload, options), options.precision)
    for shape in shapes:
        sizes.packed(shape)
    return sizes
