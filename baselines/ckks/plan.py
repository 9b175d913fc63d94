"""What a run under CKKS takes, known before it starts: parameters, keys, messages."""

from dataclasses import dataclass

from baselines.ckks.keys import Needed
from baselines.ckks.matrix import PRIMES, matrix_parameters, needed
from baselines.ckks.operations import Levels
from baselines.ckks.options import CkksOptions
from baselines.ckks.parameters import SCALE_BITS, Parameters, circuit_parameters
from baselines.ckks.reencryption import BASE_PRIMES
from baselines.ckks.tasks import Circuit, MatrixProduct, circuit
from protocols.errors import Unsupported
from protocols.party import P0, P1, Phase
from protocols.system import PhaseCost
from protocols.workload import (
    NO_CIPHERTEXT,
    Argmax,
    Attention,
    Bootstrapping,
    Generation,
    Layer,
    Linear,
    Nonlinear,
    Workload,
)

MATRIX_DEGREE, CIRCUIT_DEGREE = 8192, 16384


@dataclass(frozen=True)
class Plan:
    """reencryptions: of each, how many ciphertexts. replies: how many hold the answer. encoded: how many
    diagonals P0 keeps encoded."""

    task: Circuit | MatrixProduct
    parameters: Parameters
    needed: Needed
    replies: int
    reencryptions: tuple[int, ...] = ()
    encoded: int = 0

    @property
    def encoded_bytes(self) -> int:
        """What the encoded diagonals take of P0's memory."""
        return 8 * PRIMES * self.parameters.degree * self.encoded

    @property
    def key_bytes(self) -> int:
        """What P0's keys take of its memory, c1 and all."""
        primes = self.parameters.top + 1
        return 16 * self.needed.switching * self.parameters.top * primes * self.parameters.degree

    def cost(self) -> dict[Phase, PhaseCost]:
        """All phases of one evaluation."""
        parameters = self.parameters
        fresh = sum(self.task.counts) + sum(self.reencryptions)
        masked = sum(self.reencryptions) * parameters.reply_bytes(BASE_PRIMES)
        sent = {
            (P1, P0): fresh * parameters.fresh_bytes(),
            (P0, P1): masked + self.replies * parameters.reply_bytes(1),
        }
        return {
            "prepare": PhaseCost(1, {(P1, P0): self.needed.payload_bytes(parameters)}),
            "offline": PhaseCost(0),
            "input": PhaseCost(0),
            "online": PhaseCost(2 + 2 * len(self.reencryptions), sent),
        }


def plan(workload: Workload, options: CkksOptions) -> Plan:
    """The plan of a workload. Raises Unsupported for what cannot be computed, or not with these options."""
    if isinstance(workload, Linear):
        return _matrix_plan(workload, options)
    if isinstance(workload, Nonlinear | Attention):
        return _circuit_plan(workload, options)
    raise Unsupported(f"system=ckks computes operators: {_refused(workload)}")


def _refused(workload: Argmax | Layer | Generation | Bootstrapping) -> str:
    if isinstance(workload, Bootstrapping):
        return NO_CIPHERTEXT
    if isinstance(workload, Argmax):
        return "a comparison is no polynomial, and an index of a maximum takes many"
    return (
        "a whole layer or model would take minutes to hours a token without bootstrapping; "
        "experiment=linear, nonlinear and attention measure its parts"
    )


def _matrix_plan(work: Linear, options: CkksOptions) -> Plan:
    degree = _degree(options, MATRIX_DEGREE)
    task = MatrixProduct(work, degree // 2)
    places = task.diagonals
    return Plan(
        task,
        matrix_parameters(places, degree, options.scale_bits),
        needed(places),
        work.n * places.row_blocks,
        encoded=places.encoded_count,
    )


def _circuit_plan(work: Nonlinear | Attention, options: CkksOptions) -> Plan:
    degree = _degree(options, CIRCUIT_DEGREE)
    task = circuit(work, degree // 2)
    scale = SCALE_BITS if options.scale_bits is None else options.scale_bits
    parameters = circuit_parameters(degree, scale)
    levels = Levels(parameters.levels, task.name, degree, options.reencrypt)
    answer = task.evaluate(levels, *[levels.fresh(count) for count in task.counts])
    keys = Needed(tuple(sorted(levels.rotations)), relinearises=True)
    return Plan(task, parameters, keys, answer.count, tuple(levels.reencryptions))


def _degree(options: CkksOptions, automatic: int) -> int:
    return automatic if options.degree == "auto" else int(options.degree)
