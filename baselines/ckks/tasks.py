"""What P1 encrypts and decrypts for each experiment, and the circuit in between."""

from abc import ABC, abstractmethod
from math import prod
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from baselines.ckks.attention import Head
from baselines.ckks.functions import (
    DEVIATION,
    ELEMENTWISE,
    INPUT_SCALE,
    RANGES,
    Rows,
    layernorm,
    softmax,
)
from baselines.ckks.matrix import Diagonals
from baselines.ckks.operations import Operations, Slots
from protocols.errors import OutOfRange, Unsupported
from protocols.inputs import attention_input, linear_input, nonlinear_input
from protocols.workload import Attention, Linear, Nonlinear

V = TypeVar("V")


class Task(ABC):
    """One experiment in ciphertexts of so many slots."""

    counts: tuple[int, ...]  # ciphertexts of each input

    @abstractmethod
    def inputs(self, seed: int) -> tuple[Slots, ...]:
        """P1: slots (count, slots) of each input. Raises OutOfRange."""

    @abstractmethod
    def answer(self, slots: Slots) -> Tensor:
        """P1: the answer from the slots of what it decrypts, float64."""


class MatrixProduct(Task):
    """A linear layer (`matrix`)."""

    def __init__(self, work: Linear, slots: int) -> None:
        self._work = work
        self.diagonals = Diagonals(work.d_out, work.d_in, slots)
        self.counts = (work.n * self.diagonals.column_blocks,)

    def inputs(self, seed: int) -> tuple[Slots, ...]:
        """See the base class."""
        return (self.diagonals.pack(linear_input(self._work.n, self._work.d_in, seed)),)

    def answer(self, slots: Slots) -> Tensor:
        """See the base class."""
        return self.diagonals.unpack(slots, self._work.n)


class Circuit(Task):
    """What `Operations` compute. name: for errors."""

    name: str

    @abstractmethod
    def evaluate(self, ops: Operations[V], *inputs: V) -> V:
        """P0's work."""


class Elementwise(Circuit):
    """A function of each element; slots that are left over hold the middle of its range."""

    def __init__(self, work: Nonlinear, slots: int) -> None:
        self.name, self._work, self._slots = work.op, work, slots
        self.counts = (-(-prod(work.shape) // slots),)

    def inputs(self, seed: int) -> tuple[Slots, ...]:
        """See the base class."""
        op = self._work.op
        x = nonlinear_input(op, self._work.shape, seed).reshape(-1)
        require_range(op, x, *RANGES[op])
        full = np.full(self.counts[0] * self._slots, sum(RANGES[op]) / 2)
        full[: len(x)] = x.numpy()
        return (full.reshape(self.counts[0], -1) * INPUT_SCALE.get(op, 1.0),)

    def evaluate(self, ops: Operations[V], *inputs: V) -> V:
        """See the base class."""
        answer: V = ELEMENTWISE[self._work.op](ops, *inputs)
        return answer

    def answer(self, slots: Slots) -> Tensor:
        """See the base class."""
        shape = self._work.shape
        return torch.from_numpy(slots.reshape(-1)[: prod(shape)]).reshape(shape)


class OfRows(Circuit):
    """Softmax or LayerNorm of rows."""

    def __init__(self, work: Nonlinear, slots: int) -> None:
        self.name, self._work = work.op, work
        length = work.shape[-1]
        if length > slots:
            raise Unsupported(
                f"{work.op}: a row of {length} values is longer than the {slots} slots of a ciphertext: "
                "a larger system.degree"
            )
        self._rows = Rows.of(length, slots)
        self._n = prod(work.shape[:-1])
        self.counts = (-(-self._n // self._rows.per),)

    def inputs(self, seed: int) -> tuple[Slots, ...]:
        """See the base class."""
        op, shape = self._work.op, self._work.shape
        x = nonlinear_input(op, shape, seed).reshape(self._n, -1)
        if op == "softmax":
            require_range("score", x, *RANGES["softmax"])
            return (self._rows.pack(x) * INPUT_SCALE["softmax"],)
        require_range("deviation of a row", x.std(dim=1, correction=0), *DEVIATION)
        return (self._rows.pack(x),)

    def evaluate(self, ops: Operations[V], *inputs: V) -> V:
        """See the base class."""
        (x,), rows = inputs, self._rows
        if self._work.op == "softmax":
            return softmax(ops, x, rows.length, rows.valid(), rows.sums)
        return layernorm(ops, x, rows)

    def answer(self, slots: Slots) -> Tensor:
        """See the base class."""
        return self._rows.unpack(slots, self._n).reshape(self._work.shape)


class AttentionHead(Circuit):
    """One attention head."""

    def __init__(self, work: Attention, slots: int) -> None:
        self.name, self._work = "attention", work
        self._head = Head(work.kv_len, work.d_head, slots)
        if not self._head.fits:
            raise Unsupported(
                f"attention: {work.kv_len} keys of width {work.d_head} are more than the {slots} slots of "
                "a ciphertext, both padded to powers of two: a larger system.degree"
            )
        self.counts = (work.q_len, 1, 1)

    def inputs(self, seed: int) -> tuple[Slots, ...]:
        """See the base class."""
        given = attention_input(self._work, seed)
        scores = given.q @ given.k.T / self._work.d_head**0.5
        require_range("score", scores, *RANGES["softmax"])
        head = self._head
        return head.pack_queries(given.q), head.pack_rows(given.k), head.pack_rows(given.v)

    def evaluate(self, ops: Operations[V], *inputs: V) -> V:
        """See the base class."""
        return self._head.attend(ops, *inputs)

    def answer(self, slots: Slots) -> Tensor:
        """See the base class."""
        return self._head.unpack(slots)


def circuit(work: Nonlinear | Attention, slots: int) -> Circuit:
    """The circuit of a workload. Raises Unsupported."""
    if isinstance(work, Attention):
        return AttentionHead(work, slots)
    if work.op in ELEMENTWISE:
        return Elementwise(work, slots)
    if work.op in ("softmax", "layernorm"):
        return OfRows(work, slots)
    raise Unsupported(
        f"CKKS computes sums and products: {work.op} is no polynomial, however coarse"
    )


def require_range(what: str, x: Tensor, low: float, high: float) -> None:
    """Raise OutOfRange for a value outside [low, high]."""
    least, most = float(x.min()), float(x.max())
    if least < low or most > high:
        worst = least if least < low else most
        raise OutOfRange(f"ckks: {what} {worst:.4g} is outside [{low:g}, {high:g}]")
