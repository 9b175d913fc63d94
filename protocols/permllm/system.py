"""PermLLM (arXiv 2405.18744) as a system the harness can run.

P0 holds the weights, P1 the prompt and the answer, P2 deals correlated randomness offline and takes
no part online. Semi-honest, no two roles collude.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor

from protocols.arith import ring
from protocols.background_phase import Aside, AsideParty
from protocols.bounds import Bound
from protocols.errors import Unsupported
from protocols.footprint import Need
from protocols.metered_party import MeteredParty
from protocols.on_disk import OnDisk
from protocols.party import P0, P1, P2, Phase, Role
from protocols.permllm import cost, rounded_weights
from protocols.permllm.bfv import MAX_IDS
from protocols.permllm.context import Context
from protocols.permllm.domain import WINDOW_FRAC, domain_of
from protocols.permllm.layer import NORM_WINDOW_FRAC
from protocols.permllm.memory_needs import needs, stored_bytes
from protocols.permllm.offline_batches import batches
from protocols.permllm.options import PermLLMOptions
from protocols.permllm.programs import answer_frac, program
from protocols.permllm.refresh_limit import check_refresh
from protocols.permllm.weight_halves import in_memory
from protocols.system import Parts, PhaseCost, PlainRun, System
from protocols.transformer.plain_model import PlainModel
from protocols.transformer.source import model_weights
from protocols.workload import (
    NO_CIPHERTEXT,
    NO_HEAD,
    Argmax,
    Attention,
    Bootstrapping,
    Generation,
    UserInput,
    Workload,
)


class PermLLM(System):
    """Masked sharing, secure random permutation, BFV selection."""

    Options = PermLLMOptions
    learns: ClassVar[str] = "P1: values in random order"
    offline_busy: ClassVar[int] = 2  # P1 and P2: each multiplies masks by its half of the weights
    smaller: ClassVar[tuple[str, ...]] = (
        "system.weights_store=disk",
        "system.material_store=disk",
        "a smaller system.offline_batch",
    )

    @classmethod
    def online_roles(cls, options: PermLLMOptions) -> tuple[Role, ...]:
        """P2 only deals."""
        return (P0, P1)

    def build(self) -> None:
        """P0's weights are folded and rounded here. Raises Unsupported where `store_dir` is no folder
        or its disk has no room for what this role will store."""
        options = self.options
        holder = P1 if options.mask_holder == "user" else P2
        memory, store = in_memory, None
        size = needs(self.workload, options)[self.party.role].disk_bytes
        if options.store_dir is not None and size:
            disk = OnDisk(options.store_dir, size)
            if options.weights_store == "disk" and self.party.role == holder:
                memory = disk
            if options.material_store == "disk":
                store = disk.copy
        self._ctx = Context(self.party, self.key_seed, domain_of(options), holder, memory, store)
        self._batches = batches(self.workload, options)
        self._ahead: Aside | None = None
        self._program = program(self.workload, self._ctx, self.seed, options, self.user)

    @classmethod
    def check(
        cls, workload: Workload, options: PermLLMOptions, user: UserInput | None = None
    ) -> None:
        """Token selection by BFV is limited by the plaintext modulus; what a token's attention may be dealt
        by the options. Drafted tokens stand beside the paper's protocol alone."""
        if isinstance(workload, Attention):
            raise Unsupported(NO_HEAD)
        drafted = isinstance(workload, Generation) and workload.drafted
        if drafted and options.variant == "fused":
            raise Unsupported(
                "variant=fused begins a step before P1 has its token: no drafted one can follow it; "
                "system.variant=paper verifies them"
            )
        check_refresh(workload, options)
        size = _selected_from(workload)
        if options.selection == "bfv" and size > MAX_IDS:
            raise Unsupported(
                f"selection among {size} values: at most {MAX_IDS} fit the plaintext of "
                "system.selection=bfv; system.selection=ot takes more"
            )

    @classmethod
    def bounds(cls, options: PermLLMOptions) -> Sequence[Bound]:
        """P1 sees what is too large, and ends the run, up to three times the bounds of its windows. A
        weight's rounding is within 0.3 % of the deviation of all others below the last bound."""
        domain = domain_of(options)
        window, norm = (domain.window_limit(f) for f in (WINDOW_FRAC, NORM_WINDOW_FRAC))
        values = (Bound("norm input", norm), Bound("score", window), Bound("inner value", window))
        if options.domain != "ring64" or options.weight_bits != 16:
            return values
        # The scale is a power of two, so that the step is up to 2·largest / 2^15, its rms 1/√12 of it.
        peak = 0.003 * math.sqrt(12) * 2**15 / 2
        return *values, Bound("weight peak", peak, remedy="system.weight_bits=32")

    @classmethod
    def needs(cls, workload: Workload, options: PermLLMOptions) -> Mapping[Role, Need]:
        """Estimates of `protocols.permllm.memory_needs`."""
        return needs(workload, options)

    def prepare(self) -> None:
        """Keys, then what the model needs."""
        self._ctx.establish()
        self._program.prepare()

    def offline(self, step: int) -> None:
        """Walk the protocol on masks, with the first step of each batch for all its steps; or wait for
        the thread that does, if it began ahead."""
        if step == 0:
            self.close()  # an answer that ended early may have left a batch under way
        for index, batch in enumerate(self._batches):
            if batch.start != step:
                continue
            if self._ahead is None:
                self._run_offline(batch)
            else:
                self._ahead.join()
                self._ahead = None
            if self.options.offline_ahead and index + 1 < len(self._batches):
                self._ahead = Aside(self._metered(), "offline", later=len(batch))

    def _run_offline(self, batch: range) -> None:
        with ring.at_most_threads(self.offline_threads):
            self._ctx.begin_offline(batch)
            self._program.offline(batch.start)

    def _start_ahead(self, step: int) -> None:
        """Let the next batch's offline pass begin with the first step of this one online."""
        following = {a.start: b for a, b in pairwise(self._batches)}
        if self._ahead is None or step not in following:
            return
        threads = ring.threads()

        def work(party: AsideParty) -> None:
            ring.use_threads(threads)
            self._ctx.aside(party)
            self._run_offline(following[step])

        self._ahead.start(work)

    def _metered(self) -> MeteredParty:
        if not isinstance(self.party, MeteredParty):
            raise Unsupported("offline_ahead needs a party whose transport two threads can share")
        return self.party

    def close(self) -> None:
        """Wait for what runs ahead; its material is of no use any more."""
        if self._ahead is not None:
            self._ahead.join(count=False)
            self._ahead = None

    def share_input(self, step: int) -> None:
        """P1's input in masked form at P0."""
        if self.party.role != P2:
            self._program.share_input(step)

    def online(self, step: int) -> None:
        """Walk the protocol on values; the dealer is not there."""
        self._start_ahead(step)
        self._ctx.begin_online(step)
        if self.party.role != P2:
            self._program.online(step)

    def output(self) -> tuple[Tensor, ...]:
        """Index at P1 (argmax), or this role's half."""
        return self._program.output()

    @classmethod
    def reveal(cls, parts: Parts, workload: Workload, options: PermLLMOptions) -> Tensor:
        """Δ + λ, decoded; P1's index or token, and what it was chosen from, back in order."""
        if isinstance(workload, Argmax):
            return parts[P1][0]
        if isinstance(workload, Generation):
            return _generated(parts)
        if isinstance(workload, Bootstrapping):
            raise Unsupported(NO_CIPHERTEXT)
        share = parts[P0][0] + parts[P1][0]
        return domain_of(options).decode(share, answer_frac(workload))

    @classmethod
    def approximates(cls, options: PermLLMOptions) -> bool:
        """The functions are exact. Weights in 16 bits or more are too, in this sense."""
        return options.weight_bits == 8

    @classmethod
    def plaintext(cls, workload: Workload, seed: int, options: PermLLMOptions) -> Tensor:
        """With the weights that P0 computes with, where these are rounded to 8 bits."""
        if options.weight_bits == 8:
            return rounded_weights.answer(workload, seed, options.weight_bits)
        return super().plaintext(workload, seed, options)

    @classmethod
    def plain_model(cls, workload: Generation, seed: int, options: PermLLMOptions) -> PlainRun:
        """See `plaintext`."""
        if options.weight_bits != 8:
            return super().plain_model(workload, seed, options)
        weights = model_weights(workload, seed)
        rounded = rounded_weights.model(workload.spec, weights, options.weight_bits)
        return PlainModel(workload.spec, rounded)

    @classmethod
    def token(cls, parts: Parts) -> int:
        """With variant=fused a step ends before P1 has its token."""
        return _token(parts)

    @classmethod
    def stored_bytes(cls, workload: Workload, options: PermLLMOptions) -> Mapping[Role, int] | None:
        """See `protocols.permllm.memory_needs`."""
        return stored_bytes(workload, options)

    @classmethod
    def cost(cls, workload: Workload, options: PermLLMOptions) -> dict[Phase, PhaseCost]:
        """Closed forms of `protocols.permllm.cost`."""
        return cost.cost(workload, options)


