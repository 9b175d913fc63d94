"""Puma's primitives: right over their whole range, at its ends and outside, at the declared cost."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from baselines.puma.a2b_summands import to_bits, to_bits_cost
from baselines.puma.bit_injection import select, times_bit, times_bit_cost, to_ring, weighted_cost
from baselines.puma.boolean import both
from baselines.puma.compare import sign, sign_cost
from baselines.puma.context import Context
from baselines.puma.cost import Cost
from baselines.puma.embedding import one_hot, one_hot_cost
from baselines.puma.functions import functions
from baselines.puma.maximum import argmax, argmax_cost, row_maximum
from baselines.puma.multiply import multiply, reshare_cost
from baselines.puma.norm import Affine, norm, norm_cost
from baselines.puma.round_scheduler import Running, drive, together
from baselines.puma.share import FRAC, ULP, Bits, Share, decode, encode
from baselines.puma.truncate import multiply_truncate, truncate, truncate_cost
from protocols.arith.prg import Prg
from protocols.in_process_party import MemoryParty, run_parties
from protocols.party import ROLES
from protocols.shares import approximations as approx
from protocols.system import PhaseCost

MIN, MAX = -(2**63), 2**63 - 1
ULPS = 4.0
RING = st.sampled_from([0, 1, -1, MAX, MIN, MIN + 1, 2**62, -(2**62)]) | st.integers(MIN, MAX)
few = settings(max_examples=12, deadline=None)


@dataclass(frozen=True)
class Ran:
    """What each role's protocol returned, and what it cost."""

    results: list[Any]
    cost: PhaseCost
    messages: int

    def value(self) -> Tensor:
        """The ring value that the shares or bits make; neighbours must agree on every part."""
        for mine, theirs in zip(self.results, self.results[1:] + self.results[:1], strict=True):
            assert torch.equal(mine.second, theirs.first)
        parts = [mine.first for mine in self.results]
        combine = Tensor.bitwise_xor if isinstance(self.results[0], Bits) else Tensor.add
        return combine(combine(parts[0], parts[1]), parts[2])


def shared(x: Tensor, frac: int = FRAC) -> list[Share]:
    stream = Prg.root(1, "test").stream("shares")
    parts = [stream.int64(*x.shape), stream.int64(*x.shape)]
    parts.append(x - parts[0] - parts[1])
    return [Share(parts[i], parts[(i + 1) % 3], frac) for i in range(3)]


def shared_bits(x: Tensor) -> list[Bits]:
    stream = Prg.root(2, "test").stream("bits")
    parts = [stream.int64(*x.shape).to(x.dtype) & 1, stream.int64(*x.shape).to(x.dtype) & 1]
    parts.append(x ^ parts[0] ^ parts[1])
    return [Bits(parts[i], parts[(i + 1) % 3]) for i in range(3)]


def run(protocol: Callable[..., Running[Any]], *inputs: Sequence[Any]) -> Ran:
    def play(party: MemoryParty) -> tuple[Any, MemoryParty]:
        ctx = Context(party.role, None)
        with party.phase("prepare"):
            drive(party, ctx.establish())
        with party.phase("online"):
            ctx.begin_evaluation()
            result = drive(party, protocol(ctx, *(given[ctx.index] for given in inputs)))
        return result, party

    played = run_parties(dict.fromkeys(ROLES, play))
    counts = {role: played[role][1].counters.of("online")[-1] for role in ROLES}
    sent = {(role, to): t for role, c in counts.items() for to, t in c.sent.items()}
    cost = PhaseCost(
        max(c.depth for c in counts.values()), {pair: t.payload_bytes for pair, t in sent.items()}
    )
    most = max((t.messages for t in sent.values()), default=0)
    return Ran([played[role][0] for role in ROLES], cost, most)


def ring_tensor(values: list[int]) -> Tensor:
    return torch.tensor(values, dtype=torch.int64)


# Costs that were published: bits that each role sends an element, hops.
PUBLISHED = [
    ("product", lambda ctx, x: multiply(ctx, x, x), reshare_cost, 64, 1),
    ("truncation", lambda ctx, x: truncate(ctx, x.term(), FRAC), truncate_cost, 128, 2),
    ("both", lambda ctx, x: multiply_truncate(ctx, x, x, FRAC), truncate_cost, 128, 2),
    ("sign", sign, sign_cost, 288, 8),
    ("bits", to_bits, to_bits_cost, 2 * 64 * 6 + 128, 8),
]


