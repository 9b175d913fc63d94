"""Shamir shares: what t parties see, what t + 1 know, who may take part, and what a liar is told."""

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from baselines.shamir import dealing
from baselines.shamir.compare import below
from baselines.shamir.context import Context
from baselines.shamir.dealing import Sharing, deal, give, receive
from baselines.shamir.functions import FUNCTIONS, SILU_FUNCTION, Function
from baselines.shamir.group import Group
from baselines.shamir.norm import norm
from baselines.shamir.openings import Running, drive
from baselines.shamir.options import ShamirOptions
from baselines.shamir.preprocessing import preprocess
from baselines.shamir.share import Share, Term, decode, encode
from baselines.shamir.system import Shamir
from baselines.shamir.truncate import truncate
from protocols.arith import field61
from protocols.arith.field61 import P
from protocols.errors import OutOfRange, PeerError, Unsupported
from protocols.expected_answer import answer
from protocols.in_process_party import MemoryParty, run_parties
from protocols.inputs import prompt_tokens
from protocols.party import ALL_ROLES, P0, P1, Role
from protocols.shares.approximations import GELU, SILU, Piecewise
from protocols.workload import (
    Argmax,
    Generation,
    Layer,
    Linear,
    Nonlinear,
    Sampling,
    UserInput,
    Workload,
)
from tests.play import FAMILIES, SEED, declared, play, relative, small

GROUPS = [Group(3, 1, False), Group(4, 1, False), Group(10, 4, False), Group(5, 3, True)]
SOME = [ShamirOptions(5), ShamirOptions(3, 2, dealer=True)]


def on_shares(
    group: Group, secrets: Tensor, protocol: Callable[[Context, Tensor], Running[Share]]
) -> dict[Role, Tensor]:
    """What each party has of a protocol's answer, on shares of P1's residues."""

    def walk(party: MemoryParty) -> Tensor | None:
        ctx = Context(party, group, None)
        with party.phase("prepare"):
            ctx.establish()
        with party.phase("offline"):
            ctx.begin_offline(0)
            drive(ctx, protocol(ctx, ctx.without_data(*secrets.shape)))
            preprocess(ctx)
        ctx.begin_online()
        with party.phase("online"):
            if ctx.deals:
                return None
            parts = [Sharing(secrets.numel(), group.t)]
            if party.role == P1:
                (x,) = deal(ctx, parts, [secrets.reshape(-1)])
            else:
                (x,) = receive(ctx, 1, parts)
            answer = drive(ctx, protocol(ctx, x.reshape(secrets.shape))).value
        ctx.end_online()
        return answer

    found = run_parties(dict.fromkeys(group.roles, walk))
    return {role: shares for role, shares in found.items() if shares is not None}


def known_to(shares: dict[Role, Tensor], parties: Sequence[int]) -> Tensor:
    """The secret, from these parties' shares, if it is of a degree below their number."""
    rows = torch.stack([shares[ALL_ROLES[i]].reshape(-1) for i in parties])
    return field61.combine(field61.lagrange([i + 1 for i in parties], [0]), rows)[0]


async def _given(ctx: Context, x: Tensor) -> Share:
    return Share(x, 0)


