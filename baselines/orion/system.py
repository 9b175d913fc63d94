"""Seconds that one CKKS bootstrapping takes: P0 alone, no message.

Orion cannot write a ciphertext or a key, so no other party can hold one: P0 makes the keys, encrypts,
bootstraps and decrypts in one process. This measures work and protects nothing; P0 knows everything.

    prepare: keys; input: encrypt, at level 0; online: one bootstrapping, from level 0 to `levels`

Parameters, N = 2^log_n: Q = 60 + 40·levels bits remain after it, P = 5 primes of 61 bits, scale 2^40,
secrets of 192 ones and, inside, 32. Bootstrapping itself takes 39·3 (slots to coefficients), 60·8 (the
modular reduction) and 56·4 bits (coefficients to slots): with 9 levels log QP = 1546, Lattigo's default
set N16QP1546H192H32, for which 128 bits of security are stated (ePrint 2022/024). Fewer levels are a
smaller modulus at the same N. N below 2^16 is not secure, and is for tests.

Source: Orion 1.0.2, Lattigo 6.
"""

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any, ClassVar

from torch import Tensor

from protocols.errors import Unsupported
from protocols.footprint import Need
from protocols.inputs import bootstrapping_input
from protocols.options import NoOptions
from protocols.party import P0, P1, P2, Phase, Role
from protocols.system import Parts, PhaseCost, System
from protocols.workload import Bootstrapping, UserInput, Workload

PACKAGE, INSTALL = "orion-fhe", "pip install 'permbench[bootstrapping]'"
FIRST_BITS, LEVEL_BITS, SPECIAL_BITS, SPECIAL = 60, 40, 61, 5
OWN_PRIMES = 3 + 8 + 4  # of bootstrapping itself
ONES = 192
WORD_BYTES = 8
PROCESS_BYTES = 700_000_000  # PyTorch, Orion
MEASURED_KEYS = 13, -75, 16  # peaks in keys: for each of log_slots, besides, and at least
TOLERANCE = 1e-5


class Orion(System):
    """One bootstrapping, without other parties."""

    Options = NoOptions
    learns: ClassVar[str] = "P0: everything"

    @classmethod
    def online_roles(cls, options: NoOptions) -> tuple[Role, ...]:
        """P0 alone has work; a run has a user."""
        return (P0, P1)

    def build(self) -> None:
        """Parameters."""
        self._answer: tuple[Tensor, ...] = ()
        if self.party.role == P0:
            self._scheme = _scheme(_work(self.workload))

    @classmethod
    def check(cls, workload: Workload, options: NoOptions, user: UserInput | None = None) -> None:
        """Bootstrapping alone, with the package."""
        if not isinstance(workload, Bootstrapping):
            raise Unsupported("orion computes experiment=bootstrapping alone")
        try:
            version(PACKAGE)
        except PackageNotFoundError:
            raise Unsupported(f"system=orion needs {PACKAGE}: {INSTALL}") from None

    def prepare(self) -> None:
        """P0: keys of bootstrapping."""
        if self.party.role == P0:
            self._slots = 1 << _work(self.workload).log_slots
            self._scheme.bootstrapper.generate_bootstrapper(self._slots)

    def share_input(self, step: int) -> None:
        """P0: a fresh ciphertext that has no level left."""
        if self.party.role == P0:
            values = bootstrapping_input(_work(self.workload).log_slots, self.seed)
            plain = self._scheme.encode(values, level=0)
            self._ciphertext = self._scheme.encrypt(plain)

    def online(self, step: int) -> None:
        """P0: bootstrap."""
        if self.party.role == P0:
            with self.party.step("bootstrapping"):
                self._fresh = self._ciphertext.bootstrap()

    def output(self) -> tuple[Tensor, ...]:
        """P0: what is in it."""
        if self.party.role != P0:
            return ()
        found = self._fresh.decrypt().decode()
        return (found.double().reshape(-1)[: self._slots].clone(),)

    @classmethod
    def reveal(cls, parts: Parts, workload: Workload, options: NoOptions) -> Tensor:
        """What P0 decrypts."""
        return parts[P0][0]

    @classmethod
    def tolerance(cls, workload: Workload) -> float:
        """Of bootstrapping's polynomial: about 25 bits are right."""
        return TOLERANCE

    @classmethod
    def needs(cls, workload: Workload, options: NoOptions) -> Mapping[Role, Need]:
        """Keys, each for 5 primes of Q a pair of polynomials modulo QP; how many of them are as much as the
        peaks that were measured, those that a garbage collector has not yet freed among them."""
        work = _work(workload)
        primes = 1 + work.levels + OWN_PRIMES
        pairs = -(-primes // SPECIAL)
        key = 2 * pairs * (primes + SPECIAL) * WORD_BYTES << work.log_n
        slope, base, least = MEASURED_KEYS
        keys = max(slope * work.log_slots + base, least)
        others = Need(PROCESS_BYTES)
        return {P0: Need(PROCESS_BYTES + keys * key), P1: others, P2: others}

    @classmethod
    def cost(cls, workload: Workload, options: NoOptions) -> dict[Phase, PhaseCost]:
        """Nothing is sent."""
        phases: tuple[Phase, ...] = ("prepare", "offline", "input", "online")
        return {phase: PhaseCost(0) for phase in phases}


def _work(workload: Workload) -> Bootstrapping:
    """What `check` has let pass."""
    assert isinstance(workload, Bootstrapping)
    return workload


def _scheme(work: Bootstrapping) -> Any:
    """Orion's scheme with these parameters; a process has one."""
    from orion.core import scheme  # noqa: PLC0415 - an optional extra

    special = [SPECIAL_BITS] * SPECIAL
    moduli = [FIRST_BITS, *[LEVEL_BITS] * work.levels]
    scheme.init_scheme(
        {
            "ckks_params": {
                "LogN": work.log_n,
                "LogQ": moduli,
                "LogP": special[: len(moduli)],  # of its other keys
                "LogScale": LEVEL_BITS,
                "H": ONES,
                "RingType": "standard",
            },
            "boot_params": {"LogP": special},
            "orion": {"backend": "lattigo", "debug": False, "io_mode": "none"},
        }
    )
    return scheme
