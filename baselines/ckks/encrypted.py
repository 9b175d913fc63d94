"""The operations of a circuit on ciphertexts: P0's side."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import tenseal.sealapi as seal

from baselines.ckks.keys import EvaluationKeys
from baselines.ckks.operations import Operations, Slots
from baselines.ckks.reencryption import BASE_PRIMES, reencrypted
from baselines.ckks.scheme import Scheme
from protocols.party import Party


@dataclass(frozen=True)
class Batch:
    """Ciphertexts, all of as many primes."""

    parts: tuple[Any, ...]
    primes: int


class Encrypted(Operations[Batch]):
    """On batches. Of two of different lengths the second is one ciphertext, for all of the first."""

    def __init__(self, party: Party, scheme: Scheme, keys: EvaluationKeys) -> None:
        self._party, self._scheme, self._keys = party, scheme, keys
        self._evaluator = scheme.evaluator

    def fresh(self, ciphertexts: Sequence[Any]) -> Batch:
        """What P1 has just encrypted."""
        return Batch(tuple(ciphertexts), self._scheme.parameters.top)

    def at(self, x: Batch, primes: int) -> Batch:
        """The same with fewer primes."""
        if primes == x.primes:
            return x
        level = self._scheme.level(primes)
        return Batch(tuple(self._new("mod_switch_to", part, level) for part in x.parts), primes)

    def add(self, x: Batch, y: Batch) -> Batch:
        """See the base class."""
        return self._pairwise("add", x, y)

    def multiply(self, x: Batch, y: Batch) -> Batch:
        """See the base class."""
        if x is y:
            product = Batch(tuple(self._new("square", part) for part in x.parts), x.primes)
        else:
            product = self._pairwise("multiply", x, y)
        for part in product.parts:
            self._evaluator.relinearize_inplace(part, self._keys.relinearisation)
        return self._rescaled(product)

    def plus(self, x: Batch, constant: float | Slots) -> Batch:
        """See the base class."""
        plain = self._scheme.encoded(constant, x.primes, self._scheme.scale)
        return Batch(tuple(self._new("add_plain", part, plain) for part in x.parts), x.primes)

    def times(self, x: Batch, constant: float | Slots) -> Batch:
        """See the base class."""
        plain = self._scheme.encoded(constant, x.primes, self._scheme.scale)
        parts = tuple(self._new("multiply_plain", part, plain) for part in x.parts)
        return self._rescaled(Batch(parts, x.primes))

    def negative(self, x: Batch) -> Batch:
        """See the base class."""
        return Batch(tuple(self._new("negate", part) for part in x.parts), x.primes)

    def rotate(self, x: Batch, step: int) -> Batch:
        """See the base class."""
        keys = self._keys.galois
        return Batch(tuple(self._new("rotate_vector", p, step, keys) for p in x.parts), x.primes)

    def ready(self, x: Batch, levels: int) -> Batch:
        """See the base class."""
        if x.primes - BASE_PRIMES >= levels:
            return x
        copies = [self._new("mod_switch_to", p, self._scheme.level(BASE_PRIMES)) for p in x.parts]
        return self.fresh(reencrypted(self._party, self._scheme, copies))

    def _pairwise(self, name: str, x: Batch, y: Batch) -> Batch:
        primes = min(x.primes, y.primes)
        x, y = self.at(x, primes), self.at(y, primes)
        others = y.parts * len(x.parts) if len(y.parts) == 1 else y.parts
        pairs = zip(x.parts, others, strict=True)
        return Batch(tuple(self._new(name, a, b) for a, b in pairs), primes)

    def _rescaled(self, x: Batch) -> Batch:
        for part in x.parts:
            self._evaluator.rescale_to_next_inplace(part)
            part.scale = self._scheme.scale
        return Batch(x.parts, x.primes - 1)

    def _new(self, name: str, *given: Any) -> Any:
        """What SEAL's evaluator makes of these."""
        out = seal.Ciphertext()
        getattr(self._evaluator, name)(*given, out)
        return out
