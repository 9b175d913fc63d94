"""One party of CrypTen (github.com/facebookresearch/CrypTen) for an experiment of permbench's, in CrypTen's
own environment.

    python crypten_party.py RANK WORKLOAD INPUTS THREADS HOST PORT

Rank 0 listens at HOST and PORT, rank 1 connects there. Rank 0 shares the weights, rank 1 all other inputs.
Then, for each line on the standard input: compute, print `done` (of argmax once rank 1 knows the index),
and reveal the answer to rank 1, which prints it.

Everything is CrypTen's own, two things apart. Its connections choose their ports themselves, which nobody
can put behind a link: `Link` stands in for them, and an opening is one message each way. And it imports
parts of PyTorch that are no more: `_stand_in` gives it an empty module.

GELU and softmax are MPCFormer's (arXiv 2211.01452): Quad and 2Quad. CrypTen has no LayerNorm; it is put
together from its mean, square and inverse square root.
"""

import json
import socket
import sys
import time
import types
from collections.abc import Callable, Sequence
from contextlib import suppress
from math import ceil, log2
from queue import SimpleQueue
from threading import Thread
from typing import Any

import numpy as np
import torch
from torch import Tensor

UNSUPPORTED = 127  # the exit code that says so
WEIGHTS_OWNER, INPUT_OWNER = 0, 1
AT_ONCE_BYTES = 1 << 16  # that a socket takes though nobody reads
UNTIL_READ_S = 0.1  # for the line `done`, at whose time bytes are counted
WAIT_S = 60.0  # for the other party to listen
OFFSET = 5.0  # of 2Quad


def _stand_in(name: str) -> None:
    sys.modules[name] = types.ModuleType(name)


_stand_in("torch.onnx.symbolic_registry")
import crypten  # noqa: E402
from crypten import communicator  # noqa: E402
from crypten.config import cfg  # noqa: E402

Shared = Any  # crypten's CrypTensor


class Done:
    """What CrypTen waits for."""

    def wait(self) -> None:
        """Nothing: it is sent, or received."""


class Link:
    """CrypTen's communicator between two parties, over one connection: tensors as they are in memory."""

    def __init__(self, rank: int, host: str, port: int) -> None:
        self._rank = rank
        self._socket = _accepted(host, port) if rank == 0 else _connected(host, port)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._outgoing: SimpleQueue[memoryview] = SimpleQueue()
        Thread(target=self._send_all, daemon=True).start()
        self._sent: SimpleQueue[None] = SimpleQueue()

    def get_rank(self) -> int:
        """0 or 1."""
        return self._rank

    def get_world_size(self) -> int:
        """Two."""
        return 2

    def isend(self, tensor: Tensor, dst: int) -> Done:
        """To the other."""
        self._exchange([tensor], None)
        return Done()

    def irecv(self, tensor: Tensor, src: int | None = None) -> Done:
        """From the other, in place."""
        self._exchange(None, [tensor])
        return Done()

    def broadcast(self, tensor: Tensor, src: int) -> Tensor:
        """The tensor of `src`, in place."""
        own = src == self._rank
        self._exchange([tensor] if own else None, None if own else [tensor])
        return tensor

    def all_reduce(self, given: Any, op: Any = None, batched: bool = False) -> Any:
        """Sums, or with BXOR exclusive ors, of both parties' tensors."""
        mine = list(given) if batched else [given]
        theirs = [torch.empty_like(tensor) for tensor in mine]
        self._exchange(mine, theirs)
        made = [_combined(a, b, op) for a, b in zip(mine, theirs, strict=True)]
        return made if batched else made[0]

    def reduce(self, given: Any, dst: int, op: Any = None, batched: bool = False) -> Any:
        """The same at `dst` alone; None at the other."""
        mine = list(given) if batched else [given]
        if dst != self._rank:
            self._exchange(mine, None)
            return None
        theirs = [torch.empty_like(tensor) for tensor in mine]
        self._exchange(None, theirs)
        made = [_combined(a, b, op) for a, b in zip(mine, theirs, strict=True)]
        return made if batched else made[0]

    def barrier(self) -> None:
        """Until both are here."""
        self.all_reduce(torch.zeros(1, dtype=torch.long))

    def _exchange(self, out: Sequence[Tensor] | None, into: Sequence[Tensor] | None) -> None:
        """Send and receive at the same time."""
        kept = [_bytes(tensor.contiguous()) for tensor in out or ()]
        message = kept[0] if len(kept) == 1 else memoryview(b"".join(kept))
        beside = len(message) > AT_ONCE_BYTES
        if beside:
            self._outgoing.put(message)
        elif len(message):
            self._socket.sendall(message)
        for tensor in into or ():
            self._receive(tensor)
        if beside:
            self._sent.get()

    def _receive(self, tensor: Tensor) -> None:
        target = tensor if tensor.is_contiguous() else torch.empty(tensor.shape, dtype=tensor.dtype)
        left = _bytes(target)
        while left:
            size = self._socket.recv_into(left)
            if not size:
                sys.exit("the other party has closed the connection")
            left = left[size:]
        if target is not tensor:
            tensor.copy_(target)

    def _send_all(self) -> None:
        while True:
            self._socket.sendall(self._outgoing.get())
            self._sent.put(None)


