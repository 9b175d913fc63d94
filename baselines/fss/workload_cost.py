"""The communication of FSS in closed form: payload bytes by ordered pair, and hops, for each phase."""

from baselines.fss import costs
from baselines.fss.activation import GELU, SILU
from baselines.fss.bits import packed_bytes
from baselines.fss.context import FRAC
from baselines.fss.costs import Cost
from baselines.fss.functions import FUNCTIONS
from baselines.fss.options import FssOptions
from baselines.fss.softmax import WEIGHT_FRAC
from protocols.arith.prg import KEY_BYTES
from protocols.party import P0, P1, P2, Phase
from protocols.shares.declared_cost import DeclaredCosts
from protocols.shares.integer_layer import score_bits
from protocols.system import Pair, PhaseCost
from protocols.transformer.spec import TransformerSpec
from protocols.transformer.weights import layer_shapes
from protocols.workload import NonlinearOp, StepPlan, Workload


class FssCosts(DeclaredCosts[Cost]):
    """What masked values take with these options."""

    nothing = Cost()

    def __init__(self, options: FssOptions) -> None:
        self._bits = options.ring_bits

    def given(self, elements: int) -> Cost:
        """See the base class."""
        return costs.masked_input(elements, self._bits)

    def argmax(self, n: int) -> Cost:
        """See the base class."""
        return costs.argmax(n, self._bits)

    def function(self, op: NonlinearOp, shape: tuple[int, ...]) -> Cost:
        """See the base class."""
        return FUNCTIONS[op].cost(shape, self._bits)

    def linear(self, n: int, d_out: int, d_in: int) -> Cost:
        """See the base class."""
        return self._matrix(n, d_out, d_in) + self._truncated(n * d_out)

    def _matrix(self, n: int, m: int, width: int) -> Cost:
        """`linear`: x is (n, width), the product (n, m)."""
        bits = self._bits
        return costs.shared(n * width, bits) + costs.shared(n * m, bits) + costs.opened(n * m, bits)

    def _truncated(self, n: int, cut: int = FRAC) -> Cost:
        return costs.truncate(n, self._bits, cut)

    def layer(self, spec: TransformerSpec, n: int, length: int) -> Cost:
        """See the base class."""
        norms = costs.normalize(n, spec.d_model, self._bits, spec.rms_norm) * 2
        gains = self._gain(spec, n) * _diagonals(spec)
        products = sum((self.linear(n, m, k) for m, k in layer_shapes(spec).values()), Cost())
        turned = self._truncated(n * (spec.d_model + spec.d_kv)) if spec.rotary else Cost()
        attention = turned + self._attention(spec, n, length)
        return norms + gains + products + attention + self._activation(spec, n)

    def _gain(self, spec: TransformerSpec, n: int) -> Cost:
        """A diagonal matrix."""
        return self._matrix(n, spec.d_model, spec.d_model) + self._truncated(n * spec.d_model)

    def _attention(self, spec: TransformerSpec, n: int, length: int) -> Cost:
        """`attention` and `softmax`."""
        bits, heads, q = self._bits, spec.n_heads, n * spec.d_model
        scores = heads * n * length
        products = costs.matmul(q, scores, bits)
        products += self._truncated(scores, FRAC + score_bits(spec))
        products += costs.matmul(scores, q, bits)
        products += self._truncated(q, WEIGHT_FRAC)
        return self._rows(spec, n) + products + costs.softmax(heads * n, length, bits)

    def _rows(self, spec: TransformerSpec, n: int) -> Cost:
        """`attention.Cache.fill`."""
        return costs.shared(n * spec.d_kv, self._bits, self._bits)

    def cached(self, spec: TransformerSpec, rows: int) -> Cost:
        """See the base class."""
        return self.given(rows * spec.d_kv) * 2 + self._rows(spec, rows)

    def _activation(self, spec: TransformerSpec, n: int) -> Cost:
        size, bits = n * spec.d_ff, self._bits
        if not spec.gated:
            return costs.activate(size, bits, GELU.bits)
        gate = costs.multiply(size, size, bits) + costs.opened(size, bits) + self._truncated(size)
        return costs.activate(size, bits, SILU.bits) + gate

    def embedding(self, spec: TransformerSpec, n: int) -> Cost:
        """See the base class."""
        total = self.given(n * spec.vocab) + self._matrix(n, spec.d_model, spec.vocab)
        if spec.family != "bert":
            return total
        norm = costs.normalize(n, spec.d_model, self._bits, spec.rms_norm)
        return total + norm + self._gain(spec, n)

    def answer(self, spec: TransformerSpec, plan: StepPlan) -> Cost:
        """See the base class."""
        if spec.family == "bert":
            return costs.known(plan.tokens * spec.d_model, self._bits)
        norm = costs.normalize(plan.picks, spec.d_model, self._bits, spec.rms_norm)
        head = self.linear(plan.picks, spec.vocab, spec.d_model)
        return norm + head + costs.known(plan.picks * spec.vocab, self._bits)

    def shared_linear(self, d_out: int, d_in: int) -> Cost:
        """Ŵ; blocks but the last are whole bytes."""
        return Cost(weights=packed_bytes(d_out * d_in * self._bits), hops=1)

    def shared_layer(self, spec: TransformerSpec) -> Cost:
        """One matrix after the other, then the gains."""
        matrices = sum((self.shared_linear(m, k) for m, k in layer_shapes(spec).values()), Cost())
        return matrices + self.shared_linear(spec.d_model, 1) * _diagonals(spec)

    def shared_tables(self, spec: TransformerSpec) -> Cost:
        """Both tables; of BERT the embedding and its gain."""
        table = self.shared_linear(spec.vocab, spec.d_model)
        return table + (self.shared_linear(spec.d_model, 1) if spec.family == "bert" else table)


def phases(workload: Workload, declared: FssCosts) -> dict[Phase, PhaseCost]:
    """All phases of one evaluation of `workload`."""
    found = declared.of(workload)
    online = sum(found.online, Cost())
    dealt = online + found.given
    weights: dict[Pair, int] = {(P0, P1): found.prepared.weights}
    return {
        "prepare": PhaseCost(1 + min(1, found.prepared.hops), {(P2, P0): KEY_BYTES} | weights),
        "offline": PhaseCost(
            len(found.online), {(P2, P0): dealt.keys, (P2, P1): dealt.keys + dealt.known}
        ),
        "input": PhaseCost(min(1, found.given.hops), {(P1, P0): found.given.inputs}),
        "online": PhaseCost(
            online.hops, {(P0, P1): online.sent, (P1, P0): online.sent + online.inputs}
        ),
    }


def step_keys(workload: Workload, declared: FssCosts) -> int:
    """Bytes of keys that P1, which has the most, keeps for one step, at most."""
    found = declared.of(workload)
    return max((step + found.given).keys + (step + found.given).known for step in found.online)


def _diagonals(spec: TransformerSpec) -> int:
    return 2 if spec.family in ("glm", "bert") else 0
