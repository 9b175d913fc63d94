"""SHAFT (Kei, Chow, NDSS 2025) as a system: two parties and a dealer on additive shares, with its own
functions and its own embedding.

P1's token ids are shared, and the dealer's one-hots turned (`one_hot`); the product with the table opens
as much as in MPCFormer, where P1 shares its one-hots themselves, in one hop less.
"""

import torch
from torch import Tensor

from baselines.additive.options import Settings
from baselines.additive.primitive_costs import Cost
from baselines.additive.primitives import AdditivePrimitives
from baselines.additive.system import AdditiveSystem
from baselines.additive.warm import warm_up
from baselines.additive.workload_cost import AdditiveCosts
from baselines.shaft.one_hot import one_hot
from baselines.shaft.options import ShaftOptions
from protocols.shares.primitives import Tokens
from protocols.transformer.spec import TransformerSpec


class ShaftPrimitives(AdditivePrimitives):
    """Additive shares with one-hots from the dealer."""

    def onehots(self, spec: TransformerSpec, tokens: Tokens, count: int) -> Tensor:
        """P1 shares its token ids alone: one hop."""
        if self.ctx.offline_pass:
            index = self.ctx.without_data(count)
        else:
            index = torch.tensor(tokens or [0] * count)
        return one_hot(self.ctx, index, spec.vocab)


class ShaftCosts(AdditiveCosts):
    """What they take."""

    def onehots(self, spec: TransformerSpec, n: int) -> Cost:
        """`one_hot`."""
        return Cost(n, 1, n * spec.vocab)


class Shaft(AdditiveSystem):
    """SHAFT: two-party inference with a Fourier GeLU and a softmax of constant depth."""

    Options = ShaftOptions

    def primitives(self) -> ShaftPrimitives:
        """Kernels are compiled or loaded here."""
        warm_up()
        return ShaftPrimitives(self.party, self.key_seed, self.options)

    @classmethod
    def declared(cls, options: Settings) -> ShaftCosts:
        """See the base class."""
        return ShaftCosts(options)