def _accepted(host: str, port: int) -> socket.socket:
    with socket.create_server((host, port)) as server:
        return server.accept()[0]


def _connected(host: str, port: int) -> socket.socket:
    """Where a connection behind a kernel's link is refused, the other does not listen yet."""
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        with suppress(ConnectionRefusedError):
            return socket.create_connection((host, port))
        time.sleep(0.05)
    sys.exit(f"nobody listens at {host}:{port}")


def _bytes(tensor: Tensor) -> memoryview:
    return memoryview(tensor.reshape(-1).numpy()).cast("B") if tensor.numel() else memoryview(b"")


def _combined(a: Tensor, b: Tensor, op: Any) -> Tensor:
    return a ^ b if op == torch.distributed.ReduceOp.BXOR else a + b


def quad(x: Shared) -> Shared:
    """MPCFormer's stand-in for GELU."""
    return x.square().mul(0.125) + x.mul(0.25) + 0.5


def softmax(x: Shared) -> Shared:
    """2Quad of the last axis. CrypTen's reciprocal converges up to 250: sums are scaled down to it."""
    scale = 2 ** max(0, ceil(log2(x.size(-1))))
    squares = (x + OFFSET).square()
    total = squares.sum(-1, keepdim=True).div(scale)
    return (squares * positive_reciprocal(total)).div(scale)


def positive_reciprocal(x: Shared) -> Shared:
    """1/x of x > 0."""
    with cfg.temp_override({"functions.reciprocal_all_pos": True}):
        return x.reciprocal()


def layer_norm(x: Shared, eps: float = 1e-5, gain: Shared = None, bias: Shared = None) -> Shared:
    """Of the last axis."""
    centred = x - x.mean(-1, keepdim=True)
    variance = centred.square().mean(-1, keepdim=True) + eps
    normed = centred * variance.inv_sqrt()
    return normed if gain is None else normed * gain + bias


FUNCTIONS: dict[str, Callable[[Shared], Shared]] = {
    "gelu": quad,
    "softmax": softmax,
    "layernorm": layer_norm,
    "reciprocal": lambda x: x.reciprocal(),
    "rsqrt": lambda x: x.inv_sqrt(),
    "exp": lambda x: x.exp(),
    "comparison": lambda x: x < 0,
}


def linear(w: dict[str, Shared], name: str, x: Shared) -> Shared:
    """x·Wᵀ + b (n, out) of x (n, in); weights are masked and opened at every product."""
    return x.matmul(w[f"{name}.weight"].t()) + w[f"{name}.bias"]


def layer(work: dict[str, Any], given: dict[str, Shared], public: dict[str, Tensor]) -> Shared:
    """One transformer layer, of BERT's, GPT-2's or ChatGLM's kind (n, d) on x (n, d)."""
    spec, w, x = work["spec"], given, given["x"]
    glm, bert = spec["family"] == "glm", spec["family"] == "bert"

    def norm(name: str, x: Shared) -> Shared:
        return layer_norm(x, spec["norm_eps"], w[f"{name}.gain"], w[f"{name}.bias"])

    scale = float((2 * spec["n_layers"]) ** 0.5)
    a = x if bert else norm("attn_norm", x)
    attended = linear(w, "out", attention(work, w, a, public))
    if bert:
        h = norm("attn_norm", x + attended)
        return norm("ffn_norm", h + linear(w, "down", quad(linear(w, "up", h))))
    h = (a.mul(scale) if glm else x) + attended
    b = norm("ffn_norm", h)
    return (b.mul(scale) if glm else h) + linear(w, "down", quad(linear(w, "up", b)))