@pytest.mark.parametrize(
    ("protocol", "declared", "bits", "hops"), [row[1:] for row in PUBLISHED], ids=lambda _: ""
)
def test_published_costs(
    protocol: Callable[..., Running[Any]], declared: Callable[[int], Cost], bits: int, hops: int
) -> None:
    n = 72
    ran = run(protocol, shared(torch.arange(n)))
    assert ran.cost == declared(n).phase()
    assert ran.cost.hops == hops
    for role in ROLES:
        sent = sum(size for (source, _), size in ran.cost.payload_bytes.items() if source == role)
        assert sent * 8 == bits * n, role


@few
@given(st.lists(st.tuples(RING, RING), min_size=1, max_size=40))
def test_products_are_exact(pairs: list[tuple[int, int]]) -> None:
    x, y = (ring_tensor(list(column)) for column in zip(*pairs, strict=True))
    assert torch.equal(run(multiply, shared(x), shared(y)).value(), x * y)


@few
@given(st.lists(st.integers(-(2**62) + 1, 2**62 - 1), min_size=1, max_size=60), st.integers(1, 62))
def test_truncation_errs_by_less_than_one_unit(values: list[int], bits: int) -> None:
    """For every value below 2^62 and every shift; and not at all where nothing is cut off."""
    for given_values in (values, [v >> bits << bits for v in values]):
        x = ring_tensor(given_values)
        got = run(lambda ctx, s: truncate(ctx, s.term(), bits), shared(x)).value().tolist()
        for value, result in zip(given_values, got, strict=True):
            floor = value >> bits
            assert result in ((floor,) if floor << bits == value else (floor, floor + 1))


def test_truncation_is_unbiased() -> None:
    """A quarter of a unit is cut off: one result in four rounds up."""
    x = torch.full((40_000,), (5 << FRAC) + (1 << (FRAC - 2)))
    got = run(lambda ctx, s: truncate(ctx, s.term(), FRAC), shared(x)).value()
    assert abs(float(got.double().mean()) - 5.25) < 0.01


@few
@given(st.lists(RING, min_size=1, max_size=40))
def test_bits_and_signs_are_exact(values: list[int]) -> None:
    x = ring_tensor(values)
    assert torch.equal(run(to_bits, shared(x)).value(), x)
    assert run(sign, shared(x)).value().tolist() == [int(v < 0) for v in values]


@few
@given(st.lists(st.tuples(RING, RING, st.integers(0, 1)), min_size=1, max_size=40))
def test_bits_enter_the_ring(rows: list[tuple[int, int, int]]) -> None:
    x, y, b = (ring_tensor(list(column)) for column in zip(*rows, strict=True))
    bits = shared_bits(b.to(torch.uint8))
    converted, gated = run(to_ring, bits), run(times_bit, shared(x), bits)
    assert torch.equal(converted.value(), b)
    assert torch.equal(gated.value(), x * b)
    assert torch.equal(run(select, bits, shared(x), shared(y)).value(), torch.where(b.bool(), x, y))
    assert converted.cost == weighted_cost(len(rows)).phase()
    assert gated.cost == times_bit_cost(len(rows)).phase()


SWEEP = {
    "gelu": [torch.linspace(-9, 9, 20_001)],
    "silu": [torch.linspace(-11, 11, 20_001)],
    "exp": [torch.linspace(-20, 0, 20_001)],
    "reciprocal": [f * 2 ** torch.linspace(-8, 19, 10_001).double() for f in (1, -1)],
    "rsqrt": [2 ** torch.linspace(-10, 36, 20_001).double()],
    "comparison": [torch.linspace(-5, 5, 1001)],
}
# Ends, what lies next to them, and what lies outside.
EDGES = {
    "gelu": [-4, -4 - ULP, -1.95, 3, 3 + ULP, 3 - ULP, 2.0**15 - ULP, -(2.0**15)],
    "silu": [-8, -8 - ULP, -3, 3, 3 + ULP, 8, 8 + ULP, 2.0**15 - ULP, -(2.0**15)],
    "exp": [0, -ULP, -14, -14 + ULP, -14 - ULP, -(2.0**20), -(2.0**44)],
    "reciprocal": [s * v for s in (1, -1) for v in (2.0**-8, 1, 2, 3, 2.0**19, 2.0**30, 2.0**44)],
    "rsqrt": [2.0**-10, 2.0**-9, 1, 2, 4, 2.0**36 - 1, 2.0**36, 2.0**44],
    "comparison": [0, ULP, -ULP, 2.0**44, -(2.0**44)],
}


