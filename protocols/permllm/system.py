"""PermLLM (arXiv 2405.18744) as a system the harness can run.

P0 holds the weights, P1 the prompt and the answer, P2 deals correlated randomness offline and takes
no part online. Semi-honest, no two roles collude.
"""

from collections.abc import Mapping
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor

from protocols.arith import ring
from protocols.background_phase import Aside, AsideParty
from protocols.errors import Unsupported
from protocols.footprint import Need
from protocols.metered_party import MeteredParty
from protocols.party import P0, P1, P2, Phase, Role
from protocols.permllm import cost
from protocols.permllm.bfv import MAX_IDS
from protocols.permllm.context import Context
from protocols.permllm.domain import domain_of
from protocols.permllm.memory_needs import disk_bytes, needs, stored_bytes
from protocols.permllm.offline_batches import batches
from protocols.permllm.options import PermLLMOptions
from protocols.permllm.programs import answer_frac, program
from protocols.permllm.weight_halves import OnDisk, in_memory
from protocols.system import Parts, PhaseCost, System
from protocols.workload import Argmax, Generation, UserInput, Workload


class PermLLM(System):
    """Masked sharing, secure random permutation, BFV selection."""

    Options = PermLLMOptions
    online_roles: ClassVar[tuple[Role, ...]] = (P0, P1)
    smaller: ClassVar[tuple[str, ...]] = (
        "system.weights_store=disk",
        "a smaller system.offline_batch",
    )

    def build(self) -> None:
        """P0's weights are folded and rounded here. Raises Unsupported where `store_dir` is no folder
        or its disk has no room for what this role will store."""
        options = self.options
        holder = P1 if options.mask_holder == "user" else P2
        memory = in_memory
        if options.store_dir is not None and self.party.role == holder:
            memory = OnDisk(options.store_dir, disk_bytes(self.workload, options))
        self._ctx = Context(self.party, self.key_seed, domain_of(options), holder, memory)
        self._batches = batches(self.workload, options)
        self._ahead: Aside | None = None
        bits = self.options.weight_bits
        self._program = program(self.workload, self._ctx, self.seed, bits, self.user)

    @classmethod
    def check(
        cls, workload: Workload, options: PermLLMOptions, user: UserInput | None = None
    ) -> None:
        """Token selection is limited by the plaintext modulus."""
        size = _selected_from(workload)
        if size > MAX_IDS:
            raise Unsupported(f"selection among {size} values: at most {MAX_IDS} fit the plaintext")

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
        share = parts[P0][0] + parts[P1][0]
        return domain_of(options).decode(share, answer_frac(workload))

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
    """The token, then the logits in vocabulary order; BERT's hidden states as they are."""
    if len(parts[P1]) == 1:
        return parts[P1][0]
    token, seen, position = parts[P1]
    index = parts[P0][0]
    logits = torch.empty_like(seen)
    logits[index] = seen
    if int(index[position]) != int(token):
        logits.fill_(torch.nan)  # the selection gave another token than the one picked
    return torch.cat([token.to(torch.float64).reshape(1), logits])
