"""Peers: original implementations of what permbench has made anew, each in an environment of its own.

They want other versions of other packages than permbench does, so none is installed beside it. An
environment stands in `folder()`, and counts once `installed` says so: an install that was cut short does not.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import unknown

VARIABLE = "PERMBENCH_PEERS"  # another folder for all of them
MARK = "installed"  # a file that an environment has when it is whole: what is in it
CPU_BUILDS = "https://download.pytorch.org/whl/cpu"


@dataclass(frozen=True)
class Peer:
    """requirements: for pip, a list a call, in their order. size: on disk, about."""

    title: str
    requirements: tuple[tuple[str, ...], ...]
    size: str


PEERS = {
    "spu": Peer(
        "SPU 0.9.5, by SecretFlow: ABY3, Cheetah, SEMI2K",
        (("spu==0.9.5", "jax==0.4.34", "jaxlib==0.4.34", "numpy==1.26.4", "scipy==1.17.1"),),
        "1.0 GB",
    ),
    "crypten": Peer(
        "CrypTen 0.4.1, by Meta: two parties and a dealer",
        (
            ("--extra-index-url", CPU_BUILDS, "torch==2.13.0"),
            ("numpy==2.4.6", "omegaconf==2.3.1", "onnx==1.23.2", "pyyaml==6.0.4"),
            ("--no-deps", "crypten==0.4.1"),  # of its dependencies one cannot be built any more
        ),
        "1.0 GB",
    ),
}


def peer(name: str, key: str = "peers") -> Peer:
    """A peer by name. Raises ConfigError."""
    if name not in PEERS:
        raise unknown(key, f"no peer {name}", PEERS, of=name)
    return PEERS[name]


def folder() -> Path:
    """Where environments are: $PERMBENCH_PEERS, or the user's data folder as XDG has it."""
    if given := os.environ.get(VARIABLE):
        return Path(given).expanduser().resolve()
    data = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(data).expanduser() / "permbench" / "peers"


def python_of(name: str) -> Path:
    """The Python of a peer's environment, whether or not it is there."""
    return folder() / name / "bin" / "python"


def is_installed(name: str) -> bool:
    """Whether its environment is whole, and has these versions."""
    mark = folder() / name / MARK
    return mark.is_file() and mark.read_text(encoding="utf-8") == versions(peer(name).requirements)


def versions(requirements: Sequence[Sequence[str]]) -> str:
    """What `MARK` has: the requirements, one a line."""
    return "".join(f"{word}\n" for call in requirements for word in call if "==" in word)


def remedy(name: str) -> str:
    """What to say where it is not installed."""
    return f"permbench peers install {name}"