@pytest.mark.parametrize("group", GROUPS, ids=str)
def test_any_t_and_one_agree_and_t_do_not(group: Group, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where they are dealt block by block."""
    monkeypatch.setattr(dealing, "BLOCK", 3)
    secrets = torch.tensor([0, 1, P - 1, 12345])
    shares = on_shares(group, secrets, _given)
    for parties in list(combinations(range(group.n), group.t + 1))[:30]:
        assert torch.equal(known_to(shares, parties), secrets)
        assert not (known_to(shares, parties[1:]) == secrets).any()


@pytest.mark.parametrize("group", GROUPS, ids=str)
def test_an_opening_with_t_shares_gives_nothing(group: Group) -> None:
    """Whatever the secret and whoever deals: any t of the others have independent uniform shares. The map
    from drawn values to theirs is a bijection, or, of a higher degree, onto."""
    kinds = [Sharing(1, group.t), Sharing(1, group.t, chosen=False)]
    kinds += [Sharing(1, group.degree)] if group.majority else []
    for owner in range(group.n + group.dealt):
        for kind in kinds:
            order, drawn = group.after(owner), kind.drawn
            rest = dealing._completion(group, owner, drawn, kind.chosen)[:, int(kind.chosen) :]
            rows = {j: [int(i == k) for k in range(drawn)] for i, j in enumerate(order[:drawn])}
            rows |= dict(zip(order[drawn:], rest.tolist(), strict=False))
            for parties in list(combinations(order, group.t))[:40]:
                assert rank([rows[j] for j in parties]) == group.t


def rank(rows: list[list[int]]) -> int:
    """Modulo p, by elimination."""
    found, rows = 0, [list(row) for row in rows]
    for column in range(len(rows[0])):
        pivot = next((i for i in range(found, len(rows)) if rows[i][column]), None)
        if pivot is None:
            continue
        rows[found], rows[pivot] = rows[pivot], rows[found]
        inverse = pow(rows[found][column], -1, P)
        for i in range(found + 1, len(rows)):
            factor = rows[i][column] * inverse
            rows[i] = [(a - factor * b) % P for a, b in zip(rows[i], rows[found], strict=True)]
        found += 1
    return found


NUMBERS = st.lists(
    st.sampled_from([0, 1, -1, (1 << 58) - 1, -(1 << 58)]) | st.integers(-(1 << 58), 1 << 58),
    min_size=1,
    max_size=20,
)


@settings(max_examples=8, deadline=None)
@given(values=NUMBERS, bits=st.integers(1, 58), group=st.sampled_from(GROUPS[:2] + GROUPS[3:]))
def test_truncation(values: list[int], bits: int, group: Group) -> None:
    """Off by one unit at most."""
    x = field61.from_signed(torch.tensor(values))
    shares = on_shares(group, x, lambda ctx, x: truncate(ctx, Term(x, bits), bits))
    got = field61.to_signed(known_to(shares, range(group.t + 1))).tolist()
    assert all(abs(a * 2**bits - b) <= 2**bits for a, b in zip(got, values, strict=True))


@settings(max_examples=8, deadline=None)
@given(values=NUMBERS, bounds=NUMBERS, group=st.sampled_from(GROUPS[:2] + GROUPS[3:]))
def test_comparison(values: list[int], bounds: list[int], group: Group) -> None:
    """With all thresholds at once, and equal ones among them."""
    thresholds = [*bounds, values[0]]
    x = field61.from_signed(torch.tensor(values))
    shares = on_shares(group, x, lambda ctx, x: below(ctx, Share(x, 0), thresholds))
    got = known_to(shares, range(group.t + 1)).reshape(len(thresholds), -1)
    assert got.tolist() == [[int(v < t) for v in values] for t in thresholds]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((10, 5), r"threshold must be 1 to 4 for 10 parties without a dealer.*dealer=true"),
        ((2,), "parties must be 3 to 16, got 2"),
        ((16, None, True), "parties must be 2 to 15, got 16"),
        ((5, 5, True), "threshold must be 1 to parties - 1 = 4, got 5"),
        ((3, 0), "threshold must be 1 to 1"),
    ],
)
def test_what_cannot_be_is_refused(options: tuple[Any, ...], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        ShamirOptions(*options)


def test_shamir_cannot_sample() -> None:
    user = UserInput(sampling=Sampling(temperature=1.0))
    with pytest.raises(Unsupported, match="sample"):
        Shamir.check(Generation(small("gpt2"), 3, 1), ShamirOptions(), user)


MANY: list[tuple[ShamirOptions, Workload]] = [
    (ShamirOptions(10), Argmax(33)),
    (ShamirOptions(10, 5, dealer=True), Argmax(9)),
    (ShamirOptions(16), Argmax(2)),
    (ShamirOptions(4, 1, dealer=True), Nonlinear("layernorm", (3, 40))),
    *[(options, Layer(small("llama", 2), 2, 5)) for options in SOME],
    (ShamirOptions(2, 1, dealer=True), Layer(small("bert"), 2, 2)),
]


@pytest.mark.parametrize(("options", "work"), MANY, ids=str)
def test_many_parties_are_right_at_the_declared_cost(
    options: ShamirOptions, work: Workload
) -> None:
    played = play(Shamir, work, options)
    assert played.cost == declared(Shamir, work, options)
    right = Shamir.plaintext(work, SEED, options)
    for (got,) in played.answers:
        assert got == right if isinstance(work, Argmax) else relative(got, right) < 3e-4


@pytest.mark.parametrize("family", FAMILIES)
def test_layers_are_close_to_exact_plaintext(family: Any) -> None:
    workload = Layer(small(family), 2, 9)
    (got,) = play(Shamir, workload, evaluations=1).answers[0]
    assert relative(got, answer(workload, SEED)) <= 1e-2


@pytest.mark.parametrize("options", SOME, ids=str)
def test_models_and_the_costs_of_sharing_them(options: ShamirOptions) -> None:
    """The user alone gets tokens; the hops of a model's masked weights are counted."""
    work = Generation(small("gpt2"), 2, 1, tie_layers=True)
    played = play(Shamir, work, options, evaluations=1)
    assert played.cost == declared(Shamir, work, options)
    tokens = prompt_tokens(work.spec, work.prompt_len, SEED)
    right = Shamir.plain_model(work, SEED, options).step(tokens)
    assert int(played.answers[0][0][0]) == int(right.argmax())
    (parts,) = played.parts[0]
    assert [len(parts[role]) for role in options.group.parties[:3]] == [1, 2, 1]


def test_hidden_states_of_bert_reach_the_user_alone() -> None:
    words = (3, 199, 0)
    work = Generation(small("bert"), len(words), 0, tie_layers=True)
    played = play(Shamir, work, evaluations=1, user=UserInput(words))
    right = Shamir.plain_model(work, SEED, ShamirOptions()).encode(words)
    assert relative(played.answers[0][0], right) <= 1e-3
    assert played.parts[0][0][P0] == ()


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Tensor]]:
    """Every vector of residues that is sent, with its phase."""
    found: list[tuple[str, Tensor]] = []
    send = MemoryParty.send

    def listen(party: MemoryParty, to: Role, *tensors: Tensor) -> None:
        found.extend((str(party._phase), t.clone()) for t in tensors if t.dtype == torch.int64)
        send(party, to, *tensors)

    monkeypatch.setattr(MemoryParty, "send", listen)
    return found


