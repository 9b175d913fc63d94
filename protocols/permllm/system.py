"""PermLLM (arXiv 2405.18744) as a system the harness can run.

P0 holds the weights, P1 the prompt and the answer, P2 deals correlated randomness offline and takes
no part online. Semi-honest, no two roles collude.
"""

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from protocols.arith.prg import KEY_BYTES
from protocols.errors import Unsupported
from protocols.footprint import Footprint, peaks, sizes
from protocols.party import P0, P1, P2, Phase, Role
from protocols.permllm import cost
from protocols.permllm.bfv import MAX_IDS
from protocols.permllm.context import Context
from protocols.permllm.domain import domain_of
from protocols.permllm.options import PermLLMOptions
from protocols.permllm.programs import answer_frac, program
from protocols.system import Parts, PhaseCost, System
from protocols.workload import Argmax, Generation, UserInput, Workload

KERNELS = 430e6  # a party's process, with PermLLM's libraries


class PermLLM(System):
    """Masked sharing, secure random permutation, BFV selection."""

    Options = PermLLMOptions
    online_roles: ClassVar[tuple[Role, ...]] = (P0, P1)

    def build(self) -> None:
        """P0's weights are folded and rounded here."""
        self._ctx = Context(self.party, self.key_seed, domain_of(self.options))
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

    def prepare(self) -> None:
        """Keys, then what the model needs."""
        self._ctx.establish()
        self._program.prepare()

    def offline(self, step: int) -> None:
        """Walk the protocol on masks."""
        self._ctx.begin_offline()
        self._program.offline(step)

    def share_input(self, step: int) -> None:
        """P1's input in masked form at P0."""
        if self.party.role != P2:
            self._program.share_input(step)

    def online(self, step: int) -> None:
        """Walk the protocol on values; the dealer is not there."""
        self._ctx.begin_online()
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
        """P0: W as integers (or float32). P1: W − U in the domain's elements, the embedding in a window's.
        P2: its keys with P0 and P1, from which it expands U."""
        weights = sizes(workload).weights
        if not weights:
            return None
        embedding = 0
        if isinstance(workload, Generation):
            embedding = workload.spec.vocab * workload.spec.d_model
        domain = domain_of(options)
        wide, narrow = domain.dtype.itemsize, domain.window_dtype.itemsize
        weight = options.weight_bits // 8 if options.domain == "ring64" else wide
        return {
            P0: weight * weights,
            P1: wide * (weights - embedding) + narrow * embedding,
            P2: 2 * KEY_BYTES,
        }

    @classmethod
    def cost(cls, workload: Workload, options: PermLLMOptions) -> dict[Phase, PhaseCost]:
        """Closed forms of `protocols.permllm.cost`."""
        return cost.cost(workload, domain_of(options))

    @classmethod
    def memory_bytes(cls, workload: Workload, options: PermLLMOptions) -> dict[Role, int]:
        """P0 keeps integer weights, and makes them from float32; P1 keeps the masked ones."""
        p0 = Footprint(KERNELS, options.weight_bits / 8, passing=6, element=50)
        p1 = Footprint(KERNELS + 30e6, resident=8, element=50)
        p2 = Footprint(KERNELS, element=50)
        return peaks({P0: p0, P1: p1, P2: p2}, sizes(workload))


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
