"""PermLLM's offline pass in batches: the same answers and bytes, and material that is used once."""

import os
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import torch

from protocols.arith import ring
from protocols.arith.prg import Prg
from protocols.errors import Unsupported
from protocols.in_process_party import MemoryParty, run_parties
from protocols.on_disk import OnDisk
from protocols.party import P0, P1, P2, ROLES, Party, Role
from protocols.permllm import material_ledger
from protocols.permllm.context import Context
from protocols.permllm.domain import Ring64
from protocols.permllm.masked_value import Masked
from protocols.permllm.material_ledger import Ledger
from protocols.permllm.offline_batches import MATERIAL_BYTES, batches, step_bytes
from protocols.permllm.options import PermLLMOptions
from protocols.permllm.permuted_functions import Revealed
from protocols.permllm.system import PermLLM
from protocols.workload import Generation, Layer, Linear, Workload, steps
from tests.play import SEED, declared, play, small

GENERATING = ("gpt2", "llama", "glm")


@pytest.mark.parametrize("family", GENERATING)
def test_every_batch_gives_the_same_tokens_at_the_declared_cost(family: str) -> None:
    """Bytes do not depend on the batch, hops are two a walk; over two evaluations."""
    work = Generation(small(family), 5, 8)  # type: ignore[arg-type]
    tokens, sent = [], []
    for size in (1, 3, None):
        options = PermLLMOptions(offline_batch=size)
        played = play(PermLLM, work, options)
        assert played.cost == declared(PermLLM, work, options)
        tokens.append([[int(step[0]) for step in answers] for answers in played.answers])
        sent.append(played.cost["offline"].payload_bytes)
    assert tokens[0] == tokens[1] == tokens[2]
    assert sent[0] == sent[1] == sent[2]
    walks = [len(batches(work, PermLLMOptions(offline_batch=size))) for size in (1, 3, None)]
    assert walks == [8, 4, 2]


def test_the_default_batch_shrinks_where_material_is_large() -> None:
    """At most 32, and no more than has room: with long contexts fewer."""
    spec = replace(small("glm"), n_layers=28, d_model=4096, n_heads=32, d_ff=16384, vocab=130528)
    sizes = [max(map(len, batches(Generation(spec, n, 65), PermLLMOptions()))) for n in (8, 4000)]
    assert sizes[0] == 32
    assert 1 <= sizes[1] < 32
    assert sizes[1] * step_bytes(spec, 4065) <= MATERIAL_BYTES


def walked(work: Workload, options: PermLLMOptions, then: list[tuple[str, int]]) -> None:
    """Prepare, and the given acts ("offline", "input", "online") of all roles."""

    def walk(party: MemoryParty) -> None:
        role = PermLLM(party, work, SEED, options)
        with party.phase("prepare"):
            role.prepare()
        acts = {"offline": role.offline, "input": role.share_input, "online": role.online}
        for phase, step in then:
            with party.phase(phase):  # type: ignore[arg-type]
                acts[phase](step)
        role.close()

    run_parties(dict.fromkeys(ROLES, walk), timeout_s=20)


@pytest.mark.parametrize(
    ("then", "what"),
    [
        ([("offline", 0), ("online", 0), ("online", 0)], "step 0 is burnt"),
        (
            [("offline", 0), ("online", 0), ("offline", 1), ("online", 1), ("online", 1)],
            "1 is burnt",
        ),
        ([("offline", 0), ("online", 0), ("online", 1)], "step 1 has no material"),
        # An answer that ends early: its left-overs are no good for the next one.
        ([("offline", 0), ("online", 0), ("offline", 1), ("offline", 0), ("online", 2)], "step 2"),
        ([("offline", 0), ("online", 0), ("offline", 1), ("offline", 1)], "dealt before"),
    ],
)
def test_material_is_used_once_and_never_later(then: list[tuple[str, int]], what: str) -> None:
    work = Generation(small("gpt2"), 3, 5)
    with pytest.raises(RuntimeError, match=what):
        walked(work, PermLLMOptions(offline_batch=3), then)


def test_an_input_is_shared_once() -> None:
    """A second x − λ under one λ would tell P0 the difference of two inputs."""
    with pytest.raises(RuntimeError, match=r"input .*has no material for step 0"):
        walked(Linear(1, 8, 8), PermLLMOptions(), [("offline", 0), ("input", 0), ("input", 0)])


