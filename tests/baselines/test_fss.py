"""Function secret sharing: point functions against their definition, key sizes and rounds as published,
gates and functions over their ranges, keys on disk."""

import tempfile
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from baselines.fss import approx, bits, costs, dpf
from baselines.fss.activation import GELU, SILU, Curve, activate
from baselines.fss.bits import Field, Layout, Words
from baselines.fss.context import FRAC, Context
from baselines.fss.costs import Cost
from baselines.fss.dpf_kernels import Blocks
from baselines.fss.drelu import drelu, scaled, select
from baselines.fss.encoding import decode, encode, signed
from baselines.fss.exponential import decay
from baselines.fss.float_lut import float_code, float_look_up, float_table, middle, thresholds
from baselines.fss.functions import inverse_roots
from baselines.fss.input_masks import masked_input
from baselines.fss.lut import Table, look_up
from baselines.fss.maximum import maximum
from baselines.fss.multiply import multiply, square_sum
from baselines.fss.norm import normalize
from baselines.fss.options import FssOptions
from baselines.fss.softmax import WEIGHT_FRAC, reciprocal_of_sum, softmax, sum_bits
from baselines.fss.system import Fss
from baselines.fss.truncation import reduce, truncate
from baselines.fss.warm import warm_up
from protocols.arith.prg import Stream
from protocols.errors import PeerError, Unsupported
from protocols.expected_answer import answer
from protocols.in_process_party import MemoryParty, run_parties
from protocols.on_disk import Messages
from protocols.party import P0, P1, P2, ROLES
from protocols.transformer.spec import Family
from protocols.workload import Layer, Nonlinear
from tests.play import FAMILIES, SEED, declared, relative, small
from tests.play import play as play_system

ULP = 2.0**-FRAC
LAMBDA, NU, N = 127, 7, 50  # SIGMA's λ and ν; the default ring
Protocol = Callable[..., Tensor]


def played(
    protocol: Protocol, *secrets: Tensor, ring_bits: int = N, width: int | None = None
) -> tuple[Tensor, Cost]:
    """The signed numbers under the masked values of `protocol(ctx, *inputs)`, and what it cost without
    its inputs."""
    options = FssOptions(ring_bits=ring_bits)

    def walk(party: MemoryParty) -> tuple[Tensor, MemoryParty]:
        ctx = Context(party, 5, options)
        with party.phase("prepare"):
            ctx.establish()
        with party.phase("offline"):
            ctx.begin_offline()
            inputs = [masked_input(ctx, None, tuple(x.shape)) for x in secrets]
            result = protocol(ctx, *inputs)
        ctx.begin_online()
        if party.role == P2:
            return result, party
        with party.phase("input"):
            own = secrets if party.role == P1 else [None] * len(secrets)
            inputs = [
                masked_input(ctx, x, tuple(s.shape)) for x, s in zip(own, secrets, strict=True)
            ]
        with party.phase("online"):
            result = protocol(ctx, *inputs)
        ctx.end_online()
        return result, party

    parties = run_parties(dict.fromkeys(ROLES, walk))
    (zero, first), (one, second), (mask, dealer) = (parties[role] for role in ROLES)
    bits_out = width or ring_bits
    assert torch.equal(signed(zero, bits_out), signed(one, bits_out))
    return signed(zero - mask, bits_out), _cost(first, second, dealer)


def _cost(first: MemoryParty, second: MemoryParty, dealer: MemoryParty) -> Cost:
    online = [party.counters.of("online")[0] for party in (first, second)]
    sent = {sum(t.payload_bytes for t in counts.sent.values()) for counts in online}
    assert len(sent) == 1, "both parties send the same"
    keys = dealer.counters.of("offline")[0].sent[P0].payload_bytes
    return Cost(keys, max(counts.depth for counts in online), sent.pop())


def points(n: int, count: int) -> Words:
    """Points of n bits, the first and the last among them."""
    drawn = Stream(bytes([n]) * 16).int64(count).numpy().view(np.uint64)
    drawn[0], drawn[-1] = 0, 2**64 - 1
    return drawn & np.uint64((1 << n) - 1)


