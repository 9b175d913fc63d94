"""`python torch_index.py TORCH INDEX REQUIREMENT`: the words of `pip install` for PyTorch.

TORCH is `cpu` (builds without CUDA, or none), `default` (what pip finds by itself) or `auto`: the
smaller CPU build on Linux without an NVIDIA GPU, as far as it can be had. INDEX has the CPU builds.
pip would wait for an index for minutes, several times; here it has `PATIENCE_S`, once.
"""

import shutil
import sys
import threading
import urllib.error
import urllib.request
from pathlib import Path

CHOICES = ("auto", "cpu", "default")
PATIENCE_S = 5.0
SIZES = "PyTorch with CUDA is 3 GB to download and 6 GB on disk, without it 0.2 and 0.8 GB"


def words(choice: str, index: str, requirement: str) -> list[str]:
    """What `pip install` is to be told. Says on standard error why a build may be the big one.

    Raises SystemExit for a choice that there is not.
    """
    if choice not in CHOICES:
        raise SystemExit(f"TORCH: got {choice!r}, must be one of {', '.join(CHOICES)}")
    if choice == "default" or sys.platform != "linux" or (choice == "auto" and has_gpu()):
        return [requirement]
    wanted = f"{requirement}+cpu" if choice == "cpu" else requirement
    if answers(f"{index.rstrip('/')}/torch/"):
        return ["--extra-index-url", index, wanted]
    print(
        f"torch: {index} does not answer: pip takes what it finds elsewhere. {SIZES}; "
        "TORCH_INDEX=URL names another index.",
        file=sys.stderr,
    )
    return [wanted]


def has_gpu() -> bool:
    """Whether there is an NVIDIA GPU with its driver."""
    return Path("/dev/nvidia0").exists() or shutil.which("nvidia-smi") is not None


def answers(url: str, patience_s: float = PATIENCE_S) -> bool:
    """Whether a server answers at `url` in time; a name that does not resolve may not hang either."""
    answered = threading.Event()
    threading.Thread(target=_ask, args=(url, patience_s, answered), daemon=True).start()
    return answered.wait(patience_s)


def _ask(url: str, patience_s: float, answered: threading.Event) -> None:
    try:
        urllib.request.urlopen(url, timeout=patience_s).close()
    except urllib.error.HTTPError:
        return
    except (OSError, ValueError) as error:
        # pip has certificates of its own: what this Python does not trust it may well.
        if "CERTIFICATE_VERIFY_FAILED" not in str(error):
            return
    answered.set()


if __name__ == "__main__":
    print(*words(*sys.argv[1:4]))