def test_a_piece_of_material_is_gone_when_it_is_taken() -> None:
    ledger = Ledger()
    ledger.deal(range(2, 4))
    ledger.keep(2, "norm", 1, 2)
    ledger.burn(2)
    assert ledger.take(2, "norm") == (1, 2)
    with pytest.raises(RuntimeError, match="norm has no material for step 2"):
        ledger.take(2, "norm")
    ledger.keep(3, "norm", 3)
    ledger.begin()
    with pytest.raises(RuntimeError, match="no material"):
        ledger.take(3, "norm")


def drawn(seed: int | None) -> list[torch.Tensor]:
    """What P0 draws under one name in two evaluations of three steps each, and in one batch."""

    def walk(party: MemoryParty) -> list[torch.Tensor]:
        ctx = Context(party, seed, Ring64())
        with party.phase("prepare"):
            ctx.establish()
        found = []
        for batch in (range(1), range(1, 3), range(3, 4), range(1), range(1, 3)):
            ctx.begin_offline(batch)
            if party.role == P0:
                found.append(ctx.p0p2("x").int64(4))
                if len(batch) > 1:
                    found += [ctx.p0p2("y").int64(4) for _ in ctx.each_step()]
        return found

    return run_parties(dict.fromkeys(ROLES, walk))[P0]


def test_streams_differ_across_steps_evaluations_and_sessions() -> None:
    """Counters begin anew with every session: its keys must be fresh."""
    streams = [tuple(words.tolist()) for _ in range(2) for words in drawn(None)]
    assert len(set(streams)) == len(streams)
    assert all(torch.equal(a, b) for a, b in zip(drawn(1), drawn(1), strict=True))


WORKS: list[Workload] = [
    Linear(3, 70, 40),
    Layer(small("glm"), 2, 6),
    Generation(small("bert"), 4, 0),
    Generation(small("llama"), 3, 4, tie_layers=True),
]


