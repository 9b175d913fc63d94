"""MPCFormer's communication in closed form: payload bytes by ordered pair, and hops, for each phase."""

from collections.abc import Iterable
from typing import assert_never

from baselines.mpcformer import primitive_costs
from baselines.mpcformer.options import Settings
from baselines.mpcformer.primitive_costs import Cost, truncation
from protocols.arith.prg import KEY_BYTES
from protocols.party import P0, P1, P2, Phase
from protocols.system import Pair, PhaseCost
from protocols.transformer.spec import TransformerSpec
from protocols.workload import Argmax, Generation, Layer, Linear, Nonlinear, Workload, steps

WORD = 8
_NOTHING = Cost()


def cost(workload: Workload, settings: Settings) -> dict[Phase, PhaseCost]:
    """All phases of one evaluation of `workload`."""
    match workload:
        case Argmax(n):
            return _phases([primitive_costs.argmax(n)], revealed=1)
        case Nonlinear(op, shape):
            return _phases([primitive_costs.function(settings, op, shape)])
        case Linear(n, d_in, d_out):
            opened = Cost(d_out * d_in, 1) if settings.reuse_weight_masks else _NOTHING
            return _phases([_linear(settings, n, d_out, d_in)], prepared=opened)
        case Layer():
            return _layer(workload, settings)
        case Generation():
            return _generation(workload, settings)
        case _:
            assert_never(workload)


def _phases(
    online: Iterable[Cost], prepared: Cost = _NOTHING, given: int = 0, revealed: int = 0
) -> dict[Phase, PhaseCost]:
    """online: of each step. prepared: of opening weights. given: words that both send for the input.
    revealed: words that P0 sends P1 at the end of a step, in a hop of their own."""
    each = list(online)
    total = sum(each, Cost())
    keys: dict[Pair, int] = {(P2, P0): KEY_BYTES, (P2, P1): KEY_BYTES}
    dealt: dict[Pair, int] = {(P2, P1): WORD * total.dealt} if total.dealt else {}
    sent = _both(WORD * total.words)
    if revealed:
        sent[P0, P1] = sent.get((P0, P1), 0) + WORD * revealed * len(each)
    hops = total.hops + (len(each) if revealed else 0)
    return {
        "prepare": PhaseCost(1 + prepared.hops, keys | _both(WORD * prepared.words)),
        "offline": PhaseCost(len(each) if dealt else 0, dealt),
        "input": PhaseCost(1 if given else 0, _both(WORD * given)),
        "online": PhaseCost(hops, sent),
    }


def _both(size: int) -> dict[Pair, int]:
    return {(P0, P1): size, (P1, P0): size} if size else {}


def _layer(work: Layer, settings: Settings) -> dict[Phase, PhaseCost]:
    spec, reused = work.spec, settings.reuse_weight_masks
    past = 2 * spec.d_kv * (work.kv_len - work.q_len)
    return _phases(
        [layer(spec, settings, work.q_len, work.kv_len)],
        prepared=layer_weights(spec) if reused else _NOTHING,
        given=past if reused else 0,
    )


def layer(spec: TransformerSpec, settings: Settings, n: int, length: int) -> Cost:
    """One layer on n new tokens of `length`."""
    d, d_kv, heads = spec.d_model, spec.d_kv, spec.n_heads
    inner = spec.d_ff * (2 if spec.gated else 1)
    norms = primitive_costs.normalize(settings, n, d, spec.rms_norm) * 2
    gains = (_matrix(settings, n, d, 1, d) + truncation(settings, n * d)) * _diagonals(spec)
    linears = [(d + 2 * d_kv, d), (d, d), (inner, d), (d, spec.d_ff)]
    products = sum((_linear(settings, n, m, k) for m, k in linears), Cost())
    rotary = truncation(settings, n * (d + d_kv)) if spec.rotary else Cost()
    rounded = truncation(settings, heads * n * length) + truncation(settings, n * d)
    weights = primitive_costs.softmax(settings.approx, heads * n, length)
    attention = _attention(spec, settings, n, length)
    return (
        norms
        + gains
        + products
        + rotary
        + attention
        + rounded
        + weights
        + _activation(spec, settings, n)
    )


def _linear(settings: Settings, n: int, m: int, k: int) -> Cost:
    return _matrix(settings, n, m, k, k) + truncation(settings, n * m)


def _matrix(settings: Settings, n: int, m: int, k: int, width: int) -> Cost:
    """`matrix`: x is (n, width), W (m, k)."""
    opened = 0 if settings.reuse_weight_masks else m * k
    return Cost(n * width + opened, 1, n * m)


def _attention(spec: TransformerSpec, settings: Settings, n: int, length: int) -> Cost:
    """`attention`: both products."""
    q, p = n * spec.d_model, spec.n_heads * n * length
    if settings.reuse_weight_masks:
        return Cost(q + 2 * n * spec.d_kv + p, 2, p + q)
    return Cost(q + p + 2 * spec.d_kv * length, 2, p + q)


def _activation(spec: TransformerSpec, settings: Settings, n: int) -> Cost:
    size = n * spec.d_ff
    gate = primitive_costs.wide_product(size, size, size) if spec.gated else Cost()
    if settings.approx != "exact":
        return primitive_costs.wide_square(size) + gate
    return primitive_costs.silu(size) + gate if spec.gated else primitive_costs.gelu(size)


def _diagonals(spec: TransformerSpec) -> int:
    return 2 if spec.family in ("glm", "bert") else 0


def layer_weights(spec: TransformerSpec) -> Cost:
    """Opening one layer's matrices and gains, one after the other."""
    d, inner = spec.d_model, spec.d_ff * (2 if spec.gated else 1)
    rows = 2 * d + 2 * spec.d_kv + inner + spec.d_ff + _diagonals(spec)
    return Cost(d * rows, 4 + _diagonals(spec))


def model_weights(work: Generation) -> Cost:
    """Opening the distinct layers and both tables (BERT: one, and its gain)."""
    spec, layers = work.spec, 1 if work.tie_layers else work.spec.n_layers
    rest = spec.vocab + 1 if spec.family == "bert" else 2 * spec.vocab
    return layer_weights(spec) * layers + Cost(rest * spec.d_model, 2)


def _generation(work: Generation, settings: Settings) -> dict[Phase, PhaseCost]:
    spec, online, length = work.spec, [], 0
    for plan in steps(work):
        n = plan.tokens
        length += n
        body = layer(spec, settings, n, length) * spec.n_layers
        online.append(_embedding(spec, settings, n) + body + _head(spec, settings))
    bert = spec.family == "bert"
    revealed = work.prompt_len * spec.d_model if bert else spec.vocab
    prepared = model_weights(work) if settings.reuse_weight_masks else _NOTHING
    return _phases(online, prepared=prepared, revealed=revealed)


def _embedding(spec: TransformerSpec, settings: Settings, n: int) -> Cost:
    d = spec.d_model
    table = _matrix(settings, n, d, spec.vocab, spec.vocab)
    if spec.family != "bert":
        return table
    gain = _matrix(settings, n, d, 1, d) + truncation(settings, n * d)
    return table + primitive_costs.normalize(settings, n, d, spec.rms_norm) + gain


def _head(spec: TransformerSpec, settings: Settings) -> Cost:
    if spec.family == "bert":
        return Cost()
    norm = primitive_costs.normalize(settings, 1, spec.d_model, spec.rms_norm)
    return norm + _linear(settings, 1, spec.vocab, spec.d_model)
