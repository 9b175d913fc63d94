"""One party of SPU (github.com/secretflow/spu) for an experiment of permbench's, in SPU's own environment.

    python spu_party.py PROTOCOL RANK WORKLOAD INPUTS THREADS ADDRESS ADDRESS [ADDRESS]

PROTOCOL: ABY3 (three parties), CHEETAH or SEMI2K (two). ADDRESS: of each rank, as this one reaches it; its
own is where it listens. Rank 0 shares the weights, rank 1 all other inputs. Then, for each line on the
standard input: run, print `done` (of argmax once rank 1 knows the index), and reveal the answer to rank 1,
which prints it.

Functions are those of Puma's programs for SPU (arXiv 2307.12533): polynomials in four pieces for GELU, an
exponential that is 0 below −14, one reciprocal a softmax row.
"""

import json
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from spu import Io, Runtime, libspu
from spu.utils import frontend

Array = Any
UNSUPPORTED = 127  # the exit code that says so
SECRET = libspu.Visibility.VIS_SECRET
WEIGHTS_OWNER, INPUT_OWNER = 0, 1
UNTIL_READ_S = 0.1  # for the line `done`, at whose time bytes are counted
TIMEOUT_MS = 3_600_000
CHUNK_BYTES = 64 << 20
EXP_SQUARINGS = 5  # (1 + x/2^5)^(2^5)
EXP_ZERO_BELOW = -14.0
UNSEEN = -60.0  # a score that softmax makes 0
CUBIC = (-0.011034134030615728, -0.11807612951181953, -0.42226581151983866, -0.5054031199708174)
SEXTIC = (
    0.0018067462606141187,
    -0.037688200365904236,
    0.3603292692789629,
    0.5,
    0.008526321541038084,
)


def gelu(x: Array) -> Array:
    """0 below −4, a cubic to −1.95, a polynomial of degree 6 to 3, x above."""
    below, left, right = x < -4.0, x < -1.95, x > 3.0
    x2 = jnp.square(x)
    x3, x4 = x * x2, jnp.square(x2)
    x6 = jnp.square(x3)
    a3, a2, a1, a0 = CUBIC
    b6, b4, b2, b1, b0 = SEXTIC
    cubic = a3 * x3 + a2 * x2 + a1 * x + a0
    sextic = b6 * x6 + b4 * x4 + b2 * x2 + b1 * x + b0
    in_cubic = jnp.logical_xor(below, left)
    in_sextic = jnp.logical_not(jnp.logical_xor(left, right))
    return right * x + in_cubic * cubic + in_sextic * sextic


def softmax(x: Array) -> Array:
    """Of the last axis."""
    x = x - jnp.max(x, axis=-1, keepdims=True)
    powers = jnp.exp(x) * (x > EXP_ZERO_BELOW)
    return powers / jnp.sum(powers, axis=-1, keepdims=True)


def layer_norm(x: Array, eps: float = 1e-5, gain: Array = None, bias: Array = None) -> Array:
    """Of the last axis."""
    centred = x - jnp.mean(x, axis=-1, keepdims=True)
    normed = centred * jax.lax.rsqrt(jnp.mean(jnp.square(centred), axis=-1, keepdims=True) + eps)
    return normed if gain is None else normed * gain + bias


FUNCTIONS: dict[str, Callable[[Array], Array]] = {
    "gelu": gelu,
    "softmax": softmax,
    "layernorm": layer_norm,
    "reciprocal": lambda x: 1.0 / x,
    "rsqrt": jax.lax.rsqrt,
    "exp": jnp.exp,
    "comparison": lambda x: jnp.where(x < 0, 1.0, 0.0),
}


def linear(w: dict[str, Array], name: str, x: Array) -> Array:
    """x·Wᵀ + b (n, out) of x (n, in)."""
    return jnp.matmul(x, w[f"{name}.weight"].T) + w[f"{name}.bias"]


