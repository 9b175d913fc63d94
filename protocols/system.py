"""What a private-inference method must offer to be run, checked and compared by the harness."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from torch import Tensor

from protocols.bounds import Bound
from protocols.expected_answer import answer
from protocols.footprint import Footprint, Need, peaks, sizes
from protocols.options import NoOptions
from protocols.party import P1, ROLES, Party, Phase, Role
from protocols.transformer.plain_model import PlainModel
from protocols.transformer.source import model_weights
from protocols.workload import Argmax, Generation, UserInput, Workload

Pair = tuple[Role, Role]
Parts = Mapping[Role, tuple[Tensor, ...]]  # of an answer

UNDECLARED = Footprint(450e6, resident=16, passing=8, element=200)


@dataclass(frozen=True)
class PhaseCost:
    """What one phase sends, in closed form: payload bytes by ordered pair, and its depth in hops."""

    hops: int
    payload_bytes: Mapping[Pair, int] = field(default_factory=dict)


class PlainRun(Protocol):
    """One sequence through a model in the clear, as `PlainModel` is."""

    def reset(self) -> None:
        """Forget the sequence."""

    def step(self, tokens: Sequence[int]) -> Tensor:
        """Logits, float64 (vocab,), after the last of `tokens`."""

    def verify(self, tokens: Sequence[int]) -> Tensor:
        """Logits, float64 (n, vocab), after each of `tokens`."""

    def encode(self, tokens: Sequence[int]) -> Tensor:
        """Hidden states, float64 (n, d_model), of BERT."""


class System(ABC):
    """One role's side of a private-inference method for one workload.

    The harness builds one object per role and calls, on all roles alike: `prepare` once; then for
    every evaluation, for each of its steps (`protocols.workload.steps`): `offline`, `share_input`,
    `online`, each inside the phase of its name, then `output`; at the end `close`. Step 0 begins a
    fresh evaluation. A role that has nothing to do in a phase returns at once.

    seed: of synthetic weights and inputs, never of a secret. options: what the run chose, of the
    class's own type `Options`. user: what only P1 knows, None at all other roles. key_seed: of keys,
    for tests; None takes them from the operating system.
    """

    Options: ClassVar[type[Any]] = NoOptions  # see `protocols.options`
    smaller: ClassVar[tuple[str, ...]] = ()  # keys that make a run need less memory
    learns: ClassVar[str] = "–"  # who learns what, beyond its own input and answer: a few words
    offline_busy: ClassVar[int] = 1  # roles that compute at the same time offline
    offline_threads: int | None = None  # at most so many offline, set where roles share a machine

    def __init__(
        self,
        party: Party,
        workload: Workload,
        seed: int,
        options: Any,
        user: UserInput | None = None,
        key_seed: int | None = None,
    ) -> None:
        self.party = party
        self.workload = workload
        self.seed = seed
        self.options = options
        self.user = user
        self.key_seed = key_seed
        self.build()

    def build(self) -> None:
        """Make this role's programs and read its part of the model: in no phase, without a message."""

    @classmethod
    def roles(cls, options: Any) -> tuple[Role, ...]:
        """The roles that take part, in the order of `ALL_ROLES`; P1 is the user in every system."""
        return ROLES

    @classmethod
    def online_roles(cls, options: Any) -> tuple[Role, ...]:
        """Those of them that take part online: between any two lies the network's main link."""
        return cls.roles(options)

    @classmethod
    @abstractmethod
    def check(cls, workload: Workload, options: Any, user: UserInput | None = None) -> None:
        """Raise Unsupported where the system cannot compute `workload` as `user` asks."""

    def prepare(self) -> None:
        """Work once per model: keys, encoded weights."""

    def offline(self, step: int) -> None:
        """Input-independent work of one step."""

    def share_input(self, step: int) -> None:
        """Bring an input that the experiment assumes shared (and cached rows) into shared form."""

    @abstractmethod
    def online(self, step: int) -> None:
        """The measured work of one step."""

    def close(self) -> None:
        """The last call, behind a barrier: nothing of this object may run afterwards."""

    @abstractmethod
    def output(self) -> tuple[Tensor, ...]:
        """This role's part of the answer of the last step, for `reveal`; () if it has none."""

    @classmethod
    @abstractmethod
    def reveal(cls, parts: Parts, workload: Workload, options: Any) -> Tensor:
        """The answer of one step in the clear from all roles' parts: for checking.

        float64; an int64 index for Argmax. For a Generation float64 (vocab + 1,): the token that P1
        got, then the logits it was chosen from in vocabulary order (or none); of several tokens a row
        each, (n, vocab + 1); for BERT the hidden states (n, d_model).
        """

    @classmethod
    def token(cls, parts: Parts) -> int:
        """The token that P1 gets of one step of a generation, from all roles' parts: for printing."""
        return int(parts[P1][0])

    @classmethod
    def plaintext(cls, workload: Workload, seed: int, options: Any) -> Tensor:
        """The answer to check against: exact, unless a system says what it approximates."""
        return answer(workload, seed)

    @classmethod
    def plain_model(cls, workload: Generation, seed: int, options: Any) -> PlainRun:
        """The model to check a generation against: exact, unless a system says otherwise."""
        return PlainModel(workload.spec, model_weights(workload, seed))

    @classmethod
    def approximates(cls, options: Any) -> bool:
        """Whether `plaintext` and `plain_model` are not the exact ones, whose answer a record then has
        beside theirs: of a system that overrides them, unless it says otherwise."""
        return any(
            getattr(cls, name).__func__ is not getattr(System, name).__func__
            for name in ("plaintext", "plain_model")
        )

    @classmethod
    def tolerance(cls, workload: Workload) -> float:
        """Largest acceptable error against plaintext in the workload's metric: of an index none, else
        relative rms."""
        if isinstance(workload, Argmax):
            return 0.0
        return 1e-2 if isinstance(workload, Generation) else 2e-3

    @classmethod
    def bounds(cls, options: Any) -> Sequence[Bound]:
        """How large the values of a model may be; beyond, its answers may be wrong."""
        return ()

    @classmethod
    def stored_bytes(cls, workload: Workload, options: Any) -> Mapping[Role, int] | None:
        """What each role keeps of the model's matrices from `prepare` on, in the clear, masked or
        shared; keys count where that is all. None where there is no model, or the system does not say."""
        return None

    @classmethod
    @abstractmethod
    def cost(cls, workload: Workload, options: Any) -> dict[Phase, PhaseCost]:
        """Payload bytes and hops of one evaluation, by phase."""

    @classmethod
    def parameters(cls, workload: Workload, options: Any) -> str | None:
        """What the system chose for this workload beyond its options, in a line: for records. None where
        it chose nothing."""
        return None

    @classmethod
    def needs(cls, workload: Workload, options: Any) -> Mapping[Role, Need]:
        """Peak memory of each role's process, and disk that it fills, estimated; within about 30 % where
        a system says so itself (`protocols.footprint`). Unless it does: two shares of 8 bytes a weight
        at each role."""
        return peaks(dict.fromkeys(cls.roles(options), UNDECLARED), sizes(workload))
