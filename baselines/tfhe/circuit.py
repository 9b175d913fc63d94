"""Circuits, keys and ciphertexts by Concrete (`concrete-python`, BSD-3-Clause), which is imported here alone.

A circuit follows from public sizes: weights are an argument in the clear, so that neither its parameters
nor its code depend on them, and both parties compile the same one. Concrete's optimizer chooses the
parameters, for 128 bits of security and a wrong answer with probability below 10^-5. Sizes in bytes:

| what | bytes |
|---|---|
| encrypted input, each value a seed of 16 and a body of 8 | 264 + 24·values |
| encrypted answer, LWE of dimension n | 264 + 8·(n + 1)·values |
| evaluation keys, where there is a table | 320 + 8·d·l·(k + 1)²·N + 8·D·m·(d + 1), else 64 |

d, l, k, N: input dimension, levels, GLWE dimension and polynomial size of the bootstrapping key; D, m:
input dimension and levels of the key-switching key, which leads to dimension d.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib.metadata import PackageNotFoundError, version
from itertools import product
from math import prod
from threading import Lock
from typing import Any, assert_never

import numpy as np
import torch
from torch import Tensor

from baselines.tfhe.options import TfheOptions
from baselines.tfhe.quantise import table
from protocols.errors import PeerError, Unsupported
from protocols.workload import Linear, Nonlinear

PACKAGE, INSTALL = "concrete-python", "pip install 'permbench[tfhe]'"
VALUE_HEADER, SEEDED_BYTES, WORD_BYTES = 264, 24, 8
KEYS_HEADER, KEY_HEADER = 64, 128
Work = Linear | Nonlinear
_compiling = Lock()  # one circuit at a time: parties may be threads of one process


def require_concrete() -> None:
    """Raise Unsupported, with what installs it, where Concrete is missing."""
    try:
        version(PACKAGE)
    except PackageNotFoundError:
        raise Unsupported(f"system=tfhe needs {PACKAGE}: {INSTALL}") from None


@dataclass(frozen=True)
class Circuit:
    """A compiled workload. compiled: Concrete's own."""

    work: Work
    compiled: Any

    @cached_property
    def _info(self) -> dict[str, Any]:
        """Its parameters, as Concrete publishes them."""
        found: dict[str, Any] = json.loads(self.compiled.client.specs.serialize())
        return found

    @property
    def input_bytes(self) -> int:
        """Of the encrypted input."""
        return VALUE_HEADER + SEEDED_BYTES * _values(self.work)[0]

    @property
    def answer_bytes(self) -> int:
        """Of the encrypted answer."""
        return VALUE_HEADER + WORD_BYTES * (self.answer_dimension + 1) * _values(self.work)[1]

    @property
    def answer_dimension(self) -> int:
        """n: of the LWE ciphertexts of the answer."""
        (answer,) = self._info["circuits"][0]["outputs"]
        found: int = answer["typeInfo"]["lweCiphertext"]["encryption"]["lweDimension"]
        return found

    @property
    def key_bytes(self) -> int:
        """Of the evaluation keys."""
        keys = self._info["keyset"]
        words = [
            *(_boot_words(key["params"]) for key in keys["lweBootstrapKeys"]),
            *(_switch_words(key["params"]) for key in keys["lweKeyswitchKeys"]),
        ]
        return KEYS_HEADER + KEY_HEADER * len(words) + WORD_BYTES * sum(words)


def _boot_words(key: dict[str, Any]) -> int:
    """d·l·(k + 1)²·N"""
    rows = (key["glweDimension"] + 1) ** 2
    found: int = key["inputLweDimension"] * key["levelCount"] * rows * key["polynomialSize"]
    return found


def _switch_words(key: dict[str, Any]) -> int:
    """D·m·(d + 1)"""
    found: int = key["inputLweDimension"] * key["levelCount"] * (key["outputLweDimension"] + 1)
    return found


def _values(work: Work) -> tuple[int, int]:
    """How many are encrypted, and how many come back."""
    match work:
        case Linear(n, d_in, d_out):
            return n * d_in, n * d_out
        case Nonlinear():
            return (prod(work.shape),) * 2
        case _:
            assert_never(work)


@lru_cache(maxsize=8)
def _compiled(work: Work, options: TfheOptions) -> Circuit:
    from concrete import fhe  # noqa: PLC0415 - an optional extra

    configuration = fhe.Configuration(
        compress_input_ciphertexts=True, dump_artifacts_on_unexpected_failures=False
    )
    function, arguments, inputs = (
        _linear(work, options.linear_bits)
        if isinstance(work, Linear)
        else _nonlinear(work, options.table_bits)
    )
    try:
        compiled = fhe.Compiler(function, arguments).compile(inputs, configuration)
    except RuntimeError as error:
        raise Unsupported(f"Concrete finds no parameters for it: {error}") from error
    return Circuit(work, compiled)


