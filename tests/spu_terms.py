"""Which of SPU's kernels sends what: bytes an element of all parties together, by SPU's own profile.

    ~/.local/share/permbench/peers/spu/bin/python tests/spu_terms.py ABY3 gelu 10000
    ~/.local/share/permbench/peers/spu/bin/python tests/spu_terms.py CHEETAH own-relu 65536

Of a function of the peer `spu`, or of one as JAX and SPU have it by themselves (own-…). In the environment of
`permbench peers install spu`, all parties in one process; of the second run, for the first one sets up
oblivious transfers. docs/peers.md has the tables.
"""

import os
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "conf" / "external"))

import jax
import numpy as np
from spu import Io, Runtime, libspu
from spu.utils import frontend
from spu_party import SECRET, compiled, configured, function_of

# Of the kernels, which are named by what they work on: a (arithmetic), b (boolean), p (public), s (secret).
LINE = re.compile(
    r"- (\w+_(?:[abps]|a1b|a2b|[abps]{2})|[ap]2a|[ab]2[ab]), executed (\d+) times, .* send bytes (\d+)"
)
OWN: dict[str, Callable[[Any], Any]] = {
    "own-less": lambda x: x < 0.0,
    "own-relu": jax.nn.relu,
    "own-multiply": lambda x: x * x,
    "own-exp": jax.numpy.exp,
    "own-gelu": lambda x: jax.nn.gelu(x, approximate=False),
    "own-gelu-tanh": jax.nn.gelu,
    "own-softmax": jax.nn.softmax,
    "own-argmax": jax.numpy.argmax,
}
RUNS = 2


def program_of(name: str, protocol: str, x: Any) -> tuple[Any, Any]:
    """SPU's program of a function of `x`, and the settings that go with it."""
    if name not in OWN:
        work = {"kind": name} if name == "argmax" else {"kind": "nonlinear", "op": name}
        function = function_of(work, {})
        assert function is not None
        return compiled(function, {"x": x}), configured(protocol, 1)
    shape = jax.ShapeDtypeStruct(x.shape, np.float32)
    made, _ = frontend.compile(
        *(frontend.Kind.JAX, OWN[name], [shape], {}, ["x"], [SECRET], lambda _: ["answer"])
    )
    protocols, field = libspu.ProtocolKind.__members__, libspu.FieldType.FM64
    return made, libspu.RuntimeConfig(protocol=protocols[protocol], field=field)


def profile(name: str, protocol: str, x: Any, parties: int) -> str:
    """What SPU prints of all ranks' last run."""
    program, config = program_of(name, protocol, x)
    config.enable_hal_profile = True
    shares = Io(parties, config).make_shares(x, SECRET)
    desc = libspu.link.Desc()
    for place in range(parties):
        desc.add_party(f"P{place}", f"thread{place}")

    def live(place: int) -> None:
        runtime = Runtime(libspu.link.create_mem(desc, place), config)
        runtime.set_var("x", shares[place])
        for _ in range(RUNS):
            runtime.run(program)

    with tempfile.TemporaryFile() as heard:
        kept = os.dup(1)
        os.dup2(heard.fileno(), 1)
        threads = [Thread(target=live, args=(place,)) for place in range(parties)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        os.dup2(kept, 1)
        heard.seek(0)
        return heard.read().decode()


def main(protocol: str, name: str, *shape: str) -> None:
    """Print a table."""
    parties, sizes = (3 if protocol == "ABY3" else 2), tuple(map(int, shape))
    x = np.random.default_rng(1).normal(0.0, 1.0, sizes).astype(np.float32)
    found: dict[str, list[int]] = {}
    calls: dict[str, int] = {}
    for kernel, count, size in LINE.findall(profile(name, protocol, x, parties)):
        found.setdefault(kernel, []).append(int(size))
        calls[kernel] = int(count)
    sent = Counter({kernel: sum(sizes[-parties:]) for kernel, sizes in found.items()})
    for kernel, size in sent.most_common():
        if size:
            print(f"{kernel:12} {calls[kernel]:5} calls {size / x.size:9.2f} bytes an element")
    print(f"{'sum':12} {'':11} {sum(sent.values()) / x.size:9.2f} bytes an element")


if __name__ == "__main__":
    main(*sys.argv[1:])