@pytest.mark.parametrize("op", SWEEP)
def test_elementwise_functions_over_their_range(op: str) -> None:
    """Within 4 units of the same approximation in float64, at the declared cost."""
    function = functions()[op]
    x = encode(torch.cat([part.double() for part in [*SWEEP[op], torch.tensor(EDGES[op])]]), FRAC)
    ran = run(function.run, shared(x))
    error = decode(ran.value(), FRAC) - function.plain(decode(x, FRAC))
    assert float(error.abs().max()) <= ULPS * ULP
    assert ran.cost == function.cost(tuple(x.shape)).phase()
    assert ran.messages <= ran.cost.hops  # what is independent shares a message


@few
@given(st.data())
def test_elementwise_functions_anywhere(data: st.DataObject) -> None:
    domains = {
        "gelu": st.floats(-(2.0**15), 2.0**15),
        "silu": st.floats(-(2.0**15), 2.0**15),
        "exp": st.floats(-(2.0**44), 0),
        "reciprocal": st.floats(2.0**-8, 2.0**44).flatmap(lambda v: st.sampled_from([v, -v])),
        "rsqrt": st.floats(2.0**-10, 2.0**44),
    }
    op = data.draw(st.sampled_from(sorted(domains)))
    x = encode(torch.tensor(data.draw(st.lists(domains[op], min_size=1, max_size=30))), FRAC)
    got = decode(run(functions()[op].run, shared(x)).value(), FRAC)
    assert float((got - functions()[op].plain(decode(x, FRAC))).abs().max()) <= ULPS * ULP


def test_functions_beyond_where_they_are_defined() -> None:
    """Small divisors and roots saturate, negative roots are 0: bounded, and no wrap."""
    tiny = torch.tensor([0.0, ULP, -ULP, 2.0**-12])
    inverse = decode(run(functions()["reciprocal"].run, shared(encode(tiny, FRAC))).value(), FRAC)
    assert float(inverse.abs().max()) <= 11.7 * 2**9
    assert (inverse * torch.tensor([1, 1, -1, 1]) > 0).all()
    roots = run(functions()["rsqrt"].run, shared(encode(torch.tensor([0.0, ULP, -1.0]), FRAC)))
    values = decode(roots.value(), FRAC).tolist()
    assert 0 < values[1] <= values[0] <= 4.2 * 2**4
    assert values[2] == 0


