"""The floor that a user would otherwise pick: no privacy, as a `System`.

P0 computes in float32 on the model in the clear; P1's request and P0's reply cross the same network as
every other system's messages, one each way a step. P2 has nothing to do.
"""

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from baselines.plaintext import cost
from baselines.plaintext.functions import FUNCTIONS, plain_function
from baselines.plaintext.options import PlaintextOptions
from baselines.plaintext.services import service
from protocols.errors import Unsupported
from protocols.footprint import Footprint, Need, peaks, sizes
from protocols.party import P0, P1, P2, Phase, Role
from protocols.shares import plaintext
from protocols.system import Parts, PhaseCost, PlainRun, System
from protocols.workload import Argmax, Generation, NonlinearOp, UserInput, Workload

LIMIT_BYTES = 12 << 30


class Plaintext(System):
    """The same model without privacy."""

    Options = PlaintextOptions
    learns: ClassVar[str] = "P0: everything"

    @classmethod
    def online_roles(cls, options: PlaintextOptions) -> tuple[Role, ...]:
        """P2 has nothing to do."""
        return (P0, P1)

    def build(self) -> None:
        """Both sides of the experiment."""
        self._service = service(self.workload, self.seed, self.user, self.options.approx)
        self._answer: tuple[Tensor, ...] = ()

    @classmethod
    def check(
        cls, workload: Workload, options: PlaintextOptions, user: UserInput | None = None
    ) -> None:
        """A model's weights must fit P0's memory."""
        stored = cls.stored_bytes(workload, options)
        needed = stored[P0] if stored else 0
        if needed > LIMIT_BYTES:
            raise Unsupported(
                f"the weights take {needed / 2**30:.0f} GiB at P0, more than {LIMIT_BYTES >> 30} GiB"
            )

    def prepare(self) -> None:
        """P0 makes or reads the weights."""
        if self.party.role == P0:
            self._service.load()

    def share_input(self, step: int) -> None:
        """Cached rows to P0."""
        if self.party.role == P1 and (message := self._service.given()):
            self.party.send(P0, *message)
        if self.party.role == P0 and cost.cost(self.workload)["input"].hops:
            self._service.take(self.party.recv(P1))

    def online(self, step: int) -> None:
        """Request and reply."""
        if self.party.role == P1:
            with self.party.step("request"):
                self.party.send(P0, *self._service.request(step))
            with self.party.step("reply"):
                (answer,) = self.party.recv(P0)
                self._service.receive(answer)
            self._answer = (answer,)
        if self.party.role == P0:
            with self.party.step("request"):
                request = self.party.recv(P1)
            with self.party.step("reply"):
                self.party.send(P1, self._service.reply(step, request))
            self._answer = self._service.aside()

    def output(self) -> tuple[Tensor, ...]:
        """P1: the answer. P0: the logits, for the check alone."""
        return self._answer

    @classmethod
    def reveal(cls, parts: Parts, workload: Workload, options: PlaintextOptions) -> Tensor:
        """P1's answer; for a token, with the logits that it was picked from."""
        (answer,) = parts[P1]
        if isinstance(workload, Argmax):
            return answer
        if isinstance(workload, Generation) and parts[P0]:
            return torch.cat([answer.double().reshape(-1, 1), parts[P0][0]], dim=1).squeeze(0)
        return answer.double()

    @classmethod
    def approximates(cls, options: PlaintextOptions) -> bool:
        """Where it is told to."""
        return options.approx != "exact"

    @classmethod
    def plaintext(cls, workload: Workload, seed: int, options: PlaintextOptions) -> Tensor:
        """With the chosen functions in float64."""
        if options.approx == "exact":
            return super().plaintext(workload, seed, options)

        def plain(op: NonlinearOp, x: Tensor) -> Tensor:
            return plain_function(op, x, options.approx)

        return plaintext.answer(workload, seed, FUNCTIONS[options.approx], plain)

    @classmethod
    def plain_model(cls, workload: Generation, seed: int, options: PlaintextOptions) -> PlainRun:
        """See `plaintext`."""
        if options.approx == "exact":
            return super().plain_model(workload, seed, options)
        return plaintext.model(workload, seed, FUNCTIONS[options.approx])

    @classmethod
    def tolerance(cls, workload: Workload) -> float:
        """Relative rms of float32 arithmetic; an index must be right."""
        return 0.0 if isinstance(workload, Argmax) else 1e-4

    @classmethod
    def stored_bytes(
        cls, workload: Workload, options: PlaintextOptions
    ) -> Mapping[Role, int] | None:
        """P0: float32."""
        weights = sizes(workload, _tables(workload)).weights
        return {P0: cost.FLOAT * weights, P1: 0, P2: 0} if weights else None

    @classmethod
    def needs(cls, workload: Workload, options: PlaintextOptions) -> dict[Role, Need]:
        """float32 weights at P0."""
        other = Footprint(380e6, element=8)
        roles = {P0: Footprint(400e6, resident=4, element=16), P1: other, P2: other}
        return peaks(roles, sizes(workload, _tables(workload)))

    @classmethod
    def cost(cls, workload: Workload, options: PlaintextOptions) -> dict[Phase, PhaseCost]:
        """Closed forms of `cost`."""
        return cost.cost(workload)


def _tables(workload: Workload) -> int:
    """Vocabulary tables: GPT-2's head is its embedding."""
    tied = isinstance(workload, Generation) and workload.spec.family == "gpt2"
    return 1 if tied else 2
