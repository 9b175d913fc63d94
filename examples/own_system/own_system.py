"""A transformer layer whose matrices P0 multiplies and whose rest P1 computes: 2 hops a matrix, 8 a layer.

| phase | from | to | what, for each matrix W (m, k) and its n rows | payload | hop |
|---|---|---|---|---|---|
| prepare | P2 | P0 | A, uniform | 8·m·k | 1 |
| prepare | P0 | P1 | E = W − A | 8·m·k | 2 |
| offline | P2 | P0 | c0, uniform | 8·n·m | 1 |
| offline | P2 | P1 | B, uniform, and c1 = B·Aᵀ − c0 | 8·n·(k + m) | 1 |
| online | P1 | P0 | D = x − B | 8·n·k | 1 |
| online | P0 | P1 | y0 = D·Wᵀ + c0 + b | 8·n·m | 2 |

    P1:  y = y0 + B·Eᵀ + c1 = x·Wᵀ + b

B hides x from P0, who learns nothing. A hides W from P1, who sees what each matrix makes of its input and
could solve for W: an example, no recommendation. Semi-honest, no two roles collude.

A share of a tensor is the tensor itself at P1, and its shape alone (on torch's device `meta`) elsewhere.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

import permbench as pb
from permbench import EXACT, P0, P1, P2


@dataclass(frozen=True)
class OwnOptions:
    frac: int = field(default=16, metadata=pb.doc("fractional bits of x and W, half of y's"))


class OwnLinear(pb.SharedLinear[Tensor]):
    def __init__(self, ops: "OwnPrimitives", shape: tuple[int, int], own: Any) -> None:
        self.ops, self.shape, self.own = ops, shape, own
        self.dealt: deque[tuple[Tensor, ...]] = deque()

    def prepare(self) -> None:
        ops, party = self.ops, self.ops.party
        if party.role == P2:
            self.a = ops.stream.int64(*self.shape)
            party.send(P0, self.a)
        if party.role == P0:
            self.weight, self.bias = ops.encode(self.own.weight, 1), ops.encode(self.own.bias, 2)
            party.send(P1, self.weight - party.recv(P2)[0])
        if party.role == P1:
            (self.e,) = party.recv(P0)

    def __call__(self, x: Tensor) -> Tensor:
        n, (m, k), party = x.shape[0], self.shape, self.ops.party
        if party.role == P2:
            b, c0 = self.ops.stream.int64(n, k), self.ops.stream.int64(n, m)
            party.send(P0, c0)
            party.send(P1, b, pb.linear(self.a, b) - c0)
        elif self.ops.without_data:
            self.dealt.append(party.recv(P2))
        else:
            dealt = self.dealt.popleft()
            if party.role == P1:
                party.send(P0, self.ops.encode(x, 1) - dealt[0])
                y1 = pb.linear(self.e, dealt[0]) + dealt[1]
                return (party.recv(P0)[0] + y1).double() / self.ops.scale**2
            party.send(P1, pb.linear(self.weight, party.recv(P1)[0]) + dealt[0] + self.bias)
        return torch.empty(n, m, device="meta")


class OwnLayer(pb.SharedLayer[Tensor]):
    """Norms' gains are in the matrix that follows them; P1 knows none."""

    def __init__(self, ops: "OwnPrimitives", spec: pb.TransformerSpec, own: Any) -> None:
        self.spec, matrices = spec, {} if own is None else dict(pb.folded_matrices(spec, own()))
        shapes = pb.layer_shapes(spec).items()
        self.parts = {key: OwnLinear(ops, shape, matrices.get(key)) for key, shape in shapes}

    def prepare(self) -> None:
        for part in self.parts.values():
            part.prepare()

    def normed(self, which: int, x: Tensor) -> Tensor:
        return EXACT.normalize(x, self.spec.norm_eps, self.spec.rms_norm)

    def projected(self, x: Tensor, tables: Any) -> tuple[Tensor, Tensor, Tensor]:
        spec = self.spec
        rows = self.parts["qkv"](x).reshape(len(x), -1, spec.d_head).transpose(0, 1)
        q, k, v = rows.split([spec.n_heads, spec.kv_heads, spec.kv_heads])
        return q / spec.d_head**0.5, k, v

    def up(self, x: Tensor) -> Tensor:
        return self.parts["up"](x)

    def added(self, key: str, x: Tensor, residual: Tensor) -> Tensor:
        return residual + self.parts[key](x)