def _selected_from(workload: Workload) -> int:
    """Length of the vector that P1 selects from."""
    if isinstance(workload, Argmax):
        return workload.n
    if isinstance(workload, Generation) and workload.spec.family != "bert":
        return workload.spec.vocab
    return 0


def _generated(parts: Parts) -> Tensor:
    """Tokens, then the logits of each in vocabulary order; BERT's hidden states as they are."""
    if len(parts[P1]) == 1:
        return parts[P1][0]
    if parts[P1][0].dim() == 1:  # of drafted tokens a row each
        each = range(len(parts[P1][0]))
        return torch.stack(
            [_generated({r: tuple(t[i] for t in part) for r, part in parts.items()}) for i in each]
        )
    _, seen, slot, *earlier = parts[P1]
    index, *index_before = parts[P0]
    logits = torch.empty_like(seen)
    logits[index] = seen
    token = _token(parts)
    if int(index[slot]) != token:
        logits.fill_(torch.nan)  # the selection gave another token than the one picked
    if earlier and int(index_before[0][earlier[1]]) != int(earlier[0]):
        logits.fill_(torch.nan)  # so it did in the step before
    return torch.cat([torch.tensor([token], dtype=torch.float64), logits])


def _token(parts: Parts) -> int:
    """P1's token; of a step that ends without it, the one that P1 has asked for."""
    token, _, slot = parts[P1][:3]
    return int(token) if int(token) >= 0 else int(parts[P0][0][slot])