def uneven(words: Tensor) -> bool:
    """Whether one of the 61 bits, or its difference from the next, is not as good as fair coins, by seven
    standard deviations."""
    both = (words, words ^ (words >> 1))
    ones = torch.stack([(w >> i & 1).double().mean() for w in both for i in range(60)])
    return bool(((ones - 0.5).abs() > 7 * 0.5 / len(words) ** 0.5).any())


LOOKED_AT: list[tuple[ShamirOptions, Workload]] = [
    (ShamirOptions(), Nonlinear("gelu", (600,))),
    (ShamirOptions(4, 1, dealer=True), Nonlinear("softmax", (60, 9))),
    (ShamirOptions(3, 2, dealer=True), Layer(small("bert"), 8, 8)),
]


@pytest.mark.parametrize(("options", "work"), LOOKED_AT, ids=str)
def test_what_travels_is_uniform_and_fresh(
    options: ShamirOptions, work: Workload, sent: list[tuple[str, Tensor]]
) -> None:
    """Twice the same data: what kings hear and tell, and what is dealt, says nothing of it."""
    play(Shamir, work, options, key_seed=None)
    long = [vector for _, vector in sent if len(vector) >= 100]
    assert len(long) > 20
    assert not any(map(uneven, long))
    times = Counter(tuple(vector.tolist()) for vector in long)
    assert max(times.values()) <= options.group.n - 1  # a king tells each of the others the same