def attention(
    work: dict[str, Any], w: dict[str, Shared], x: Shared, public: dict[str, Tensor]
) -> Shared:
    """2Quad(q·kᵀ/√d_head)·v of all heads (n, d), before the output's matrix."""
    heads, n, past = work["spec"]["n_heads"], work["q_len"], work["kv_len"] - work["q_len"]
    width = work["spec"]["d_model"]
    rows = linear(w, "qkv", x)
    q, k, v = (
        rows[:, i * width : (i + 1) * width].reshape(n, heads, -1).transpose(0, 1) for i in range(3)
    )
    if "cos" in public:
        q, k = (t * public["cos"] + rotated_half(t) * public["sin"] for t in (q, k))
    if past:
        k = crypten.cat([w["past_k"], k], dim=1)
        v = crypten.cat([w["past_v"], v], dim=1)
    scores = q.matmul(k.transpose(1, 2)).mul(q.size(-1) ** -0.5)
    return softmax(scores).matmul(v).transpose(0, 1).reshape(n, width)


def rotated_half(x: Shared) -> Shared:
    """(a, b) → (−b, a) in each half of a ChatGLM head; x (heads, n, d_head)."""
    part = x.size(-1) // 4
    a, b, c, d = (x[..., i * part : (i + 1) * part] for i in range(4))
    return crypten.cat([-b, a, -d, c], dim=-1)


Function = Callable[[dict[str, Shared]], Shared]


def function_of(work: dict[str, Any], public: dict[str, Tensor]) -> Function | None:
    """The answer from the shared arrays by name; None where it cannot be computed."""
    match work["kind"]:
        case "argmax":
            return lambda given: given["x"].argmax(one_hot=False)
        case "nonlinear":
            return lambda given: FUNCTIONS[work["op"]](given["x"])
        case "linear":
            return lambda given: given["x"].matmul(given["weight"].t()) + given["bias"]
        case "layer" if _fits(work):
            return lambda given: layer(work, given, public)
    return None


def _fits(work: dict[str, Any]) -> bool:
    """Whether `layer` has what a layer needs: 2Quad of scores that a token may not see it has not."""
    spec = work["spec"]
    masked = spec["family"] != "bert" and work["q_len"] > 1
    return spec["family"] != "llama" and not spec["n_kv_heads"] and not masked


def main(rank: str, workload: str, inputs: str, threads: str, host: str, port: str) -> int:
    """Share, get ready, and compute as often as told."""
    torch.set_num_threads(int(threads))
    work = json.loads(workload)
    arrays = {name: torch.from_numpy(array) for name, array in np.load(inputs).items()}
    public = {name: arrays.pop(name) for name in ("cos", "sin") if name in arrays}
    function = function_of(work, public)
    if function is None:
        print(f"CrypTen has no program of ours for {workload}")
        return UNSUPPORTED
    link = Link(int(rank), host, int(port))
    communicator.get = lambda: link
    communicator.is_initialized = lambda: True
    crypten._setup_prng()
    given = {}
    for name in sorted(name for name, array in arrays.items() if array.numel()):
        array = arrays.pop(name)
        owner = INPUT_OWNER if name in ("x", "past_k", "past_v") else WEIGHTS_OWNER
        values = array if owner == link.get_rank() else torch.empty_like(array)
        given[name] = crypten.cryptensor(values, src=owner)
    link.barrier()
    print("ready", flush=True)
    for _ in sys.stdin:
        shared = function(given)
        answer = shared.get_plain_text(dst=INPUT_OWNER) if work["kind"] == "argmax" else None
        print("done", flush=True)
        time.sleep(UNTIL_READ_S if link.get_rank() == INPUT_OWNER else 0.0)
        # What is revealed is no part of what was computed: rank 0 waits for a word of rank 1.
        link.broadcast(torch.zeros(1, dtype=torch.long), INPUT_OWNER)
        if work["kind"] != "argmax":
            answer = shared.get_plain_text(dst=INPUT_OWNER)
        if link.get_rank() == INPUT_OWNER:
            print("answer", *(f"{value:.9g}" for value in answer.reshape(-1).tolist()), flush=True)
        print("ready", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