@pytest.mark.parametrize("work", WORKS, ids=lambda work: type(work).__name__)
def test_wherever_masked_weights_and_material_lie_answers_and_costs_are_right(
    work: Workload, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At P1 or P2, in memory or on disk, where no name is left."""
    monkeypatch.setattr(material_ledger, "STORED_BYTES", 1)
    exact = play(PermLLM, work).answers[-1]
    rounded = play(PermLLM, work, PermLLMOptions(weight_bits=8)).answers[-1]
    disk = {"weights_store": "disk", "store_dir": str(tmp_path)}
    for options in (
        PermLLMOptions(mask_holder="dealer"),
        PermLLMOptions(**disk),  # type: ignore[arg-type]
        PermLLMOptions(mask_holder="dealer", **disk),  # type: ignore[arg-type]
        PermLLMOptions(mask_holder="dealer", weight_bits=8, **disk),  # type: ignore[arg-type]
        PermLLMOptions(material_store="disk", store_dir=str(tmp_path)),
    ):
        played = play(PermLLM, work, options)
        assert played.cost == declared(PermLLM, work, options)
        right = rounded if options.weight_bits == 8 else exact
        for got, want in zip(played.answers[-1], right, strict=True):
            assert torch.allclose(got, want, rtol=1e-3, atol=1e-3)
    assert list(tmp_path.iterdir()) == []


def test_the_dealer_that_holds_masked_weights_cannot_unmask_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All that P2 gets and all keys that it has do not give W: V comes from a key of P0 and P1."""
    got: dict[Role, list[torch.Tensor]] = {role: [] for role in ROLES}
    contexts: dict[Role, Context] = {}
    recv, establish = MemoryParty.recv, Context.establish

    def listen(party: MemoryParty, source: Role) -> tuple[torch.Tensor, ...]:
        tensors = recv(party, source)
        got[party.role] += [tensor.clone() for tensor in tensors]
        return tensors

    def note(ctx: Context) -> None:
        establish(ctx)
        contexts[ctx.role] = ctx

    monkeypatch.setattr(MemoryParty, "recv", listen)
    monkeypatch.setattr(Context, "establish", note)
    play(
        PermLLM,
        Linear(1, 64, 48),
        PermLLMOptions(mask_holder="dealer"),
        evaluations=1,
        key_seed=None,
    )
    assert contexts[P2]._p0p1 is None
    held = {role: {prg._key for prg in keys_of(ctx)} for role, ctx in contexts.items()}
    secret = held[P0] & held[P1]
    assert len(secret) == 1
    assert not secret & held[P2]
    messages = [bytes(t.numpy().tobytes()) for t in got[P2]]
    assert not any(key in message for key in secret for message in messages)
    (masked,) = (t for t in got[P2] if t.shape == (48, 64))
    assert float(masked.double().abs().mean()) > 2.0**60  # W alone is below 2^15


def test_the_key_of_masked_weights_follows_from_nothing_that_the_dealer_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two sessions in which the dealer has the same keys: P0 and P1 do not."""
    root, secrets = Prg.root, []
    fixed = lambda seed, name: Prg(bytes(16)) if name == "dealer" else root(seed, name)  # noqa: E731
    monkeypatch.setattr(Prg, "root", fixed)

    def walk(party: MemoryParty) -> Context:
        ctx = Context(party, None, Ring64(), P2)
        with party.phase("prepare"):
            ctx.establish()
        return ctx

    for _ in range(2):
        contexts = run_parties(dict.fromkeys(ROLES, walk))
        assert contexts[P2]._p0p1 is None
        secrets.append({contexts[role].weight_key("w") for role in (P0, P1)})
    assert [len(each) for each in secrets] == [1, 1]
    assert secrets[0] != secrets[1]


def keys_of(ctx: Context) -> list[Prg]:
    """All keys that a role has."""
    return [prg for prg in (ctx._p0p1, ctx._p0p2, ctx._p1p2, ctx._p2) if prg is not None]


def test_a_store_is_readable_by_its_owner_alone_and_gone_after_a_kill(tmp_path: Path) -> None:
    """A process that is killed leaves no file, and its space is free again."""
    code = (
        "import os, sys\n"
        "from protocols.on_disk import OnDisk\n"
        "memory = OnDisk(sys.argv[1], 0)(1 << 20)\n"
        "memory[:] = 7\n"
        "line = next(l for l in open('/proc/self/maps') if sys.argv[1] in l)\n"
        "inode = os.stat('/proc/self/map_files/' + line.split()[0]) if os.geteuid() == 0 else None\n"
        "print(oct(inode.st_mode & 0o777) if inode else '0o600', flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline().strip() == "0o600"
        assert list(tmp_path.iterdir()) == []
        os.kill(child.pid, signal.SIGKILL)
    assert list(tmp_path.iterdir()) == []


def test_a_store_without_room_says_so_before_it_is_used(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"[Nn]o space|too large"):
        OnDisk(str(tmp_path), 0)(1 << 60)


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"offline_batch": 0}, "offline_batch"),
        ({"weights_store": "disk"}, "store_dir"),
        ({"material_store": "disk"}, "store_dir"),
        ({"store_dir": "here"}, "store_dir"),
        ({"mask_holder": "dealer", "domain": "float32"}, "mask_holder"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, object], what: str) -> None:
    with pytest.raises(ValueError, match=what):
        PermLLMOptions(**options)  # type: ignore[arg-type]


def test_a_step_outside_the_plan_is_never_dealt() -> None:
    work = Generation(small("gpt2"), 3, 4)
    for size in (1, 2, 3, 5):
        flat = [s for b in batches(work, PermLLMOptions(offline_batch=size)) for s in b]
        assert flat == list(range(len(steps(work))))


def test_memory_grows_with_what_is_kept() -> None:
    """Distinct layers need more than 24 GB in memory, and fit with the masked weights on disk; a long
    prefill keeps material in every layer."""
    spec = replace(small("glm"), n_layers=28, d_model=4096, n_heads=32, d_ff=16384, vocab=130528)
    disk = PermLLMOptions(weights_store="disk", store_dir="/tmp")
    distinct = Generation(spec, 8, 9)

    def total(work: Workload, options: PermLLMOptions) -> float:
        needs = PermLLM.needs(work, options).values()
        return float(sum(need.memory_bytes for need in needs)) / 1e9

    tied = replace(distinct, new_tokens=33, tie_layers=True)
    assert 14 < total(tied, PermLLMOptions()) < 24
    assert total(distinct, PermLLMOptions()) > 60
    assert 14 < total(distinct, disk) < 24
    assert total(replace(tied, prompt_len=2000), PermLLMOptions()) > 60
    both = replace(disk, material_store="disk")
    assert total(replace(tied, prompt_len=512, new_tokens=1), both) < 24
    gpt2 = replace(small("gpt2"), n_layers=12, d_model=768, n_heads=12, d_ff=3072, vocab=50257)
    assert total(Generation(gpt2, 2048, 1), both) < 24 < total(Generation(gpt2, 2048, 1), disk)
    stored = PermLLM.needs(distinct, disk)[P1]
    assert (stored.folder, 49 < stored.disk_bytes / 1e9 < 60) == ("/tmp", True)
    at_dealer = PermLLM.needs(tied, PermLLMOptions(mask_holder="dealer"))
    assert at_dealer[P2].memory_bytes > 10e9 > at_dealer[P1].memory_bytes
    whole, half = (PermLLM.needs(distinct, replace(disk, weight_bits=b))[P0] for b in (16, 8))
    assert 5.9 < (whole.memory_bytes - half.memory_bytes) / 1e9 < 7.5  # a byte a weight


def test_a_store_without_room_is_refused_before_anything_is_sent(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its holder is built in no phase, without a message; the others do not look."""
    work = Layer(small("glm"), 1, 3)

    def build(role: Role, folder: Path) -> None:
        options = PermLLMOptions(weights_store="disk", store_dir=str(folder))
        PermLLM(cast(Party, SimpleNamespace(role=role)), work, 1, options)

    with pytest.raises(Unsupported, match="is no folder"):
        build(P1, tmp_path / "none")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(Unsupported, match="GB are needed"):
        build(P1, tmp_path)
    build(P0, tmp_path)
    build(P2, tmp_path)


@pytest.mark.parametrize("family", GENERATING)
@pytest.mark.parametrize("size", [1, 3])
def test_offline_ahead_changes_neither_tokens_nor_counts(family: str, size: int) -> None:
    """The next batch is dealt by a second thread while this one's tokens are made: what that thread
    sends counts in the offline phase that it is of, bytes, messages and hops."""
    work = Generation(small(family), 4, 8)  # type: ignore[arg-type]
    options = PermLLMOptions(offline_batch=size)
    alone = play(PermLLM, work, options)
    ahead = play(PermLLM, work, replace(options, offline_ahead=True))
    assert ahead.cost == alone.cost == declared(PermLLM, work, options)
    for one, other in zip(ahead.answers, alone.answers, strict=True):
        assert [int(step[0]) for step in one] == [int(step[0]) for step in other]


def test_only_the_offline_pass_leaves_cores_to_the_other_party(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On one core it shows nothing: there every phase has one thread."""
    used: dict[str, set[int]] = {"begin_offline": set(), "begin_online": set()}

    def noted(name: str) -> None:
        begin = getattr(Context, name)

        def note(ctx: Context, steps: object) -> None:
            used[name].add(ring.threads())
            begin(ctx, steps)

        monkeypatch.setattr(Context, name, note)

    monkeypatch.setattr(PermLLM, "offline_threads", 1)
    for name in used:
        noted(name)
    acts = [(phase, step) for step in range(2) for phase in ("offline", "online")]
    walked(Generation(small("gpt2"), 3, 2), PermLLMOptions(), acts)
    with ThreadPoolExecutor(1) as pool:  # a thread of its own, as each party has
        assert used == {"begin_offline": {1}, "begin_online": {pool.submit(ring.threads).result()}}


@pytest.mark.parametrize("last", [0, 1, 2, 4])
def test_an_answer_may_end_while_the_next_batch_is_dealt(last: int) -> None:
    """What runs ahead is waited for and discarded; the next evaluation begins afresh."""
    options = PermLLMOptions(offline_batch=2, offline_ahead=True)
    one = [(phase, step) for step in range(last + 1) for phase in ("offline", "online")]
    walked(Generation(small("gpt2"), 3, 7), options, [*one, *one])


def test_what_fails_ahead_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    begin = Context.begin_offline

    def fails(ctx: Context, batch: range) -> None:
        if batch.start == 3:
            raise ZeroDivisionError("the cause")
        begin(ctx, batch)

    monkeypatch.setattr(Context, "begin_offline", fails)
    options = PermLLMOptions(offline_batch=2, offline_ahead=True)
    with pytest.raises(ZeroDivisionError, match="the cause"):
        play(PermLLM, Generation(small("gpt2"), 3, 7), options)


def test_every_step_of_a_batch_has_its_own_permutations(monkeypatch: pytest.MonkeyPatch) -> None:
    """Independent ones: one for all steps would let P1 align what it sees over tokens."""
    dealt: list[torch.Tensor] = []
    offline = Revealed.offline

    def note(step: Revealed, inputs: list[Masked], rows: int = 1) -> torch.Tensor | None:
        index = offline(step, inputs, rows)
        if step.role == P0 and index is not None:
            dealt.extend(index)
        return index

    monkeypatch.setattr(Revealed, "offline", note)
    play(PermLLM, Generation(small("gpt2"), 3, 6), evaluations=1)
    long = [tuple(index.tolist()) for index in dealt if len(index) >= 20]
    assert len(set(long)) == len(long) > 20
