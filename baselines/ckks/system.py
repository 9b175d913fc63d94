"""CKKS by TenSEAL's SEAL as a system: P1 encrypts, P0 evaluates without seeing anything.

| phase | from | to | what | name | payload | hop |
|---|---|---|---|---|---|---|
| prepare | P1 | P0 | keys for P0's work (`keys`) | keys | | 1 |
| online | P1 | P0 | fresh ciphertexts, a tensor for each input | request | fresh_bytes each | 1 |
| online | both | | re-encryptions (`reencryption`) | re-encrypt | | 2 each |
| online | P0 | P1 | the answer over one prime | reply | reply_bytes(1) each | last |

P0 holds the keys that multiply and rotate, and sees ciphertexts alone. P1 learns the answer; of P0's
matrix nothing else (`matrix`). In the other circuits P0 has no secret. P1 never tells P0 what it
decrypts, nor whether an answer was right: what CKKS decrypts carries noise that depends on the key.
Both are semi-honest. P2 has nothing to do.

Packages: TenSEAL's `sealapi`, one thread, for SEAL holds Python's lock while it computes.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor

from baselines.ckks.encrypted import Encrypted
from baselines.ckks.keys import KEYS, EvaluationKeys, SecretKey
from baselines.ckks.matrix import (
    Diagonals,
    EncodedMatrix,
    flooded_zero,
    hidden,
    reply_scale,
    require_rows,
)
from baselines.ckks.options import CkksOptions
from baselines.ckks.parameters import PRECISION
from baselines.ckks.plan import Plan, plan
from baselines.ckks.reencryption import reencrypt
from baselines.ckks.scheme import Scheme, parts
from baselines.ckks.tasks import Circuit
from protocols.footprint import Need
from protocols.party import P0, P1, P2, Party, Phase, Role
from protocols.system import Parts, PhaseCost, System
from protocols.transformer.weights import synthetic_linear
from protocols.workload import Linear, UserInput, Workload

REQUEST, REPLY = "request", "reply"
PROCESS = 420e6  # a party's process, with SEAL
WORKING = 60  # polynomials of a ciphertext's size that a circuit has at once, for each ciphertext


class User:
    """P1's side."""

    def __init__(self, party: Party, plan: Plan, seed: int) -> None:
        """Raises OutOfRange for an input that the circuit cannot take."""
        self._party, self._plan = party, plan
        self._scheme = Scheme(plan.parameters)
        self._inputs = plan.task.inputs(seed)
        self.output: tuple[Tensor, ...] = ()

    def prepare(self) -> None:
        """Keys."""
        self._party.report(f"CKKS: {self._plan.parameters}")
        self._key = SecretKey(self._scheme)
        with self._party.step(KEYS):
            self._party.send(P0, *self._key.public(self._plan.needed))

    def online(self) -> None:
        """Encrypt, help where levels run out, decrypt."""
        party, plan, scheme = self._party, self._plan, self._scheme
        with party.step(REQUEST):
            party.send(P0, *[self._key.encrypt(slots) for slots in self._inputs])
        for count in plan.reencryptions:
            reencrypt(party, scheme, self._key, count)
        with party.step(REPLY):
            (message,) = parts(party.recv(P0), 1, REPLY)
            scale = scheme.scale if isinstance(plan.task, Circuit) else reply_scale(scheme)
            found = scheme.worked_on(message, plan.replies, 1, scale, REPLY)
            self.output = (plan.task.answer(self._key.decrypt(found)),)