class OwnCache(pb.SharedCache[Tensor]):
    def __init__(self, ops: "OwnPrimitives") -> None:
        self.ops = ops
        self.clear()

    def clear(self) -> None:
        self.rows: dict[bool, list[Tensor]] = {}  # keys and values of each of the two passes

    def fill(self, k: Tensor, v: Tensor) -> None:
        before = self.rows.get(self.ops.without_data, [k[:, :0], v[:, :0]])
        grown = [torch.cat(pair, dim=1) for pair in zip(before, (k, v), strict=True)]
        self.rows[self.ops.without_data] = grown

    def scores(self, q: Tensor, k: Tensor, v: Tensor, seen: pb.Seen) -> Tensor:
        self.fill(k, v)
        return q @ self.rows[self.ops.without_data][0].transpose(1, 2)

    def weighted(self, p: Tensor) -> Tensor:
        return p @ self.rows[self.ops.without_data][1]


class OwnPrimitives(pb.Primitives[Tensor]):
    deals = True
    without_data = True

    def __init__(self, system: "Own") -> None:
        super().__init__(system.party)
        self.stream = pb.Prg.root(system.key_seed, "own").stream("dealer")
        self.scale = 2.0**system.options.frac

    def encode(self, x: Tensor, scales: int) -> Tensor:
        return torch.round(x.double() * self.scale**scales).long()

    def begin_offline(self, step: int) -> None:
        self.without_data = True

    def begin_online(self) -> None:
        self.without_data = False

    def given(self, own: Tensor | None, shape: tuple[int, ...]) -> Tensor:
        return torch.empty(shape, device="meta") if own is None else own

    def part(self, x: Tensor) -> tuple[Tensor, ...]:
        return (x,) if self.party.role == P1 else ()

    def each(self, x: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
        return change(x)

    def linear(self, name: str, shape: tuple[int, int], own: Any) -> OwnLinear:
        return OwnLinear(self, shape, None if own is None else own())

    def layer(self, name: str, spec: pb.TransformerSpec, own: Any) -> OwnLayer:
        return OwnLayer(self, spec, own)

    def cache(self, spec: pb.TransformerSpec) -> OwnCache:
        return OwnCache(self)

    def softmax(self, scores: Tensor, visible: Tensor | None) -> Tensor:
        return scores if scores.is_meta else EXACT.softmax(scores, visible)

    def activation(self, spec: pb.TransformerSpec, x: Tensor) -> Tensor:
        return EXACT.activate(spec, x)


class Own(pb.SharesSystem[Tensor]):
    """Own: P0 multiplies its matrices, P1 computes the rest in the clear; an example"""

    Options = OwnOptions
    learns = "P1: every product"

    @classmethod
    def online_roles(cls, options: OwnOptions) -> tuple[pb.Role, ...]:
        return (P0, P1)

    def primitives(self) -> OwnPrimitives:
        return OwnPrimitives(self)

    @classmethod
    def check(cls, workload: pb.Workload, options: OwnOptions, user: Any = None) -> None:
        gpt2 = isinstance(workload, pb.Layer) and workload.spec.family == "gpt2"
        if not gpt2 and not isinstance(workload, pb.Linear):
            raise pb.Unsupported("own computes linear layers, and layers of the family gpt2, alone")

    @classmethod
    def reveal(cls, parts: pb.Parts, workload: pb.Workload, options: OwnOptions) -> Tensor:
        return parts[P1][0]

    @classmethod
    def cost(cls, workload: pb.Workload, options: OwnOptions) -> dict[pb.Phase, pb.PhaseCost]:
        if isinstance(workload, pb.Linear):
            n, shapes = workload.n, [(workload.d_out, workload.d_in)]
        else:
            n, shapes = workload.q_len, list(pb.layer_shapes(workload.spec).values())
        weights = 8 * sum(m * k for m, k in shapes)
        y, x = (8 * n * sum(sizes) for sizes in zip(*shapes, strict=True))
        return {
            "prepare": pb.PhaseCost(2, {(P2, P0): weights, (P0, P1): weights}),
            "offline": pb.PhaseCost(1, {(P2, P0): y, (P2, P1): x + y}),
            "input": pb.PhaseCost(0),
            "online": pb.PhaseCost(2 * len(shapes), {(P1, P0): x, (P0, P1): y}),
        }
