"""What the primitives send, in closed form, under either scheme."""

from dataclasses import dataclass

from baselines.he_linear.layer import NORMS, gives_gains
from baselines.he_linear.options import HeLinearOptions
from baselines.he_linear.parameters import Shape, affine, embedding_shape
from baselines.he_linear.sizes import Sizes, sizes_of
from protocols.party import P0, P1, Phase
from protocols.shares.declared_cost import DeclaredCosts
from protocols.system import PhaseCost
from protocols.transformer.spec import TransformerSpec
from protocols.transformer.weights import layer_shapes
from protocols.workload import NonlinearOp, StepPlan, Workload

SCALE_BYTES = 8


@dataclass(frozen=True)
class Cost:
    """Bytes P1 → P0 and back, and hops."""

    asked: int = 0
    answered: int = 0
    hops: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(
            self.asked + other.asked, self.answered + other.answered, self.hops + other.hops
        )

    def __mul__(self, times: int) -> "Cost":
        return Cost(self.asked * times, self.answered * times, self.hops * times)


class HeCosts(DeclaredCosts[Cost]):
    """With these sizes, None where there is no matrix. Of what is prepared, P0's messages follow one
    another: they are one hop in all, which `phases` adds."""

    nothing = Cost()

    def __init__(self, sizes: Sizes | None) -> None:
        self._sizes = sizes

    def given(self, elements: int) -> Cost:
        """P1 has it."""
        return Cost()

    def argmax(self, n: int) -> Cost:
        """P1's own."""
        return Cost()

    def function(self, op: NonlinearOp, shape: tuple[int, ...]) -> Cost:
        """P1's own."""
        return Cost()

    def linear(self, n: int, d_out: int, d_in: int) -> Cost:
        """See the base class."""
        return self.matrix(n, affine(d_out, d_in))

    def matrix(self, n: int, shape: Shape) -> Cost:
        """`linear.Matrix`."""
        assert self._sizes is not None
        return Cost(self._sizes.query_bytes(n, shape), self._sizes.reply_bytes(n, shape), 2)

    def layer(self, spec: TransformerSpec, n: int, length: int) -> Cost:
        """See the base class."""
        return sum((self.linear(n, m, k) for m, k in layer_shapes(spec).values()), Cost())

    def embedding(self, spec: TransformerSpec, n: int) -> Cost:
        """See the base class."""
        return self.matrix(n, embedding_shape(spec))

    def answer(self, spec: TransformerSpec, plan: StepPlan) -> Cost:
        """P1 picks on its own."""
        if spec.family == "bert":
            return Cost()
        return self.linear(plan.picks, spec.vocab, spec.d_model)

    def shared_linear(self, d_out: int, d_in: int) -> Cost:
        """The scale."""
        return Cost(answered=SCALE_BYTES)

    def shared_layer(self, spec: TransformerSpec) -> Cost:
        """Four scales, and the norms where P1 needs them."""
        norms = NORMS if gives_gains(spec) else 0
        return Cost(answered=4 * SCALE_BYTES + norms * _norm_bytes(spec))

    def shared_tables(self, spec: TransformerSpec) -> Cost:
        """Scales of both tables; of BERT that of one, and its norm."""
        return Cost(
            answered=SCALE_BYTES + (_norm_bytes(spec) if spec.family == "bert" else SCALE_BYTES)
        )


def phases(workload: Workload, options: HeLinearOptions) -> dict[Phase, PhaseCost]:
    """All phases of one evaluation of `workload`."""
    sizes = sizes_of(workload, options)
    costs = HeCosts(sizes).of(workload)
    online = sum(costs.online, Cost())
    keys = sizes.key_bytes if sizes else 0
    prepared = {(P1, P0): keys, (P0, P1): costs.prepared.answered}
    return {
        "prepare": PhaseCost(2, prepared) if sizes else PhaseCost(0),
        "offline": PhaseCost(0),
        "input": PhaseCost(0),
        "online": PhaseCost(online.hops, {(P1, P0): online.asked, (P0, P1): online.answered}),
    }


def _norm_bytes(spec: TransformerSpec) -> int:
    """Gain and bias in float32."""
    return 2 * 4 * spec.d_model