def layer(work: dict[str, Any], given: dict[str, Array], public: dict[str, Array]) -> Array:
    """One transformer layer, of BERT's, GPT-2's or ChatGLM's kind (n, d) on x (n, d)."""
    spec, w, x = work["spec"], given, given["x"]
    glm, bert = spec["family"] == "glm", spec["family"] == "bert"

    def norm(name: str, x: Array) -> Array:
        return layer_norm(x, spec["norm_eps"], w[f"{name}.gain"], w[f"{name}.bias"])

    scale = float((2 * spec["n_layers"]) ** 0.5) if glm else 1.0
    a = x if bert else norm("attn_norm", x)
    attended = linear(w, "out", attention(work, w, a, public))
    if bert:
        h = norm("attn_norm", x + attended)
        return norm("ffn_norm", h + linear(w, "down", gelu(linear(w, "up", h))))
    h = (a if glm else x) * scale + attended
    b = norm("ffn_norm", h)
    return (b if glm else h) * scale + linear(w, "down", gelu(linear(w, "up", b)))


def attention(
    work: dict[str, Any], w: dict[str, Array], x: Array, public: dict[str, Array]
) -> Array:
    """softmax(q·kᵀ/√d_head)·v of all heads (n, d), before the output's matrix."""
    heads, past = work["spec"]["n_heads"], work["kv_len"] - work["q_len"]
    parts = jnp.split(linear(w, "qkv", x), 3, axis=-1)
    q, k, v = (part.reshape(len(x), heads, -1).transpose(1, 0, 2) for part in parts)
    if "cos" in public:
        q, k = (t * public["cos"] + rotated_half(t) * public["sin"] for t in (q, k))
    if past:
        k = jnp.concatenate((w["past_k"], k), axis=1)
        v = jnp.concatenate((w["past_v"], v), axis=1)
    scores = jnp.matmul(q, k.transpose(0, 2, 1)) * (1 / q.shape[-1] ** 0.5)
    if work["spec"]["family"] != "bert" and work["q_len"] > 1:
        seen = np.tril(np.ones((work["q_len"], work["kv_len"]), dtype=bool), past)
        scores = jnp.where(seen, scores, UNSEEN)
    return jnp.matmul(softmax(scores), v).transpose(1, 0, 2).reshape(len(x), -1)


def rotated_half(x: Array) -> Array:
    """(a, b) → (−b, a) in each half of a ChatGLM head; x (heads, n, d_head)."""
    a, b, c, d = jnp.split(x, 4, axis=-1)
    return jnp.concatenate((-b, a, -d, c), axis=-1)


def function_of(work: dict[str, Any], public: dict[str, Array]) -> Callable[..., Array] | None:
    """The answer from the secret arrays by name; None where it cannot be computed."""
    match work["kind"]:
        case "argmax":
            return lambda given: jnp.argmax(given["x"])
        case "nonlinear":
            return lambda given: FUNCTIONS[work["op"]](given["x"])
        case "linear":
            return lambda given: jnp.matmul(given["x"], given["weight"].T) + given["bias"]
        case "layer" if work["spec"]["family"] != "llama" and not work["spec"]["n_kv_heads"]:
            return lambda given: layer(work, given, public)
    return None


def configured(protocol: str, threads: int) -> libspu.RuntimeConfig:
    """SPU's settings: numbers of 64 bits, of which 18 are fractional."""
    config = libspu.RuntimeConfig(
        protocol=libspu.ProtocolKind.__members__[protocol], field=libspu.FieldType.FM64
    )
    config.max_concurrency = threads
    config.fxp_exp_mode = libspu.RuntimeConfig.ExpMode.EXP_TAYLOR
    config.fxp_exp_iters = EXP_SQUARINGS
    config.share_max_chunk_size = CHUNK_BYTES
    return config