def pair(alpha: Words, n: int) -> tuple[dpf.Keys, dpf.Keys, Words]:
    """Both keys, as they arrive, and the sign."""
    *made, sign = dpf.generate(alpha, n, Stream(b"k" * 16), bytes(16))
    layout, keys = dpf.layout(n), []
    for one in made:
        packed = bits.pack(layout, len(alpha), dpf.fields(one))
        assert packed.numel() == -(-layout.bits * len(alpha) // 8)
        keys.append(
            dpf.from_fields(one.party, n, bits.unpack(layout, len(alpha), packed), bytes(16))
        )
    return keys[0], keys[1], sign


@pytest.mark.parametrize("n", [1, 2, 6, 7, 8])
def test_a_comparison_of_every_point_with_every_value(n: int) -> None:
    alpha, x = (t.reshape(-1) for t in np.meshgrid(*[np.arange(1 << n, dtype=np.uint64)] * 2))
    one, two, _ = pair(alpha, n)
    assert np.array_equal(one.above(x) ^ two.above(x), alpha > x)


@pytest.mark.parametrize("n", [20, 49, 63])
def test_a_comparison_beside_the_point(n: int) -> None:
    alpha, mask = points(n, 200), np.uint64((1 << n) - 1)
    one, two, _ = pair(alpha, n)
    for x in (alpha, (alpha - np.uint64(1)) & mask, (alpha + np.uint64(1)) & mask, points(n, 200)):
        assert np.array_equal(one.above(x) ^ two.above(x), alpha > x)


@pytest.mark.parametrize(("n", "digits"), [(1, 1), (7, 1), (8, 1), (11, 1), (13, 2)])
def test_a_lookup_is_an_entry_under_a_sign(n: int, digits: int) -> None:
    alpha, x = points(n, 300), points(n, 301)[1:]
    table = Stream(b"t" * 16).int64(1 << n).numpy().view(np.uint64)
    one, two, sign = pair(alpha, n)
    (u, w), (v, z) = (key.lookup(x, table, digits == 2) for key in (one, two))
    places = Table(torch.from_numpy(table.view(np.int64)), digits == 2).minus(
        *(torch.from_numpy(t.view(np.int64)) for t in (x, alpha))
    )
    assert np.array_equal(w + z, sign)
    assert np.array_equal(u + v, sign * table[places.numpy()])
    assert set(sign.view(np.int64).tolist()) == {1, -1}


def test_one_key_alone_says_nothing_by_its_evaluations() -> None:
    """At the point as elsewhere a party's bit is a fair coin, and so is every bit of a key."""
    alpha = np.full(4000, 77, np.uint64)
    one, two, _ = pair(alpha, 10)
    for keys in (one, two):
        right, left = keys.above(alpha - np.uint64(1)), keys.above(alpha)
        coins = [right ^ left, *dpf.fields(keys)[2]]
        words = dpf.fields(keys)[1]
        coins += [(word >> np.uint64(bit)) & np.uint64(1) for word in words for bit in (0, 63)]
        assert all(abs(float(coin.mean()) - 0.5) < 5 * 0.5 / 4000**0.5 for coin in coins)


def test_numbers_are_packed_to_the_bit() -> None:
    layout = Layout((Field(1, 3), Field(63), Field(64, 2), Field(50)))
    assert layout.bits == 3 + 63 + 128 + 50
    for count in (1, 7, 64):
        drawn = Stream(b"p" * 16).int64(7, count).numpy().view(np.uint64)
        values = [drawn[:3] & np.uint64(1), drawn[3:4] >> np.uint64(1), drawn[4:6], drawn[6:]]
        values[3] = values[3] >> np.uint64(14)
        packed = bits.pack(layout, count, values)
        assert packed.numel() == -(-layout.bits * count // 8)
        assert all(map(np.array_equal, values, bits.unpack(layout, count, packed)))


def dpf_bits(n: int) -> int:
    """As SIGMA prints it."""
    return (n - NU) * (LAMBDA + 2) + 2 * LAMBDA if n > NU else 1 << n


def test_keys_have_the_published_sizes() -> None:
    """To the bit, in a ring of 50 bits: eight instances are as many bytes as one has bits."""
    assert costs.drelu_share(8, N).keys == dpf_bits(N - 1) + 1
    assert costs.select(8, N).keys == 4 * N
    assert costs.multiply(8, 8, N).keys == 3 * N
    assert costs.reduce(8, N, FRAC).keys == dpf_bits(FRAC) + 2 * (N - FRAC)
    assert costs.reduce(8, N, 6).keys == 2**6 + 2 * (N - 6)
    for k, m in ((8, N), (10, 48), (13, 64), (14, N)):
        assert costs.look_up(8, k, m).keys == dpf_bits(k) + k + 2 * m


def test_gelu_is_made_of_published_gates() -> None:
    """In 7 rounds; 1,452.9 B of key and 49.75 B online an element, where SIGMA prints 1.43 kB and 58 B."""
    n, y = N, N - 6
    parts = dpf_bits(6) + 2 * y, dpf_bits(n - 1) + 1, 4 * y, dpf_bits(y - 1) + 1, 4 * 8
    cost = costs.activate(8, n, 8)
    assert cost.keys == sum(parts) + dpf_bits(8) + 8 + 2 * n + 4 * n == 11623
    assert 2 * cost.sent == 2 * (2 + y + y + 1 + 8 + n + n) == 8 * 49.75
    assert (cost.hops, costs.activate(8, n, 10).hops) == (7, 7)
    assert costs.activate(8, n, 10).keys == cost.keys + 2 * 129 + 2 + 4 * 2


def test_rounds_are_the_published_ones() -> None:
    """Two a level of a maximum; of a layer 94 are printed, embedding and head aside."""
    assert [costs.maximum(1, k, N).hops for k in (2, 3, 128)] == [2, 4, 14]
    assert sum_bits(128) == 6 + 8
    layer = declared(Fss, Layer(small("bert"), 6, 128))
    assert layer["online"].hops == 67 + 2 * 7 + 2 * 3 <= 94


@pytest.fixture
def hashes(monkeypatch: pytest.MonkeyPatch) -> dict[int, list[tuple[bytes, int]]]:
    """Thread → AES key and blocks of each call of it."""
    warm_up()
    called: dict[int, list[tuple[bytes, int]]] = {}
    encrypt = dpf.encrypt

    def counted(key: bytes, text: Blocks, out: Blocks) -> None:
        called.setdefault(threading.get_ident(), []).append((key, len(text)))
        encrypt(key, text, out)

    monkeypatch.setattr(dpf, "encrypt", counted)
    return called


@pytest.mark.parametrize(
    ("protocol", "value", "blocks"),
    [
        (lambda ctx, x: activate(ctx, x, GELU), 1, 80),
        (lambda ctx, x: activate(ctx, x, SILU), 1, 92),
        (lambda ctx, x: reciprocal_of_sum(ctx, x, 128), 5, 254),
        (lambda ctx, x: float_look_up(ctx, x, inverse_roots()), 1, 1924),
    ],
    ids=["gelu", "silu", "reciprocal", "rsqrt"],
)
def test_hashes_of_an_evaluation(
    protocol: Protocol, value: int, blocks: int, hashes: dict[int, list[tuple[bytes, int]]]
) -> None:
    """SIGMA's Table 2 prints 78 for GeLU, 90 for SiLU, 254 for a reciprocal of a sum of 128, and 1840 for an
    inverse square root; of 13-bit floats ours have two more exponents, each a walk of 42 hashes."""
    played(protocol, torch.tensor([value << FRAC]))
    counts = sorted(sum(count for _, count in calls) for calls in hashes.values())
    assert counts.count(blocks) == 2, "both parties take as many"


def test_each_message_of_keys_has_an_aes_key_of_its_own(
    hashes: dict[int, list[tuple[bytes, int]]],
) -> None:
    """In two evaluations of a GeLU: three messages of trees each, the same keys at all roles."""
    play_system(Fss, Nonlinear("gelu", (3,)), evaluations=2)
    used = [{key for key, _ in calls} for calls in hashes.values()]
    assert len(used) == 3
    assert used[0] == used[1] == used[2]
    assert len(used[0]) == 2 * 3


@pytest.mark.parametrize("width", [40, 50, 64])
def test_bits_of_signs(width: int) -> None:
    """On both sides of zero, and at the ends of the ring."""
    top = (1 << (width - 1)) - 1
    x = torch.tensor([0, 1, -1, 5, -5, top, -top, -top - 1])
    y = torch.tensor([3, -4, 5, 6, 7, 8, -9, 10])

    def protocol(ctx: Context, x: Tensor, y: Tensor) -> Tensor:
        bit = drelu(ctx, x, width)
        share = select(ctx, bit, y, width) + scaled(ctx, bit, 1000, width)
        return ctx.open(share, width)

    got, cost = played(protocol, x, y, ring_bits=width)
    assert got.tolist() == torch.where(x >= 0, y + 1000, 0).tolist()
    expected = costs.drelu(8, width) + costs.select(8, width) + costs.scaled(8, width)
    assert cost == expected + costs.opened(8, width)


@pytest.mark.parametrize(("width", "cut"), [(50, 12), (50, 6), (64, 20), (44, 30)])
def test_shifts(width: int, cut: int) -> None:
    """Both kinds, over the range that each takes."""
    generator = torch.Generator().manual_seed(3)
    limit = 1 << (width - 2)
    x = torch.randint(-limit, limit, (60,), generator=generator)
    x[:6] = torch.tensor([0, 1, -1, 1 << (cut - 1), limit - (1 << cut), -limit])

    def reduced(ctx: Context, x: Tensor) -> Tensor:
        share, finish = reduce(ctx, x, width, cut)
        return ctx.open(finish(ctx.open(share, 1)), width - cut)

    got, _ = played(reduced, x, ring_bits=width, width=width - cut)
    assert torch.equal(got, x >> cut)
    got, cost = played(lambda ctx, x: truncate(ctx, x, cut), x, ring_bits=width)
    assert torch.equal(got, (x + (1 << (cut - 1))) >> cut)
    assert cost == costs.truncate(60, width, cut)


def test_products() -> None:
    x, y = encode(torch.linspace(-8, 8, 48)).reshape(6, 8), encode(torch.linspace(-3, 9, 6))
    got, cost = played(lambda ctx, x, y: ctx.open(multiply(ctx, x, y, N), N), x, y.reshape(6, 1))
    assert torch.equal(got, x * y[:, None])
    assert cost == costs.multiply(48, 6, N) + costs.opened(48, N)
    got, cost = played(lambda ctx, x: ctx.open(square_sum(ctx, x, N), N), x)
    assert torch.equal(got, x.square().sum(-1, keepdim=True))
    assert cost == costs.square_sum(6, 8, N) + costs.opened(6, N)


def test_a_table() -> None:
    table, index = Table(torch.arange(1 << 9) * 3), torch.tensor([0, 127, 128, 500, 511])

    def protocol(ctx: Context, x: Tensor) -> Tensor:
        (share,) = look_up(ctx, (x, table), width=N)
        return ctx.open(share, N)

    got, cost = played(protocol, index)
    assert torch.equal(got, index * 3)
    assert cost == costs.look_up(5, 9, N) + costs.opened(5, N) * 2


@pytest.mark.parametrize("curve", [GELU, SILU], ids=["gelu", "silu"])
def test_activations(curve: Curve) -> None:
    """On both sides of where the table ends, and far away; close to the exact function as well."""
    end = 2.0 ** (curve.bits - 6)
    x = torch.cat(
        [torch.linspace(-end - 1, end + 1, 1001), torch.tensor([-3e4, 3e4, 0.0])]
    ).double()
    got, cost = played(lambda ctx, x: activate(ctx, x, curve), encode(x))
    x = decode(encode(x), N)
    assert float((decode(got, N) - curve(x)).abs().max()) <= ULP
    assert float((decode(got, N) - curve.exact(x)).abs().max()) <= 2.0**-8 + 2 * ULP
    assert cost == costs.activate(len(x), N, curve.bits)


def test_decay() -> None:
    z = torch.cat([torch.linspace(0, 17, 500), torch.tensor([100.0, 3e5])]).double()
    got, cost = played(lambda ctx, z: decay(ctx, z, N), encode(z))
    assert float((decode(got, N) - torch.exp(-z)).abs().max()) <= 2 * ULP
    assert cost == costs.decay(len(z), N, N)


def test_floats() -> None:
    """Every power of two on both sides, and all small numbers: these are exact, but for 0."""
    exact = torch.arange(1, 256).double()
    assert torch.equal(middle(float_code(exact)), exact)
    assert middle(float_code(torch.zeros(1).double())).tolist() == [0.5]
    whole = torch.tensor([1, 100, 127, *(2**k + d for k in range(7, 48) for d in (-1, 0, 1)), 0])
    assert float((middle(float_code(whole.double())) / whole - 1)[:-1].abs().max()) <= 2**-8
    assert int(float_code(whole.double()).max()) <= (thresholds(N) + 1) << 7
    table = float_table(torch.floor, 0)
    got, cost = played(lambda ctx, x: float_look_up(ctx, x, table), whole)
    assert torch.equal(got, table.entries[float_code(whole.double())])
    assert cost == costs.float_look_up(len(whole), N)
    x = torch.tensor([0.5, 3.0, 49.0]).double()
    got, _ = played(lambda ctx, x: float_look_up(ctx, x, inverse_roots()), encode(x))
    assert torch.allclose(decode(got, N), x.rsqrt(), rtol=2**-8, atol=2 * ULP)


def test_norms() -> None:
    """Of rows whose deviation is small, and near the largest, where 1/σ is a small number."""
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(3, 768, generator=generator).double() * torch.tensor([[0.3], [5.0], [200.0]])
    got, cost = played(lambda ctx, x: normalize(ctx, x, 1e-5, False), encode(x))
    x = decode(encode(x), N)
    exact = torch.nn.functional.layer_norm(x, (768,))
    off = (decode(got, N) - approx.normalize(x, 1e-5, False)).abs()
    assert bool((off <= 4 * ULP + exact.abs() / 2000).all())
    assert float((decode(got, N) - exact).abs().max()) <= float(exact.abs().max()) / 400
    assert cost == costs.normalize(3, 768, N, False)


@pytest.mark.parametrize("shape", [(3, 1), (2, 3, 7), (2, 128)])
def test_softmax(shape: tuple[int, ...]) -> None:
    """With and without keys that may not be seen, whose weight is 0."""
    generator = torch.Generator().manual_seed(3)
    x = encode(3 * torch.randn(shape, generator=generator, dtype=torch.float64))
    seen = torch.ones(shape[-2:], dtype=torch.bool).tril(shape[-1] // 2)
    for visible in (None, seen):
        got, cost = played(lambda ctx, x, v=visible: softmax(ctx, x, v), x)
        weights = decode(got, N, WEIGHT_FRAC)
        right = approx.softmax(decode(x, N), visible)
        # The last bit of a sum may decide between two entries, which are 1/64 apart.
        assert bool(((weights - right).abs() <= right / 64 + 4 * ULP).all())
        assert visible is not None or relative(weights, torch.softmax(decode(x, N), -1)) <= 1 / 128
        assert cost == costs.softmax(x.numel() // shape[-1], shape[-1], N)
        assert visible is None or not bool(weights.masked_select(~visible.expand(shape)).any())


def test_maximum_of_rows() -> None:
    x = torch.tensor([[3, -5, 9, 9, 2], [-7, -6, -9, -8, -7]])
    got, cost = played(lambda ctx, x: maximum(ctx, x, 39), x, width=39)
    assert got.tolist() == [[9], [-6]]
    assert cost == costs.maximum(2, 5, 39)


@pytest.mark.parametrize("family", FAMILIES)
def test_layers_are_close_to_exact_plaintext(family: Family) -> None:
    work = Layer(small(family), 4, 9)
    played_layer = play_system(Fss, work, evaluations=1)
    assert relative(played_layer.answers[0][0], answer(work, SEED)) <= 2e-3


def test_keys_may_wait_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them, in one file of a party and evaluation; the same answer at the same cost, and no file is
    left."""
    work = Layer(small("gpt2"), 2, 3)
    on_disk = FssOptions(key_store="disk", store_dir=str(tmp_path))
    need, stored = Fss.needs(work, on_disk)[P1], Counter[int]()
    files: list[object] = []
    append, make = Messages.append, tempfile.TemporaryFile

    def appended(self: Messages, message: Tensor) -> Callable[[], Tensor]:
        stored[id(self)] += message.numel()
        return append(self, message)

    def file(**how: Any) -> Any:
        files.append(how)
        return make(**how)

    monkeypatch.setattr(Messages, "append", appended)
    monkeypatch.setattr(tempfile, "TemporaryFile", file)
    monkeypatch.setattr("protocols.on_disk.RESIDENT", 1000)
    one = play_system(Fss, work, FssOptions())
    assert not stored
    two = play_system(Fss, work, on_disk)
    assert [a.tolist() for a in one.answers[0]] == [a.tolist() for a in two.answers[0]]
    assert one.cost == two.cost
    assert need.folder == str(tmp_path)
    assert len(stored) == 2
    assert all(0.9 * need.disk_bytes <= size / 2 <= need.disk_bytes for size in stored.values())
    assert len(files) == 2 * 2
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(Unsupported, match="is no folder"):
        play_system(Fss, work, FssOptions(key_store="disk", store_dir=str(tmp_path / "none")))


def test_what_a_role_receives_is_checked() -> None:
    """A message of another size or kind ends the run with the step's name."""

    def walk(party: MemoryParty) -> None:
        ctx = Context(party, 5, FssOptions())
        with party.phase("prepare"):
            ctx.establish()
        with party.phase("offline"):
            ctx.begin_offline()
            if party.role == P2:
                party.send(P0, torch.zeros(3, dtype=torch.uint8))
                party.send(P1, torch.zeros(7, dtype=torch.int64))
            else:
                with ctx.step("select"):
                    ctx.shared((1,), N, lambda: torch.zeros(1))

    with pytest.raises(
        PeerError, match=r"select: P2 sent .* instead of \[\(torch.uint8, \(7,\)\)\]"
    ):
        run_parties(dict.fromkeys(ROLES, walk))


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        ([0] * 3, r"layer/activate: P1 sent .* instead of \[\(torch.uint8, \(1,\)\), .*\]"),
        ([255], "layer/activate: P1 sent bits that no number has"),
    ],
)
def test_a_share_that_is_opened_is_checked(sent: list[int], said: str) -> None:
    """Of wrong size, and with more bits than its numbers have; a step that fails has ended."""
    x = torch.zeros(1, dtype=torch.int64)
    contexts = []

    def walk(party: MemoryParty) -> None:
        ctx = Context(party, 5, FssOptions())
        with party.phase("prepare"):
            ctx.establish()
        with party.phase("offline"):
            ctx.begin_offline()
            activate(ctx, x if party.role == P2 else ctx.nothing((1,)), GELU)
        ctx.begin_online()
        with party.phase("online"):
            if party.role == P1:
                party.send(P0, *[torch.tensor(sent, dtype=torch.uint8)] * 2)
            if party.role == P0:
                contexts.append(ctx)
                with ctx.step("layer"):
                    activate(ctx, x, GELU)

    with pytest.raises(PeerError, match=said):
        run_parties(dict.fromkeys(ROLES, walk))
    assert contexts[0]._step == ""


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"ring_bits": 39}, "ring_bits must be from 40 to 64, got 39"),
        ({"key_store": "disk"}, "store_dir must name a folder"),
        ({"store_dir": "/tmp"}, "store_dir must name a folder"),
    ],
)
def test_options_that_contradict_each_other(keys: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        FssOptions(**keys)  # type: ignore[arg-type]
