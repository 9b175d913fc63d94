"""A linear layer y = x·Wᵀ + b on additive shares in Z_2^64: W and b at P0, x at P1, y = y0 + y1.

| phase | from | to | what | payload | hop |
|---|---|---|---|---|---|
| prepare | P2 | P0 | A, uniform | 8·d_out·d_in | 1 |
| prepare | P0 | P1 | E = W − A | 8·d_out·d_in | 2 |
| offline | P2 | P0 | c0, uniform | 8·n·d_out | 1 |
| offline | P2 | P1 | B, uniform, and c1 = B·Aᵀ − c0 | 8·n·(d_in + d_out) | 1 |
| online | P1 | P0 | D = x − B | 8·n·d_in | 1 |

    P0:  y0 = D·Wᵀ + c0 + b        P1:  y1 = B·Eᵀ + c1        so that y0 + y1 = (D + B)·Wᵀ + b

A hides W from P1, B hides x from P0. Semi-honest, no two roles collude. Nothing is truncated.
"""

from dataclasses import astuple, dataclass, field

import torch
from torch import Tensor

from permbench import (
    P0,
    P1,
    P2,
    Linear,
    Parts,
    Phase,
    PhaseCost,
    Prg,
    System,
    Unsupported,
    UserInput,
    Workload,
    doc,
    linear,
    linear_input,
    synthetic_linear,
)


@dataclass(frozen=True)
class OwnOptions:
    frac: int = field(default=16, metadata=doc("fractional bits of x and W; y has twice as many"))


class Own(System):
    """Own: a linear layer on additive shares, two parties and a dealer; an example"""

    Options = OwnOptions
    online_roles = (P0, P1)
    answer: tuple[Tensor, ...] = ()

    @classmethod
    def check(cls, workload: Workload, options: OwnOptions, user: UserInput | None = None) -> None:
        if not isinstance(workload, Linear):
            raise Unsupported("own computes linear layers alone")

    def prepare(self) -> None:
        self.n, self.d_in, self.d_out = astuple(self.workload)
        self.role, self.scale = self.party.role, 2.0**self.options.frac
        if self.role == P2:
            self.stream = Prg.root(self.key_seed, "own").stream("dealer")
            self.a = self.stream.int64(self.d_out, self.d_in)
            self.party.send(P0, self.a)
        if self.role == P0:
            plain = synthetic_linear(self.d_out, self.d_in, self.seed)
            assert plain.bias is not None
            self.weight = torch.round(plain.weight.double() * self.scale).long()
            self.bias = torch.round(plain.bias.double() * self.scale**2).long()
            self.party.send(P1, self.weight - self.party.recv(P2)[0])
        if self.role == P1:
            (self.e,) = self.party.recv(P0)

    def offline(self, step: int) -> None:
        if self.role == P2:
            b, c0 = self.stream.int64(self.n, self.d_in), self.stream.int64(self.n, self.d_out)
            self.party.send(P0, c0)
            self.party.send(P1, b, linear(self.a, b) - c0)
        else:
            self.dealt = self.party.recv(P2)

    def share_input(self, step: int) -> None:
        if self.role == P1:
            x = linear_input(self.n, self.d_in, self.seed)
            self.x = torch.round(x * self.scale).long()

    def online(self, step: int) -> None:
        if self.role == P1:
            self.party.send(P0, self.x - self.dealt[0])
            self.answer = (linear(self.e, self.dealt[0]) + self.dealt[1],)
        if self.role == P0:
            (d,) = self.party.recv(P1)
            self.answer = (linear(self.weight, d) + self.dealt[0] + self.bias,)

    def output(self) -> tuple[Tensor, ...]:
        return self.answer

    @classmethod
    def reveal(cls, parts: Parts, workload: Workload, options: OwnOptions) -> Tensor:
        return (parts[P0][0] + parts[P1][0]).double() * 4.0**-options.frac

    @classmethod
    def cost(cls, workload: Workload, options: OwnOptions) -> dict[Phase, PhaseCost]:
        n, d_in, d_out = astuple(workload)
        return {
            "prepare": PhaseCost(2, dict.fromkeys([(P2, P0), (P0, P1)], 8 * d_out * d_in)),
            "offline": PhaseCost(1, {(P2, P0): 8 * n * d_out, (P2, P1): 8 * n * (d_in + d_out)}),
            "input": PhaseCost(0),
            "online": PhaseCost(1, {(P1, P0): 8 * n * d_in}),
        }