@pytest.mark.parametrize("kind", ["doubles", "truncations", "comparisons"])
def test_a_forgotten_mask_is_seen(
    kind: str, monkeypatch: pytest.MonkeyPatch, sent: list[tuple[str, Tensor]]
) -> None:
    """The test above fails where masks of one kind are zero."""
    take = getattr(Context, f"take_{kind}")

    def forget(ctx: Context, *arguments: int) -> Tensor:
        made: Tensor = take(ctx, *arguments)
        return made if made.is_meta else made * 0

    monkeypatch.setattr(Context, f"take_{kind}", forget)
    play(Shamir, Nonlinear("gelu", (600,)), evaluations=1)
    assert any(uneven(vector) for name, vector in sent if name == "online" and len(vector) >= 100)


LIES: dict[str, Callable[[Tensor], Tensor]] = {
    "length": lambda t: t[:-1],
    "type": lambda t: t.to(torch.int32),
    "range": lambda t: t.clone().fill_(P),
    "shape": lambda t: t[None],
}


# The phase, whether the step is the answer's, what is run, the liar, and what the error says.
LIARS: dict[str, tuple[str, bool, Workload, Role, str]] = {
    "prepare": ("prepare", False, Linear(2, 10, 10), P0, "linear: weight"),
    "offline": ("offline", False, Nonlinear("comparison", (20,)), "P3", "doubles: sharing"),
    "input": ("input", False, Nonlinear("comparison", (20,)), P1, "input"),
    "online": ("online", False, Nonlinear("comparison", (20,)), "P3", "comparison: shares"),
    "answer": ("online", True, Argmax(20), "P6", "answer: shares"),
}


@pytest.fixture
def lying(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Callable[[Tensor], Tensor]], Workload]:
    """One role of seven sends wrong residues, all it sends in its place."""

    def begin(place: str, lie: Callable[[Tensor], Tensor]) -> Workload:
        phase, last, work, liar, _ = LIARS[place]
        send = MemoryParty.send

        def wrong(party: MemoryParty, to: Role, *tensors: Tensor) -> None:
            now = party.role == liar and party._phase == phase
            if now and (not last or party._recorder.label == "answer"):
                tensors = tuple(lie(t) if t.dtype == torch.int64 else t for t in tensors)
            send(party, to, *tensors)

        monkeypatch.setattr(MemoryParty, "send", wrong)
        return work

    return begin


@pytest.mark.parametrize("place", LIARS)
@pytest.mark.parametrize("lie", LIES)
def test_who_lies_is_named(place: str, lie: str, lying: Any) -> None:
    """And the step in which it lies."""
    work, (*_, liar, said) = lying(place, LIES[lie]), LIARS[place]
    said = said.replace("shares", "(shares|opened values)")
    with pytest.raises(PeerError, match=rf"^{said} of {liar} to P\d: "):
        play(Shamir, work, ShamirOptions(7))


def test_an_index_that_cannot_be_is_refused(lying: Any) -> None:
    """A wrong value among the shares of the answer."""
    work = lying("answer", lambda t: (t + 12345) % P)
    with pytest.raises(PeerError, match=r"^answer: index out of range"):
        play(Shamir, work, ShamirOptions(7))


@pytest.mark.parametrize("options", [*SOME[:1], ShamirOptions(4, 2, dealer=True)], ids=str)
def test_a_wrong_share_of_an_answer_is_noticed(options: ShamirOptions) -> None:
    """Whichever party's it is, in one element; all n get to the harness."""
    work = Nonlinear("comparison", (5,))
    played = play(Shamir, work, options, evaluations=1)
    ((parts,),), last = played.parts, options.group.parties[-1]
    said = f"^answer: the shares of P0 to {last} lie on no polynomial of degree 2$"
    for liar in options.group.parties:
        (wrong,) = (part.clone() for part in parts[liar])
        wrong[3] = (wrong[3] + 1) % P
        with pytest.raises(PeerError, match=said):
            Shamir.reveal(parts | {liar: (wrong,)}, work, options)


