"""PermLLM's communication in closed form: payload bytes by ordered pair, and hops, for each phase.

The tables in the steps' docstrings, added up. h heads, n new tokens, L keys, w = d/h; an element has
8 bytes, one in a window 4; with float32 shares both have 4.
"""

from collections import Counter
from dataclasses import dataclass
from math import prod
from typing import assert_never

from protocols.arith.prg import KEY_BYTES
from protocols.party import P0, P1, P2, Phase, Role
from protocols.permllm.bfv import public_key_bytes, query_bytes, reply_bytes
from protocols.permllm.domain import domain_of
from protocols.permllm.offline_batches import batches
from protocols.permllm.options import PermLLMOptions
from protocols.system import PhaseCost
from protocols.transformer.spec import TransformerSpec
from protocols.workload import Argmax, Generation, Layer, Linear, Nonlinear, Workload, steps

Bytes = Counter[tuple[Role, Role]]
EXPONENT_BYTES = 8
_KEYS: Bytes = Counter({(P2, P0): KEY_BYTES, (P2, P1): KEY_BYTES})
_MATRICES = 4  # weight exponents agreed on in a layer
_TABLES = 2  # and in a model


def cost(workload: Workload, options: PermLLMOptions) -> dict[Phase, PhaseCost]:
    """All phases of one evaluation of `workload`."""
    costs = _cost(workload, options)
    if options.mask_holder == "dealer":
        costs["prepare"] = _to_dealer(costs["prepare"])
    return costs


def _to_dealer(prepare: PhaseCost) -> PhaseCost:
    """P2 gets what P1 would, but for the exponents, and P1 a key."""
    sent = Counter(prepare.payload_bytes)
    exponents = sent[P0, P2]
    weights = sent[P0, P1] - exponents
    moved = {(P0, P1): exponents + KEY_BYTES, (P0, P2): exponents + weights}
    return PhaseCost(max(2, prepare.hops), {**sent, **moved})


def _cost(workload: Workload, options: PermLLMOptions) -> dict[Phase, PhaseCost]:
    domain = domain_of(options)
    sizes = Sizes(domain.dtype.itemsize, domain.window_dtype.itemsize)
    match workload:
        case Argmax(n):
            return sizes.argmax(n)
        case Nonlinear():
            return sizes.nonlinear(prod(workload.shape))
        case Linear(n, d_in, d_out):
            return sizes.linear(n, d_in, d_out)
        case Layer():
            return sizes.layer(workload)
        case Generation():
            return sizes.generation(workload, len(batches(workload, options)))
        case _:
            assert_never(workload)


