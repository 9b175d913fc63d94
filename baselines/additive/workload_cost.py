"""The communication of additive shares in closed form: payload bytes by ordered pair, and hops, for each
phase."""

from baselines.additive import primitive_costs
from baselines.additive.functions import APPROXIMATIONS, function_cost
from baselines.additive.options import Settings
from baselines.additive.primitive_costs import Cost, truncation
from protocols.arith.prg import KEY_BYTES
from protocols.party import P0, P1, P2, Phase
from protocols.shares.declared_cost import DeclaredCosts
from protocols.system import Pair, PhaseCost
from protocols.transformer.spec import TransformerSpec
from protocols.transformer.weights import layer_shapes
from protocols.workload import NonlinearOp, StepPlan, Workload

WORD = 8


class AdditiveCosts(DeclaredCosts[Cost]):
    """What additive shares take with these settings."""

    nothing = Cost()

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._approximation = APPROXIMATIONS[settings.approx]

    def given(self, elements: int) -> Cost:
        """(0, x): nothing travels."""
        return Cost()

    def cached(self, spec: TransformerSpec, rows: int) -> Cost:
        """Both opened in one message, where rows are opened once."""
        return Cost(2 * rows * spec.d_kv, 1) if self._settings.reuse_weight_masks else Cost()

    def argmax(self, n: int) -> Cost:
        """See the base class."""
        return primitive_costs.argmax(n) + primitive_costs.reveal(1)

    def function(self, op: NonlinearOp, shape: tuple[int, ...]) -> Cost:
        """See the base class."""
        return function_cost(op, self._settings, shape)

    def linear(self, n: int, d_out: int, d_in: int) -> Cost:
        """See the base class."""
        return self.matrix(n, d_out, d_in, d_in) + truncation(self._settings, n * d_out)

    def matrix(self, n: int, m: int, k: int, width: int) -> Cost:
        """`linear`: x is (n, width), W (m, k)."""
        opened = 0 if self._settings.reuse_weight_masks else m * k
        return Cost(n * width + opened, 1, n * m)

    def layer(self, spec: TransformerSpec, n: int, length: int) -> Cost:
        """See the base class."""
        settings, d, heads = self._settings, spec.d_model, spec.n_heads
        gains = self.gain(spec, n) * _diagonals(spec)
        products = sum((self.linear(n, m, k) for m, k in layer_shapes(spec).values()), Cost())
        rotary = truncation(settings, n * (d + spec.d_kv)) if spec.rotary else Cost()
        rounded = truncation(settings, heads * n * length) + truncation(settings, n * d)
        weights = self._approximation.softmax.cost(settings, heads * n, length)
        attention = self._attention(spec, n, length) + rotary + rounded + weights
        return self.norm(spec, n) * 2 + gains + products + attention + self._activation(spec, n)

    def norm(self, spec: TransformerSpec, n: int) -> Cost:
        """Of n rows."""
        return self._approximation.norm.cost(self._settings, n, spec.d_model, spec.rms_norm)

    def gain(self, spec: TransformerSpec, n: int) -> Cost:
        """A diagonal matrix."""
        d = spec.d_model
        return self.matrix(n, d, 1, d) + truncation(self._settings, n * d)

    def _attention(self, spec: TransformerSpec, n: int, length: int) -> Cost:
        """`attention`: both products."""
        q, p = n * spec.d_model, spec.n_heads * n * length
        if self._settings.reuse_weight_masks:
            return Cost(q + 2 * n * spec.d_kv + p, 2, p + q)
        return Cost(q + p + 2 * spec.d_kv * length, 2, p + q)

    def _activation(self, spec: TransformerSpec, n: int) -> Cost:
        size, chosen = n * spec.d_ff, self._approximation
        if not spec.gated:
            return chosen.gelu.cost(self._settings, size)
        gate = primitive_costs.wide_product(size, size, size)
        return chosen.silu.cost(self._settings, size) + gate

    def embedding(self, spec: TransformerSpec, n: int) -> Cost:
        """See the base class."""
        total = self.onehots(spec, n) + self.matrix(n, spec.d_model, spec.vocab, spec.vocab)
        if spec.family != "bert":
            return total
        return total + self.norm(spec, n) + self.gain(spec, n)

    def onehots(self, spec: TransformerSpec, n: int) -> Cost:
        """`AdditivePrimitives.onehots`: P1's own."""
        return Cost()

    def answer(self, spec: TransformerSpec, plan: StepPlan) -> Cost:
        """See the base class."""
        if spec.family == "bert":
            return primitive_costs.reveal(plan.tokens * spec.d_model)
        head = self.linear(plan.picks, spec.vocab, spec.d_model)
        return self.norm(spec, plan.picks) + head + primitive_costs.reveal(plan.picks * spec.vocab)

    def shared_linear(self, d_out: int, d_in: int) -> Cost:
        """Opened once, if weights are."""
        return Cost(d_out * d_in, 1) if self._settings.reuse_weight_masks else Cost()

    def shared_layer(self, spec: TransformerSpec) -> Cost:
        """One matrix after the other, then the gains."""
        matrices = sum((self.shared_linear(m, k) for m, k in layer_shapes(spec).values()), Cost())
        return matrices + self.shared_linear(spec.d_model, 1) * _diagonals(spec)

    def shared_tables(self, spec: TransformerSpec) -> Cost:
        """Both tables; of BERT the embedding and its gain."""
        table = self.shared_linear(spec.vocab, spec.d_model)
        return table + (self.shared_linear(spec.d_model, 1) if spec.family == "bert" else table)


def phases(workload: Workload, declared: AdditiveCosts) -> dict[Phase, PhaseCost]:
    """All phases of one evaluation of `workload`."""
    costs = declared.of(workload)
    online = sum(costs.online, Cost())
    keys: dict[Pair, int] = {(P2, P0): KEY_BYTES, (P2, P1): KEY_BYTES}
    dealt: dict[Pair, int] = {(P2, P1): WORD * online.dealt} if online.dealt else {}
    sent = _both(online.words)
    if online.revealed:
        sent[P0, P1] = sent.get((P0, P1), 0) + WORD * online.revealed
    return {
        "prepare": PhaseCost(1 + costs.prepared.hops, keys | _both(costs.prepared.words)),
        "offline": PhaseCost(len(costs.online) if dealt else 0, dealt),
        "input": PhaseCost(costs.given.hops, _both(costs.given.words)),
        "online": PhaseCost(online.hops, sent),
    }


def _both(words: int) -> dict[Pair, int]:
    return {(P0, P1): WORD * words, (P1, P0): WORD * words} if words else {}


def _diagonals(spec: TransformerSpec) -> int:
    return 2 if spec.family in ("glm", "bert") else 0
