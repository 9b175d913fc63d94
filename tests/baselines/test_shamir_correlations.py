"""Correlations of Shamir shares: what all parties hold after `preprocess`, and what of it how many know.

Each is hidden from any t parties by its degree, and what is opened to make it by a sharing of zero of the
degree that is opened.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, islice

import pytest
import torch
from torch import Tensor

from baselines.shamir.context import BITS, OPERATIONS, Context, Needs, Triple
from baselines.shamir.cost import Cost, opening
from baselines.shamir.group import Group
from baselines.shamir.options import ShamirOptions
from baselines.shamir.preprocessing import _LOWER, _UPPER, _Parties, preprocess
from protocols.arith import field61
from protocols.errors import PeerError
from protocols.in_process_party import MemoryParty, run_parties
from tests.baselines.test_shamir import GROUPS, rank

ALL = [*GROUPS, Group(5, 1, False), Group(4, 1, True)]
PARTIES = [group for group in ALL if not group.dealt]
SIZE = torch.Size((3,))
NEEDS = Needs(7, [(3, 5), (2, 16)], 2, [Triple("times", SIZE, SIZE)])


@dataclass
class Made:
    """Rows of all parties: of each stock (n, rows, count), of each opened vector (n, count)."""

    doubles: Tensor
    truncations: Tensor
    comparisons: Tensor
    triples: Tensor
    opened: list[Tensor]


@pytest.fixture
def made(group: Group, monkeypatch: pytest.MonkeyPatch) -> Made:
    """What NEEDS makes, by a walk of all roles."""
    opened: dict[int, list[Tensor]] = {i: [] for i in range(group.n)}
    own = Context.open

    def listen(ctx: Context, shares: Tensor, *then: object) -> Tensor:
        opened[ctx.index].append(shares)
        return own(ctx, shares, *then)  # type: ignore[arg-type]

    monkeypatch.setattr(Context, "open", listen)

    def walk(party: MemoryParty) -> list[Tensor]:
        ctx = Context(party, group, None)
        with party.phase("prepare"):
            ctx.establish()
        with party.phase("offline"):
            ctx.begin_offline(0)
            ctx.needs = NEEDS
            preprocess(ctx)
        stocks = [stock.columns for stock in (ctx.doubles, ctx.truncations, ctx.comparisons)]
        return [*stocks, torch.stack(ctx.triples[0]) if group.dealt else torch.empty(0)]

    found = run_parties(dict.fromkeys(group.roles, walk))
    held = zip(*(found[role] for role in group.parties), strict=True)
    doubles, truncations, comparisons, triples = (torch.stack(rows) for rows in held)
    told = [torch.stack(rows) for rows in zip(*opened.values(), strict=True)]
    return Made(doubles, truncations, comparisons, triples, told)


def at(shares: Tensor, parties: Sequence[int], point: int = 0) -> Tensor:
    """The value at `point` of the polynomials through these parties' shares, (n, …) → (…)."""
    rows = shares[list(parties)].reshape(len(parties), -1)
    weights = field61.lagrange([i + 1 for i in parties], [point])
    return field61.combine(weights, rows)[0].reshape(shares.shape[1:])


def secret(shares: Tensor, degree: int) -> Tensor:
    """The secrets of polynomials of exactly this degree: all subsets of one party more agree, and none of
    fewer says anything."""
    n = len(shares)
    right = at(shares, range(degree + 1))
    for parties in islice(combinations(range(n), degree + 1), 60):
        assert torch.equal(at(shares, parties), right)
        assert not (at(shares, parties[1:]) == right).any()
    for j in range(degree + 1, n):
        assert torch.equal(at(shares, range(degree + 1), j + 1), shares[j])
    return right


def sharing_of_zero(shares: Tensor, degree: int) -> bool:
    """Whether the polynomials vanish at 0, are of exactly this degree, and have a linear coefficient."""
    if at(shares, range(degree + 1)).any():
        return False
    # Divided by their points, the shares are of one degree less, and the linear coefficient is at 0.
    points = torch.tensor([pow(i + 1, -1, field61.P) for i in range(len(shares))])
    lower = field61.mul(shares.reshape(len(shares), -1), points[:, None])
    return bool(secret(lower, degree - 1).all())


@pytest.mark.parametrize("group", ALL, ids=str)
def test_doubles(group: Group, made: Made) -> None:
    low, high = made.doubles.unbind(1)
    assert torch.equal(secret(low, group.t), secret(high, group.degree))
    if group.majority:
        assert sharing_of_zero(field61.sub(high, low), 2 * group.t)