@dataclass(frozen=True)
class Sizes:
    """Costs for elements of `wide` bytes, of `narrow` bytes in a window."""

    wide: int
    narrow: int

    def argmax(self, n: int) -> dict[Phase, PhaseCost]:
        """Share, select."""
        online = self._selected(n) + Counter({(P1, P0): self.narrow * n})
        return {
            "prepare": PhaseCost(2, _KEYS + Counter({(P1, P0): public_key_bytes()})),
            "offline": PhaseCost(1, {(P2, P1): self.narrow * n}),
            "input": PhaseCost(0),
            "online": PhaseCost(4, online),
        }

    def nonlinear(self, size: int) -> dict[Phase, PhaseCost]:
        """One permuted function."""
        return {
            "prepare": PhaseCost(1, _KEYS),
            "offline": PhaseCost(1, self._permuted_offline(size)),
            "input": PhaseCost(1, {(P1, P0): self.wide * size}),
            "online": PhaseCost(2, self._permuted_online(size)),
        }

    def linear(self, n: int, d_in: int, d_out: int) -> dict[Phase, PhaseCost]:
        """One linear layer."""
        weights = Counter({(P0, P1): self.wide * d_out * d_in})
        exponent = Counter({(P0, P1): EXPONENT_BYTES, (P0, P2): EXPONENT_BYTES})
        return {
            "prepare": PhaseCost(2, _KEYS + weights + exponent),
            "offline": PhaseCost(2, self._linear_offline(n * d_out)),
            "input": PhaseCost(1, {(P1, P0): self.wide * n * d_in}),
            "online": PhaseCost(0),
        }

    def layer(self, work: Layer) -> dict[Phase, PhaseCost]:
        """One layer; its cached rows are opened to P1 in the input phase."""
        spec, n, past = work.spec, work.q_len, work.kv_len - work.q_len
        rows = 2 * self.wide * spec.d_kv * past
        given = Counter({(P1, P0): self.wide * n * spec.d_model + rows}) + Counter({(P0, P1): rows})
        return {
            "prepare": PhaseCost(2, _KEYS + self._layer_prepare(spec)),
            "offline": PhaseCost(2, self._layer_offline(spec, n, work.kv_len)),
            "input": PhaseCost(2 if past else 1, given),
            "online": PhaseCost(12, self._layer_online(spec, n, work.kv_len)),
        }

    def generation(self, work: Generation, passes: int) -> dict[Phase, PhaseCost]:
        """Embedding, layers, head and selection of every step. passes: of the offline phase."""
        spec = work.spec
        prepare = _KEYS + self._tables_prepare(spec)
        for _ in range(spec.n_layers):
            prepare = prepare + self._layer_prepare(spec)
        offline, online, hops, length = Bytes(), Bytes(), 0, 0
        for step in steps(work):
            n, length = step.tokens, length + step.tokens
            offline += self._ends_offline(spec, n)
            online += self._ends_online(spec, n)
            hops += 12 * spec.n_layers + (4 if spec.family == "bert" else 6)
            for _ in range(spec.n_layers):
                offline += self._layer_offline(spec, n, length)
                online += self._layer_online(spec, n, length)
        return {
            "prepare": PhaseCost(2 * spec.n_layers + (spec.family != "bert"), prepare),
            "offline": PhaseCost(2 * passes, offline),
            "input": PhaseCost(0),
            "online": PhaseCost(hops, online),
        }

    def _selected(self, n: int) -> Bytes:
        return Counter({(P0, P1): self.narrow * n + reply_bytes(), (P1, P0): query_bytes(n)})

    def _permuted_offline(self, size: int, inputs: int = 1) -> Bytes:
        return Counter({(P2, P1): self.narrow * size * inputs, (P2, P0): self.wide * size})

    def _permuted_online(self, size: int, inputs: int = 1) -> Bytes:
        return Counter({(P0, P1): self.narrow * size * inputs, (P1, P0): self.wide * size})

    def _linear_offline(self, size: int) -> Bytes:
        return Counter({(P2, P1): self.wide * size, (P1, P0): self.wide * size})

    def _layer_prepare(self, spec: TransformerSpec) -> Bytes:
        d, inner = spec.d_model, _inner(spec)
        weights = (2 * d + 2 * spec.d_kv + inner + spec.d_ff + _diagonals(spec)) * d
        exponents = EXPONENT_BYTES * _MATRICES
        return Counter({(P0, P1): self.wide * weights + exponents, (P0, P2): exponents})

    def _layer_offline(self, spec: TransformerSpec, n: int, length: int) -> Bytes:
        d, wide = spec.d_model, self.wide
        outputs = n * (3 * d + 2 * spec.d_kv + _inner(spec) + _diagonals(spec) * d)
        rotary = wide * n * (d + spec.d_kv) if spec.rotary else 0
        shares = wide * (spec.n_heads * n * length + n * d)
        total = self._linear_offline(outputs) + Counter({(P2, P1): shares, (P2, P0): rotary})
        for size, inputs in _functions(spec, n, length):
            total += self._permuted_offline(size, inputs)
        return total

    def _layer_online(self, spec: TransformerSpec, n: int, length: int) -> Bytes:
        d, wide = spec.d_model, self.wide
        scores, opened = wide * spec.n_heads * n * length, wide * n * (d + 2 * spec.d_kv)
        total = Counter({(P0, P1): opened + scores, (P1, P0): scores + wide * n * d})
        for size, inputs in _functions(spec, n, length):
            total += self._permuted_online(size, inputs)
        return total

    def _tables_prepare(self, spec: TransformerSpec) -> Bytes:
        d, exponents = spec.d_model, EXPONENT_BYTES * _TABLES
        total = Counter({(P0, P1): self.narrow * spec.vocab * d + exponents, (P0, P2): exponents})
        if spec.family == "bert":
            return total + Counter({(P0, P1): self.wide * d})
        return total + Counter({(P0, P1): self.wide * spec.vocab * d, (P1, P0): public_key_bytes()})

    def _ends_offline(self, spec: TransformerSpec, n: int) -> Bytes:
        d, embedded = spec.d_model, self.narrow * n * spec.d_model
        total = Counter({(P2, P1): embedded, (P1, P0): embedded})
        if spec.family == "bert":
            return total + self._permuted_offline(n * d) + self._linear_offline(n * d)
        head = self._permuted_offline(d) + self._linear_offline(spec.vocab)
        return total + head + Counter({(P2, P1): self.narrow * spec.vocab})

    def _ends_online(self, spec: TransformerSpec, n: int) -> Bytes:
        d, total = spec.d_model, Counter({(P1, P0): self.narrow * n * spec.vocab})
        if spec.family == "bert":
            return total + self._permuted_online(n * d) + Counter({(P0, P1): self.wide * n * d})
        return total + self._permuted_online(d) + self._selected(spec.vocab)


def _functions(spec: TransformerSpec, n: int, length: int) -> list[tuple[int, int]]:
    """(elements, inputs) of both norms, the softmax and the activation."""
    norm = (n * spec.d_model, 1)
    activation = (n * spec.d_ff, 2 if spec.gated else 1)
    return [norm, norm, (spec.n_heads * n * length, 1), activation]


def _inner(spec: TransformerSpec) -> int:
    return spec.d_ff * (2 if spec.gated else 1)


def _diagonals(spec: TransformerSpec) -> int:
    return 2 if spec.family in ("glm", "bert") else 0
