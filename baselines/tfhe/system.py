"""TFHE as a system the harness can run: P1 encrypts, P0 evaluates, P2 has nothing to do.

| phase | from | to | what | bytes | hop |
|---|---|---|---|---|---|
| prepare | P1 | P0 | evaluation keys | `Circuit.key_bytes` | 1 |
| prepare | P0 | P1 | linear: t, what a step of the weights is worth | 8 | 1 |
| online | P1 | P0 | x encrypted, each value a seed and a body | `Circuit.input_bytes` | 1 |
| online | P0 | P1 | the answer encrypted | `Circuit.answer_bytes` | 2 |

P0 sees keys and ciphertexts: nothing of x. P1 gets the answer, and of a linear layer t. It can do more:
Concrete does not re-randomise what it computes, so the masks of the answer are the same combinations of
the masks of x, which P1 drew: P1 could solve for W from one reply. Tables are public. Semi-honest.

Source: TFHE (Chillotti, Gama, Georgieva, Izabachène, Journal of Cryptology 2020), Concrete 2.11.
"""

from collections.abc import Mapping
from math import prod
from typing import ClassVar

import torch
from torch import Tensor

from baselines.tfhe.circuit import Circuit, Evaluator, User, Work, circuit, require_concrete
from baselines.tfhe.options import TfheOptions
from baselines.tfhe.quantise import (
    RANGES,
    dequantised,
    quantised_input,
    quantised_linear,
    table,
)
from protocols.errors import PeerError, Unsupported
from protocols.footprint import Need
from protocols.inputs import linear_input, nonlinear_input
from protocols.party import P0, P1, P2, Phase, Role
from protocols.system import Parts, PhaseCost, System
from protocols.transformer.weights import synthetic_linear
from protocols.workload import Linear, Nonlinear, UserInput, Workload

MOST_VALUES = 1024  # of a table: 0.1 s each
MOST_PRODUCTS = 1 << 22  # of a linear layer
SCALE_BYTES = 8
PROCESS_BYTES = 900_000_000  # PyTorch, Concrete, a compiled circuit
COPIES = 3  # of the keys while they are made, written or read