@pytest.mark.parametrize("group", ALL, ids=str)
def test_truncations(group: Group, made: Made) -> None:
    mask, low, top = made.truncations.unbind(1)
    shifts = torch.tensor([bits for count, bits in NEEDS.truncations for _ in range(count)])
    r = secret(mask, group.degree)
    assert torch.equal(secret(low, group.t), r >> shifts)
    assert torch.equal(secret(top, group.t), r >> 60)


@pytest.mark.parametrize("group", ALL, ids=str)
def test_comparisons(group: Group, made: Made) -> None:
    known = secret(made.comparisons, group.t)
    bits, pairs = known[:BITS], known[BITS:]
    assert set(bits.flatten().tolist()) == {0, 1}
    assert torch.equal(pairs, bits[_UPPER] * bits[_LOWER])


@pytest.mark.parametrize("group", [group for group in ALL if group.dealt], ids=str)
def test_triples(group: Group, made: Made) -> None:
    a, b, ab = secret(made.triples, group.t)
    assert torch.equal(ab, OPERATIONS["times"](a, b))


@pytest.mark.parametrize("group", PARTIES, ids=str)
def test_squares_and_products_are_opened_under_a_sharing_of_zero(group: Group, made: Made) -> None:
    """A king would else interpolate the coefficients of two sharings' product."""
    _, squares, products = made.opened
    bits = made.comparisons[:, :BITS]
    u = secret(squares, group.degree)
    roots = field61.mul(u, field61.inverse_root(u)).reshape(BITS, -1)  # of each, one of two
    signs = field61.sub(field61.mul(bits, 2), 1)
    r = field61.mul(signs, roots).reshape(group.n, -1)
    assert sharing_of_zero(field61.sub(squares, field61.mul(r, r)), 2 * group.t)
    bare = field61.mul(bits[:, _UPPER], bits[:, _LOWER]).reshape(group.n, -1)
    secret(field61.sub(products, bare), group.degree)


@pytest.mark.parametrize("group", PARTIES, ids=str)
def test_what_is_extracted_is_as_random_as_what_the_others_dealt(group: Group) -> None:
    """n − t sharings from n: whichever t dealers are known, the others' dealings map onto them."""

    def walk(party: MemoryParty) -> list[list[int]]:
        matrix: list[list[int]] = _Parties(Context(party, group, None))._extract.tolist()
        return matrix

    (rows, *others) = run_parties(dict.fromkeys(group.roles, walk)).values()
    assert len(rows) == group.n - group.t
    assert all(rows == other for other in others)
    for columns in islice(combinations(range(group.n), group.n - group.t), 60):
        assert rank([[row[j] for j in columns] for row in rows]) == len(rows)


@pytest.mark.parametrize("group", PARTIES[:1], ids=str)
def test_a_root_of_zero_makes_no_bit(group: Group, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(field61, "inverse_root", torch.zeros_like)

    def walk(party: MemoryParty) -> None:
        ctx = Context(party, group, None)
        with party.phase("prepare"):
            ctx.establish()
        with party.phase("offline"):
            ctx.begin_offline(0)
            ctx.needs = Needs(comparisons=1)
            preprocess(ctx)

    with pytest.raises(PeerError, match="comparisons: a root that makes a bit is 0"):
        run_parties(dict.fromkeys(group.roles, walk))


@pytest.mark.parametrize("n", [3, 5, 7, 10])
def test_elements_that_a_party_sends(n: int) -> None:
    """The closed forms of Damgård and Nielsen, less what is drawn from keys."""
    group, count = ShamirOptions(n).group, 2520  # divides by n and n − t
    t = group.t

    def sent(cost: Cost, offline: bool = True) -> float:
        phase = cost.offline(group) if offline else cost.phase(group)
        return sum(phase.payload_bytes.values()) / (8 * n * count)

    opened = (2 * t + n - 1) / n
    zero = max(n - 1 - 2 * t, 0) / (n - t)
    double = max(n - t - 2, 0) / (n - t) + zero
    bit = double + opened
    assert sent(opening(count), offline=False) == pytest.approx(opened)
    assert opening(count).phase(group).hops == 2
    assert sent(Cost(doubles=count)) == pytest.approx(double)
    assert sent(Cost(truncations=count)) == pytest.approx(61 * bit + zero)
    assert sent(Cost(comparisons=count)) == pytest.approx(61 * bit + 31 * bit)