class Provider:
    """P0's side. work: of a matrix, whose weights are its own."""

    output: tuple[Tensor, ...] = ()

    def __init__(self, party: Party, plan: Plan, work: Workload, seed: int) -> None:
        """Raises OutOfRange for weights that are too large."""
        self._party, self._plan = party, plan
        self._scheme = Scheme(plan.parameters)
        if isinstance(work, Linear):
            self._weights = synthetic_linear(work.d_out, work.d_in, seed)
            require_rows(self._weights.weight)

    def prepare(self) -> None:
        """Take the keys, encode the matrix."""
        with self._party.step(KEYS):
            message = self._party.recv(P1)
        self._keys = EvaluationKeys(self._scheme, self._plan.needed, message)
        if not isinstance(self._plan.task, Circuit):
            weights, places = self._weights, self._plan.task.diagonals
            self._matrix = EncodedMatrix(self._scheme, places, weights.weight, weights.bias)

    def online(self) -> None:
        """Evaluate."""
        task, scheme = self._plan.task, self._scheme
        with self._party.step(REQUEST):
            message = parts(self._party.recv(P1), len(task.counts), REQUEST)
            pairs = zip(message, task.counts, strict=True)
            inputs = [scheme.fresh(tensor, count, REQUEST) for tensor, count in pairs]
        if isinstance(task, Circuit):
            with self._party.step(task.name):
                answer = self._evaluated(task, inputs)
        else:
            with self._party.step("linear"):
                answer = self._product(inputs[0], task.diagonals)
        with self._party.step(REPLY):
            self._party.send(P1, scheme.sent(answer))

    def _evaluated(self, task: Circuit, inputs: Sequence[Sequence[Any]]) -> Sequence[Any]:
        """The answer over one prime."""
        ops = Encrypted(self._party, self._scheme, self._keys)
        answer = task.evaluate(ops, *[ops.fresh(each) for each in inputs])
        return ops.at(answer, 1).parts

    def _product(self, x: Sequence[Any], places: Diagonals) -> Sequence[Any]:
        """Row by row, so that one row's rotations are in memory."""
        found: list[Any] = []
        for at in range(0, len(x), places.column_blocks):
            row = self._matrix.product(x[at : at + places.column_blocks], self._keys)
            for part in row:
                zero = flooded_zero(self._scheme, self._keys, places.flood_bits)
                found.append(hidden(self._scheme, part, zero))
        return found


class Ckks(System):
    """CKKS: P0 computes on what P1 has encrypted."""

    Options = CkksOptions
    learns: ClassVar[str] = "nobody: nothing"

    def build(self) -> None:
        """Inputs and weights are made, and checked, here."""
        made = plan(self.workload, self.options)
        self._side: User | Provider | None = None
        if self.party.role == P1:
            self._side = User(self.party, made, self.seed)
        if self.party.role == P0:
            self._side = Provider(self.party, made, self.workload, self.seed)

    @classmethod
    def online_roles(cls, options: CkksOptions) -> tuple[Role, ...]:
        """P2 has nothing to do."""
        return (P0, P1)

    @classmethod
    def check(cls, workload: Workload, options: CkksOptions, user: UserInput | None = None) -> None:
        """Operators alone; parameters that are secure, deep and precise enough."""
        plan(workload, options)

    @classmethod
    def parameters(cls, workload: Workload, options: CkksOptions) -> str:
        """Those of the scheme."""
        return str(plan(workload, options).parameters)

    def prepare(self) -> None:
        """Keys to P0, the matrix encoded."""
        if self._side is not None:
            self._side.prepare()

    def online(self, step: int) -> None:
        """Request, work, reply."""
        if self._side is not None:
            self._side.online()

    def output(self) -> tuple[Tensor, ...]:
        """The answer at P1."""
        return () if self._side is None else self._side.output

    @classmethod
    def reveal(cls, parts: Parts, workload: Workload, options: CkksOptions) -> Tensor:
        """P1's answer."""
        return parts[P1][0]

    @classmethod
    def tolerance(cls, workload: Workload) -> float:
        """Relative rms against the exact function: approximation and noise together."""
        return PRECISION

    @classmethod
    def stored_bytes(cls, workload: Workload, options: CkksOptions) -> Mapping[Role, int] | None:
        """Encoded diagonals at P0."""
        if not isinstance(workload, Linear):
            return None
        return {P0: plan(workload, options).encoded_bytes, P1: 0, P2: 0}

    @classmethod
    def cost(cls, workload: Workload, options: CkksOptions) -> dict[Phase, PhaseCost]:
        """Closed forms of `parameters`, as often as the plan says."""
        return plan(workload, options).cost()

    @classmethod
    def needs(cls, workload: Workload, options: CkksOptions) -> Mapping[Role, Need]:
        """Keys, of which both roles have several copies while they travel, and encoded diagonals."""
        made = plan(workload, options)
        polynomial = 8 * made.parameters.degree * made.parameters.top
        working = WORKING * polynomial * max(made.task.counts)
        weights = 12 * workload.d_in * workload.d_out if isinstance(workload, Linear) else 0
        return {
            P0: Need(
                round(PROCESS + working + 2.5 * made.key_bytes + made.encoded_bytes + weights)
            ),
            P1: Need(round(PROCESS + working / 4 + 2 * made.key_bytes)),
            P2: Need(round(PROCESS)),
        }
