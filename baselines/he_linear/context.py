"""One role's keys, its transport, and the pass under way.

| phase | from | to | what | bytes | hop |
|---|---|---|---|---|---|
| prepare, BFV | P1 | P0 | public key (`cipher`) | 2·6N + 16 | 1 |
| prepare, CKKS | P1 | P0 | Galois keys, public key (`ckks_linear`) | `key_bytes` | 1 |

A tensor "in shared form" is the tensor itself at P1, float64, and its shape alone (on torch's device `meta`)
elsewhere and in the offline pass.
"""

import torch
from torch import Tensor

from baselines.ckks.keys import KEYS, EvaluationKeys, SecretKey
from baselines.ckks.scheme import Scheme
from baselines.he_linear.cipher import Provider, User
from baselines.he_linear.ckks_parameters import CkksSizes
from baselines.he_linear.parameters import SEED_BYTES, BfvSizes, N
from baselines.he_linear.sizes import Sizes
from protocols.arith.prg import Prg
from protocols.arith.word_bytes import WORD_BYTES
from protocols.errors import PeerError
from protocols.party import P0, P1, Party, Role

Expected = tuple[torch.dtype, tuple[int, ...]]
KEY: tuple[Expected, Expected] = (
    (torch.uint8, (2 * N * WORD_BYTES,)),
    (torch.uint8, (SEED_BYTES,)),
)


class CkksKeys:
    """One role's under CKKS: `secret` at P1, `evaluation` at P0."""

    secret: SecretKey
    evaluation: EvaluationKeys

    def __init__(self, sizes: CkksSizes) -> None:
        self._needed, self.scheme = sizes.needed, Scheme(sizes.parameters)

    def establish(self, party: Party) -> None:
        """P1 makes keys and sends what P0 needs. Raises PeerError."""
        with party.step(KEYS):
            if party.role == P1:
                self.secret = SecretKey(self.scheme)
                party.send(P0, *self.secret.public(self._needed))
            if party.role == P0:
                self.evaluation = EvaluationKeys(self.scheme, self._needed, party.recv(P1))


class Context:
    """sizes: of what is encrypted, if anything."""

    def __init__(self, party: Party, key_seed: int | None, sizes: Sizes | None) -> None:
        self.party, self.sizes = party, sizes
        self.offline_pass = True
        self.orders = Prg.root(key_seed, "orders").stream("permutations")  # P0
        self._key_seed = key_seed
        self._user: User | None = None
        self._provider: Provider | None = None
        self._ckks = CkksKeys(sizes) if isinstance(sizes, CkksSizes) else None

    def establish(self) -> None:
        """Phase prepare: keys, where anything is encrypted."""
        if self._ckks is not None:
            self._ckks.establish(self.party)
        if not isinstance(self.sizes, BfvSizes):
            return
        if self.party.role == P1:
            self._user = User(self.sizes.plain_bits, self._key_seed)
            self.party.send(P0, *self._user.public_key())
        if self.party.role == P0:
            key, seed = self.receive("public key", P1, *KEY)
            try:
                self._provider = Provider(key, seed, self.sizes.plain_bits, self._key_seed)
            except ValueError as error:
                raise PeerError(f"public key: {error}") from None

    @property
    def user(self) -> User:
        """P1's."""
        if self._user is None:
            raise RuntimeError("prepare comes first")
        return self._user

    @property
    def provider(self) -> Provider:
        """P0's."""
        if self._provider is None:
            raise RuntimeError("prepare comes first")
        return self._provider

    @property
    def ckks(self) -> CkksKeys:
        """This role's."""
        if self._ckks is None:
            raise RuntimeError("nothing is encrypted under CKKS")
        return self._ckks

    def receive(self, step: str, source: Role, *expected: Expected) -> tuple[Tensor, ...]:
        """The next message of `source`, a tensor of each type and shape. Raises PeerError with the step's
        name for one that is anything else, or holds a real number that is not finite."""
        tensors = self.party.recv(source)
        sent = [(tensor.dtype, tuple(tensor.shape)) for tensor in tensors]
        if sent != list(expected):
            raise PeerError(f"{step}: {source} sent {_described(sent)}, not {_described(expected)}")
        if not all(bool(t.isfinite().all()) for t in tensors if t.is_floating_point()):
            raise PeerError(f"{step}: {source} sent a number that is not finite")
        return tensors


def _described(tensors: "list[Expected] | tuple[Expected, ...]") -> str:
    return ", ".join(f"{dtype} {shape}" for dtype, shape in tensors) or "nothing"