def circuit(work: Work, options: TfheOptions) -> Circuit:
    """The circuit of a workload, compiled once. Raises Unsupported."""
    require_concrete()
    with _compiling:
        return _compiled(work, options)


def _linear(work: Linear, bits: int) -> tuple[Any, dict[str, str], list[Any]]:
    """x·w + c for encrypted x (n, d_in), with w (d_in, d_out) and c (1, d_out) in the clear; and the
    corners of their ranges."""
    half = 1 << (bits - 1)
    most, bias = half - 1, 1 << (2 * bits - 2)
    corners = product((-half, most), (-most, most), (-bias, bias))
    shapes = (work.n, work.d_in), (work.d_in, work.d_out), (1, work.d_out)
    inputs = [tuple(map(np.full, shapes, corner)) for corner in corners]

    def function(x: Any, w: Any, c: Any) -> Any:
        return x @ w + c

    return function, {"x": "encrypted", "w": "clear", "c": "clear"}, inputs


def _nonlinear(work: Nonlinear, bits: int) -> tuple[Any, dict[str, str], list[Any]]:
    """A table for each of encrypted bins (1, values); the first and the last bin."""
    from concrete import fhe  # noqa: PLC0415 - an optional extra

    levels = fhe.LookupTable(table(work.op, bits).levels.tolist())
    shape = (1, prod(work.shape))
    inputs = [np.full(shape, value) for value in (0, (1 << bits) - 1)]
    return lambda x: levels[x], {"x": "encrypted"}, inputs


class User:
    """P1: makes the keys, encrypts, decrypts. key_seed: of the secret keys, for tests; with None, as all
    masks and noise are, they are drawn by Concrete from the operating system."""

    def __init__(self, made: Circuit, key_seed: int | None) -> None:
        from concrete import fhe  # noqa: PLC0415 - an optional extra

        self._fhe, self._made = fhe, made
        self._client = fhe.Client(made.compiled.client.specs)
        self._client.keygen(force=True, secret_seed=key_seed, encryption_seed=key_seed)

    def evaluation_keys(self) -> Tensor:
        """uint8 (key_bytes,)."""
        return _tensor(self._client.evaluation_keys.serialize())

    def encrypt(self, x: Tensor) -> Tensor:
        """Of int64 x (rows, values), uint8 (input_bytes,)."""
        others = [None] * (len(self._made.compiled.graph.input_nodes) - 1)
        found = self._client.encrypt(x.numpy(), *others)
        return _tensor((found[0] if others else found).serialize())

    def decrypt(self, *message: Tensor) -> Tensor:
        """The answer, int64 (rows, values). Raises PeerError."""
        what, size = "reply: the encrypted answer", self._made.answer_bytes
        value = _deserialised(self._fhe.Value, message, size, what)
        return torch.from_numpy(np.asarray(self._client.decrypt(value), np.int64))


class Evaluator:
    """P0: evaluates on ciphertexts, with P1's keys and arguments of its own in the clear."""

    def __init__(self, made: Circuit, *clear: Tensor) -> None:
        from concrete import fhe  # noqa: PLC0415 - an optional extra

        self._fhe, self._made = fhe, made
        self._server = made.compiled.server
        self._clear = [argument.numpy() for argument in clear]
        self._keys: Any = None

    def take_keys(self, *message: Tensor) -> None:
        """P1's evaluation keys. Raises PeerError."""
        what, size = "keys: the evaluation keys", self._made.key_bytes
        self._keys = _deserialised(self._fhe.EvaluationKeys, message, size, what)

    def evaluate(self, *message: Tensor) -> Tensor:
        """The encrypted answer, uint8 (answer_bytes,). Raises PeerError."""
        what, size = "request: the encrypted input", self._made.input_bytes
        value = _deserialised(self._fhe.Value, message, size, what)
        try:
            answer = self._server.run(value, *self._clear, evaluation_keys=self._keys)
        except (RuntimeError, ValueError) as error:  # parameters of other ciphertexts
            raise PeerError(f"{what} does not fit the circuit: {error}") from error
        return _tensor(answer.serialize())


def _tensor(data: bytes) -> Tensor:
    return torch.frombuffer(bytearray(data), dtype=torch.uint8)


def _deserialised(kind: Any, message: Sequence[Tensor], size: int, what: str) -> Any:
    """One of Concrete's objects from a message of just its size. Raises PeerError."""
    given = [(tensor.dtype, tuple(tensor.shape)) for tensor in message]
    if given != [(torch.uint8, (size,))]:
        found = ", ".join(f"{dtype} {shape}" for dtype, shape in given)
        raise PeerError(f"{what} is {found or 'nothing'}, not uint8 ({size},)")
    try:
        return kind.deserialize(message[0].numpy().tobytes())
    except (RuntimeError, ValueError) as error:
        raise PeerError(f"{what} cannot be read: {error}") from error