def test_a_king_that_tells_parties_different_values_is_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By the shares of the answer."""
    send = MemoryParty.send

    def wrong(party: MemoryParty, to: Role, *tensors: Tensor) -> None:
        if (party.role, to, party._phase) == ("P2", "P3", "online"):
            tensors = tuple((t + 1) % P for t in tensors)
        send(party, to, *tensors)

    monkeypatch.setattr(MemoryParty, "send", wrong)
    with pytest.raises(PeerError, match=r"^answer: the shares of P0 to P3 lie on no polynomial"):
        play(Shamir, Nonlinear("comparison", (20,)), ShamirOptions(4))


@pytest.mark.parametrize("value", [float("nan"), float("-inf"), 2.0**44])
def test_what_cannot_be_shared_is_refused(value: float, sent: list[tuple[str, Tensor]]) -> None:
    """Before anything of it is sent."""

    def walk(party: MemoryParty) -> None:
        ctx = Context(party, GROUPS[0], None)
        with party.phase("prepare"):
            ctx.establish()
        with party.phase("input"), ctx.step("given"):
            own = torch.tensor([1.0, value]) if party.role == P1 else None
            give(ctx, "tensor", 1, own, (2,), 16)

    with pytest.raises(OutOfRange, match=r"^given: tensor has (nan|inf|1.76e\+13), .* 2\^44$"):
        run_parties(dict.fromkeys(GROUPS[0].roles, walk))
    assert not sent


def normed(x: Tensor) -> Tensor:
    """By the protocol, of rows of whole numbers at FRAC."""
    secrets = field61.from_signed(x)
    shares = on_shares(GROUPS[0], secrets, lambda ctx, x: norm(ctx, Share(x), 1e-12))
    return decode(known_to(shares, range(2))).reshape(x.shape)


def test_norms_at_the_corners_of_their_bounds() -> None:
    """Means near 2^8 at deviations of 2^-8, deviations near 2^7."""
    d, coins = 768, torch.Generator().manual_seed(SEED)
    unit = torch.randn(2, d, generator=coins, dtype=torch.float64)
    unit = (unit - unit.mean(-1, keepdim=True)) / unit.std(-1, keepdim=True)
    x = torch.round((unit * torch.tensor([[2.0**-8], [127]]) + torch.tensor([[255], [-9]])) * 2**16)
    right = torch.nn.functional.layer_norm(x * 2.0**-16, (d,), eps=1e-12)
    assert float((normed(x.long()) - right).abs().max()) < 1.5e-3


def test_norms_of_nearly_equal_entries_are_too_small_and_not_wrapped() -> None:
    """Deviations of 2^-12: the inverse is about twice that of 2^-9."""
    units = torch.tensor([16, -16, 16, -16]).repeat(80, 1)
    y = normed(units) * units.sign()
    assert 0.2 < float(y.min()) <= float(y.max()) < 0.3


@pytest.mark.parametrize(
    ("function", "plain"),
    [(FUNCTIONS["gelu"], GELU), (SILU_FUNCTION, SILU)],
    ids=["gelu", "silu"],
)
def test_functions_change_pieces_where_they_say(function: Function, plain: Piecewise) -> None:
    """Also at x = 3, which lies below the bound of 3 and one unit of finer numbers."""
    x = torch.tensor([-8.0, -4.0, -3.0, 3.0, 8.0])
    shares = on_shares(GROUPS[0], encode(x), lambda ctx, x: function.run(ctx, Share(x)))
    got = decode(known_to(shares, range(2)))
    assert float((got - plain(x.double())).abs().max()) < 3e-4


def test_declared_memory_grows_with_what_is_sent() -> None:
    """Shares of the largest matrix for all that draw nothing."""
    work = Linear(1, 1000, 1000)
    few, many = (Shamir.needs(work, ShamirOptions(n, 1)) for n in (3, 13))
    assert many[P0].memory_bytes - few[P0].memory_bytes >= 8 * 10 * 10**6
    dealt = Shamir.needs(work, ShamirOptions(13, 7, dealer=True))["P13"].memory_bytes
    assert dealt - 480e6 >= 8 * (13 - 7 + 1) * 10**6


def test_evaluations_and_runs_have_masks_of_their_own() -> None:
    work = Nonlinear("gelu", (100,))
    runs = [play(Shamir, work, key_seed=key_seed) for key_seed in (SEED, SEED, None)]
    shares = [part[P0][0] for run in runs for (part,) in run.parts]
    assert torch.equal(shares[0], shares[2])
    for i, j in ((0, 1), (0, 4), (4, 5)):
        assert not (shares[i] == shares[j]).any()
