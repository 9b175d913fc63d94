"""A system of any number of roles, for tests: each but the dealer has a number, and all learn the sum.

| phase | from | to | what | bytes | hops |
|---|---|---|---|---|---|
| offline | the last role | each other | a mask; all masks add up to 0 | 8 | 1 |
| online | each other than P0 | P0 | its number plus its mask | 8 | 1 |
| online | P0 | each other | the sum | 8 | 1 |

P0 sees masked values and the sum; the dealer nothing.
"""

import secrets
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from protocols.errors import Unsupported
from protocols.options import doc
from protocols.party import ALL_ROLES, P0, Phase, Role
from protocols.system import Parts, PhaseCost, System
from protocols.workload import Argmax, Workload


@dataclass(frozen=True)
class KingOptions:
    """parties: how many roles, the dealer among them."""

    parties: int = field(default=10, metadata=doc("how many roles", "3 to 16"))

    def __post_init__(self) -> None:
        if not 3 <= self.parties <= len(ALL_ROLES):
            raise ValueError(f"parties must be 3 to {len(ALL_ROLES)}, got {self.parties}")


def number_of(role: Role, seed: int) -> Tensor:
    """What `role` brings: int64, ()."""
    return torch.tensor((seed + 1) * (ALL_ROLES.index(role) + 2) ** 3)


class King(System):
    """King: P0 adds masked numbers of all others; for tests"""

    Options = KingOptions

    @classmethod
    def roles(cls, options: KingOptions) -> tuple[Role, ...]:
        return ALL_ROLES[: options.parties]

    @classmethod
    def online_roles(cls, options: KingOptions) -> tuple[Role, ...]:
        return cls.roles(options)[:-1]

    def build(self) -> None:
        self._online = self.online_roles(self.options)
        self._others = [role for role in self._online if role != self.party.role]
        self._dealer = self.roles(self.options)[-1]
        self._sum: tuple[Tensor, ...] = ()

    @classmethod
    def check(cls, workload: Workload, options: KingOptions, user: Any = None) -> None:
        if not isinstance(workload, Argmax):
            raise Unsupported("king adds numbers; take experiment=argmax")

    def offline(self, step: int) -> None:
        if self.party.role != self._dealer:
            (self._mask,) = self.party.recv(self._dealer)
            return
        masks = [torch.tensor(secrets.randbits(62)) for _ in self._online[1:]]
        for role, mask in zip(self._online, [-torch.stack(masks).sum(), *masks], strict=True):
            self.party.send(role, mask)

    def online(self, step: int) -> None:
        if self.party.role == self._dealer:
            return
        masked = number_of(self.party.role, self.seed) + self._mask
        if self.party.role != P0:
            self.party.send(P0, masked)
            self._sum = self.party.recv(P0)
            return
        with self.party.step("sum"):
            for role in self._others:
                masked = masked + self.party.recv(role)[0]
            for role in self._others:
                self.party.send(role, masked)
        self._sum = (masked,)

    def output(self) -> tuple[Tensor, ...]:
        return self._sum

    @classmethod
    def reveal(cls, parts: Parts, workload: Workload, options: KingOptions) -> Tensor:
        sums = {int(parts[role][0]) for role in cls.online_roles(options)}
        return torch.tensor(sums.pop() if len(sums) == 1 else -1)

    @classmethod
    def plaintext(cls, workload: Workload, seed: int, options: KingOptions) -> Tensor:
        return torch.stack([number_of(role, seed) for role in cls.online_roles(options)]).sum()

    @classmethod
    def approximates(cls, options: KingOptions) -> bool:
        return False

    @classmethod
    def cost(cls, workload: Workload, options: KingOptions) -> dict[Phase, PhaseCost]:
        *online, dealer = cls.roles(options)
        ends = [(a, b) for role in online[1:] for a, b in ((role, P0), (P0, role))]
        return {
            "prepare": PhaseCost(0),
            "offline": PhaseCost(1, {(dealer, role): 8 for role in online}),
            "input": PhaseCost(0),
            "online": PhaseCost(2, dict.fromkeys(ends, 8)),
        }