class Tfhe(System):
    """Quantised linear layers and functions of one value under TFHE."""

    Options = TfheOptions
    learns: ClassVar[str] = "P1: W, by solving"

    @classmethod
    def online_roles(cls, options: TfheOptions) -> tuple[Role, ...]:
        """P2 has nothing to do."""
        return (P0, P1)

    def build(self) -> None:
        """The circuit, which both compile, and P0's matrix."""
        if self.party.role == P2:
            return
        self._made = circuit(_work(self.workload), self.options)
        self._answer: tuple[Tensor, ...] = ()
        self._scale = 0.0
        self._clear: tuple[Tensor, ...] = ()
        if self.party.role == P0 and isinstance(self.workload, Linear):
            layer = synthetic_linear(self.workload.d_out, self.workload.d_in, self.seed)
            quantised = quantised_linear(layer, self.options.linear_bits)
            self._clear = (quantised.weight.T.contiguous(), quantised.bias[None])
            self._scale = quantised.scale

    @classmethod
    def check(cls, workload: Workload, options: TfheOptions, user: UserInput | None = None) -> None:
        """A linear layer or a function of one value, of a size that a CPU computes in a minute."""
        if isinstance(workload, Linear):
            products = workload.n * workload.d_in * workload.d_out
            if products > MOST_PRODUCTS:
                raise Unsupported(
                    f"tfhe: {products} products; at most {MOST_PRODUCTS}: choose a smaller "
                    "experiment.d_in or experiment.d_out"
                )
        elif isinstance(workload, Nonlinear) and workload.op in RANGES:
            values = prod(workload.shape)
            if values > MOST_VALUES:
                raise Unsupported(
                    f"tfhe: {values} values; at most {MOST_VALUES}: choose a smaller experiment.shape"
                )
        else:
            raise Unsupported(
                "tfhe computes experiment=linear, and experiment=nonlinear with op "
                f"{', '.join(RANGES)}"
            )
        require_concrete()

    def prepare(self) -> None:
        """Keys to P0; of a linear layer its scale to P1."""
        linear = isinstance(self.workload, Linear)
        if self.party.role == P1:
            self._user = User(self._made, self.key_seed)
            with self.party.step("keys"):
                self.party.send(P0, self._user.evaluation_keys())
            if linear:
                with self.party.step("scale"):
                    self._scale = _scale(self.party.recv(P0))
        if self.party.role == P0:
            self._evaluator = Evaluator(self._made, *self._clear)
            if linear:
                with self.party.step("scale"):
                    self.party.send(P1, torch.tensor([self._scale], dtype=torch.float64))
            with self.party.step("keys"):
                self._evaluator.take_keys(*self.party.recv(P1))

    def online(self, step: int) -> None:
        """Request and reply."""
        if self.party.role == P1:
            with self.party.step("request"):
                self.party.send(P0, self._user.encrypt(self._quantised()))
            with self.party.step("reply"):
                found = self._user.decrypt(*self.party.recv(P0))
            self._answer = (self._decoded(found),)
        if self.party.role == P0:
            with self.party.step("request"):
                request = self.party.recv(P1)
            with self.party.step("reply"):
                self.party.send(P1, self._evaluator.evaluate(*request))

    def _quantised(self) -> Tensor:
        """P1's input in whole numbers, int64 (rows, values)."""
        work = _work(self.workload)
        if isinstance(work, Linear):
            return quantised_input(
                linear_input(work.n, work.d_in, self.seed), self.options.linear_bits
            )
        x = nonlinear_input(work.op, work.shape, self.seed)
        return table(work.op, self.options.table_bits).bin_of(x).reshape(1, -1)

    def _decoded(self, found: Tensor) -> Tensor:
        """What they are worth, float64 of the answer's shape."""
        work = _work(self.workload)
        if isinstance(work, Linear):
            return dequantised(found, self._scale, self.options.linear_bits)
        return table(work.op, self.options.table_bits).value_of(found).reshape(work.shape)

    def output(self) -> tuple[Tensor, ...]:
        """P1: the answer."""
        return self._answer if self.party.role == P1 else ()

    @classmethod
    def reveal(cls, parts: Parts, workload: Workload, options: TfheOptions) -> Tensor:
        """P1's answer."""
        return parts[P1][0]

    @classmethod
    def plaintext(cls, workload: Workload, seed: int, options: TfheOptions) -> Tensor:
        """The same on quantised numbers."""
        work = _work(workload)
        if isinstance(work, Linear):
            bits = options.linear_bits
            layer = quantised_linear(synthetic_linear(work.d_out, work.d_in, seed), bits)
            x = quantised_input(linear_input(work.n, work.d_in, seed), bits)
            return dequantised(x @ layer.weight.T + layer.bias, layer.scale, bits)
        made = table(work.op, options.table_bits)
        x = nonlinear_input(work.op, work.shape, seed)
        return made.value_of(made.levels[made.bin_of(x)])

    @classmethod
    def stored_bytes(cls, workload: Workload, options: TfheOptions) -> Mapping[Role, int] | None:
        """P0: int64."""
        if not isinstance(workload, Linear):
            return None
        return {P0: 8 * workload.d_in * workload.d_out, P1: 0, P2: 0}

    @classmethod
    def needs(cls, workload: Workload, options: TfheOptions) -> dict[Role, Need]:
        """A few copies of keys and ciphertexts at both, while they are made, written or read."""
        made = circuit(_work(workload), options)
        passing = COPIES * sum(_sizes(made))
        busy = Need(PROCESS_BYTES + passing)
        return {P0: busy, P1: busy, P2: Need(PROCESS_BYTES)}

    @classmethod
    def cost(cls, workload: Workload, options: TfheOptions) -> dict[Phase, PhaseCost]:
        """The table above. Raises Unsupported where Concrete is missing, whose optimizer chooses the
        parameters."""
        keys, request, reply = _sizes(circuit(_work(workload), options))
        told = {(P0, P1): SCALE_BYTES} if isinstance(workload, Linear) else {}
        return {
            "prepare": PhaseCost(1, {(P1, P0): keys, **told}),
            "offline": PhaseCost(0),
            "input": PhaseCost(0),
            "online": PhaseCost(2, {(P1, P0): request, (P0, P1): reply}),
        }


def _work(workload: Workload) -> Work:
    """What `check` has let pass."""
    assert isinstance(workload, Linear | Nonlinear)
    return workload


def _sizes(made: Circuit) -> tuple[int, int, int]:
    return made.key_bytes, made.input_bytes, made.answer_bytes


def _scale(message: tuple[Tensor, ...]) -> float:
    """t, from P0. Raises PeerError."""
    if len(message) != 1 or message[0].dtype != torch.float64 or message[0].shape != (1,):
        raise PeerError("scale: not one float64")
    scale = float(message[0])
    if not 0 < scale < float("inf"):
        raise PeerError(f"scale: {scale} is no positive number")
    return scale