def compiled(function: Callable[..., Array], arrays: dict[str, np.ndarray]) -> libspu.Executable:
    """SPU's program of `function`, from secret arrays of these shapes by name to `answer`."""
    options = libspu.CompilerOptions()
    options.enable_optimize_denominator_with_broadcast = (
        True  # one reciprocal a row, as Puma has it
    )
    shapes = {name: jax.ShapeDtypeStruct(array.shape, np.float32) for name, array in arrays.items()}
    program, _ = frontend.compile(
        frontend.Kind.JAX,
        function,
        [shapes],
        {},
        sorted(arrays),
        [SECRET] * len(arrays),
        lambda outputs: ["answer"] * len(outputs),
        copts=options,
    )
    return program


class Parties:
    """This rank among the others: shares of arrays go to and fro over the same links as the protocol."""

    def __init__(self, protocol: str, rank: int, threads: int, addresses: Sequence[str]) -> None:
        desc = libspu.link.Desc()
        desc.recv_timeout_ms = desc.http_timeout_ms = TIMEOUT_MS
        for place, address in enumerate(addresses):
            desc.add_party(f"P{place}", address)
        self.rank, self.size = rank, len(addresses)
        self.link = libspu.link.create_brpc(desc, rank)
        config = configured(protocol, threads)
        self._io = Io(self.size, config)
        self.runtime = Runtime(self.link, config)

    def share(self, name: str, owner: int, array: np.ndarray | None) -> None:
        """Everybody gets a share of the owner's `array`, which nobody else gives."""
        if self.rank == owner:
            shares = self._io.make_shares(array, SECRET, owner)
            for rank, share in enumerate(shares):
                if rank != owner:
                    self._send(rank, share)
            mine = shares[owner]
        else:
            mine = self._receive(owner)
        self.runtime.set_var(name, mine)

    def reveal(self, name: str, to: int) -> np.ndarray | None:
        """The value `name`, at rank `to`; None at all others."""
        mine = self.runtime.get_var(name)
        if self.rank != to:
            self._send(to, mine)
            return None
        shares = [mine if rank == to else self._receive(rank) for rank in range(self.size)]
        return self._io.reconstruct(shares)

    def _send(self, rank: int, share: libspu.Share) -> None:
        for part in (share.meta, str(len(share.share_chunks)).encode(), *share.share_chunks):
            self.link.send(rank, part)

    def _receive(self, rank: int) -> libspu.Share:
        share = libspu.Share()
        share.meta = self.link.recv(rank)
        share.share_chunks = [self.link.recv(rank) for _ in range(int(self.link.recv(rank)))]
        return share


def main(
    protocol: str, rank: str, workload: str, inputs: str, threads: str, *addresses: str
) -> int:
    """Share, get ready, and compute as often as told."""
    work = json.loads(workload)
    arrays = dict(np.load(inputs))
    public = {name: arrays.pop(name) for name in ("cos", "sin") if name in arrays}
    arrays = {name: array for name, array in arrays.items() if array.size}
    function = function_of(work, public)
    if function is None:
        print(f"SPU has no program of ours for {workload}")
        return UNSUPPORTED
    program = compiled(function, arrays)
    parties = Parties(protocol, int(rank), int(threads), addresses)
    for name in sorted(arrays):
        array = arrays.pop(name)
        owner = INPUT_OWNER if name in ("x", "past_k", "past_v") else WEIGHTS_OWNER
        own = parties.rank == owner
        parties.share(name, owner, array.astype(np.float32) if own else None)
    parties.link.barrier()
    print("ready", flush=True)
    for _ in sys.stdin:
        parties.runtime.run(program)
        answer = parties.reveal("answer", INPUT_OWNER) if work["kind"] == "argmax" else None
        print("done", flush=True)
        time.sleep(UNTIL_READ_S if parties.rank == INPUT_OWNER else 0.0)
        parties.link.barrier()  # what is revealed is no part of what was computed
        if work["kind"] != "argmax":
            answer = parties.reveal("answer", INPUT_OWNER)
        if answer is not None:
            print("answer", *(f"{value:.9g}" for value in answer.reshape(-1).tolist()), flush=True)
        print("ready", flush=True)
    parties.link.stop_link()
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