@few
@given(
    seed=st.integers(0, 10**6),
    rows=st.integers(1, 6),
    n=st.integers(1, 70),
    spread=st.sampled_from([0.0, 0.1, 3.0, 40.0]),
    hidden=st.booleans(),
)
def test_softmax(seed: int, rows: int, n: int, spread: float, hidden: bool) -> None:
    x = torch.randn(rows, n, generator=torch.Generator().manual_seed(seed)).double() * spread
    if hidden:
        x[:, : n // 2] -= 2.0**20
    ring = encode(x, FRAC)
    ran = run(functions()["softmax"].run, shared(ring))
    error = decode(ran.value(), FRAC) - approx.softmax(decode(ring, FRAC))
    assert float(error.abs().max()) <= ULPS * ULP
    assert ran.cost == functions()["softmax"].cost((rows, n)).phase()


@few
@given(
    seed=st.integers(0, 10**6),
    d=st.sampled_from([2, 64, 96, 768]),
    deviation=st.sampled_from([2.0**-8, 2.0**-4, 1.0, 2.0**6]),
    mean=st.sampled_from([0.0, 1.0, -8.0]),
    centre=st.booleans(),
)
def test_norms(seed: int, d: int, deviation: float, mean: float, centre: bool) -> None:
    noise = torch.randn(3, d, generator=torch.Generator().manual_seed(seed)).double()
    ring = encode(noise * deviation + mean * min(deviation, 16), FRAC)
    plain = approx.layer_norm if centre else approx.rms_norm
    ran = run(lambda ctx, s: norm(ctx, s, 1e-5, centre), shared(ring))
    right = plain(decode(ring, FRAC), 1e-5)
    assert float((decode(ran.value(), FRAC) - right).abs().max()) <= ULPS * ULP
    assert ran.cost == norm_cost(3, d, centre, affine=False).phase()


def test_norm_with_gain_and_bias() -> None:
    draw = torch.randn(4, 3, 50, generator=torch.Generator().manual_seed(1)).double()
    x, gain, bias = draw[0], 1 + 0.1 * draw[1, 0], draw[2, 0]
    gains, biases = shared(encode(gain, FRAC)), shared(encode(bias, FRAC))
    affine = [Affine(g, b) for g, b in zip(gains, biases, strict=True)]
    ran = run(lambda ctx, s, a: norm(ctx, s, 1e-5, True, a), shared(encode(x, FRAC)), affine)
    right = approx.layer_norm(x, 1e-5) * gain + bias
    assert float((decode(ran.value(), FRAC) - right).abs().max()) <= 2 * ULPS * ULP
    assert ran.cost == norm_cost(3, 50).phase()


@pytest.mark.parametrize("n", [1, 2, 3, 300, 70_000])
def test_argmax_wherever_the_largest_stands(n: int) -> None:
    """70,000 entries need 17 bits of index, in three sizes of word; entry 2 sets the 16th alone."""
    for at in {0, n - 1, n // 2, min(n - 1, 2), min(n - 1, 65_535)}:
        x = torch.arange(n) % 1000 - (torch.arange(n) % 7) * 2**40
        x[at] = 2**50
        ran = run(argmax, shared(x))
        assert ran.results == [None, at, None]
        assert ran.cost == argmax_cost(n).phase()


def test_row_maximum() -> None:
    x = encode(torch.randn(5, 37, generator=torch.Generator().manual_seed(3)) * 100, FRAC)
    assert torch.equal(run(row_maximum, shared(x)).value(), x.amax(1, keepdim=True))


@pytest.mark.parametrize("vocab", [1, 2, 3, 10, 257, 1000])
def test_one_hot(vocab: int) -> None:
    """Every id of a small vocabulary, both ends of a large one."""
    ids = sorted({*range(min(vocab, 12)), vocab // 2, vocab - 1})
    known = [None, torch.tensor(ids), None]
    ran = run(lambda ctx, given_ids: one_hot(ctx, given_ids, len(ids), vocab), known)
    assert torch.equal(ran.value(), torch.nn.functional.one_hot(torch.tensor(ids), vocab))
    assert ran.cost == one_hot_cost(len(ids), vocab).phase()


def test_protocols_in_lockstep_share_messages_and_stay_apart() -> None:
    """Three protocols of 1, 2 and 8 rounds take 8 messages, and each gets its own tensors."""
    x = torch.arange(-20, 20)

    async def all_three(ctx: Context, s: Share) -> tuple[Any, ...]:
        return await together(multiply(ctx, s, s), truncate(ctx, s.term(), 1), sign(ctx, s))

    ran = run(all_three, shared(x * 2))
    square, half, negative = (
        Ran([parts[i] for parts in ran.results], ran.cost, 0).value() for i in range(3)
    )
    assert torch.equal(square, 4 * x * x)
    assert torch.equal(half, x)
    assert torch.equal(negative, (x < 0).to(torch.uint8))
    cost = reshare_cost(40) | truncate_cost(40) | sign_cost(40)
    assert ran.cost == cost.phase()
    assert ran.messages == 8


def test_shares_of_zero_hide_and_never_repeat() -> None:
    """The same product twice: the same value, fresh parts, which are no constants."""
    zero = torch.zeros(2000, dtype=torch.int64)

    async def twice(ctx: Context, s: Share) -> tuple[Share, Share]:
        return await multiply(ctx, s, s), await multiply(ctx, s, s)

    ran = run(twice, [Share(zero, zero, FRAC)] * 3)
    for first, second in ran.results:
        assert not (first.first == second.first).any()
        assert abs(float((first.first < 0).double().mean()) - 0.5) < 0.06


def test_words_of_bits_are_multiplied_bit_by_bit() -> None:
    x, y = (Prg.root(3, name).stream("x").int64(50) for name in "ab")
    ran = run(both, word_shares(x), word_shares(y))
    assert torch.equal(ran.value(), x & y)


def word_shares(x: Tensor) -> list[Bits]:
    stream = Prg.root(4, "words").stream("x")
    parts = [stream.int64(*x.shape), stream.int64(*x.shape)]
    parts.append(x ^ parts[0] ^ parts[1])
    return [Bits(parts[i], parts[(i + 1) % 3]) for i in range(3)]
