"""MPCFormer (arXiv 2211.01452): Quad for GeLU and 2Quad for softmax on CrypTen's additive shares."""

from baselines.additive.system import AdditiveSystem
from baselines.mpcformer.options import Settings


class MPCFormer(AdditiveSystem):
    """Two-party inference with Beaver triples and MPCFormer's stand-ins for GeLU and softmax."""

    Options = Settings
