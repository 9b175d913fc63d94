"""The errors of protocols and models.

RuntimeError
  PeerError            a peer is gone, silent, or sent what the protocol does not allow
    PeerGone           it has closed its connection, or died
    PeerTimeout        it has stayed silent too long
ValueError
  Unsupported          a system cannot compute this workload
  OutOfRange           a value is too large for a system's numbers
  CheckpointError      a checkpoint cannot be used
  TokenizerError       a tokenizer cannot be used
"""

from pathlib import Path


class PeerError(RuntimeError):
    """A peer is gone, stayed silent too long, or sent what the protocol does not allow."""


class PeerGone(PeerError):
    """A peer has closed its connection, or died."""


class PeerTimeout(PeerError):
    """A peer has stayed silent too long."""


class Unsupported(ValueError):
    """The system cannot compute this workload; the message says why."""


class OutOfRange(ValueError):
    """A value is too large for the numbers of a system, in one line: the step, the value, the bound."""


class CheckpointError(ValueError):
    """A checkpoint that cannot be used, in one line: the file, the key or tensor, what was expected."""

    def __init__(self, where: Path, problem: str) -> None:
        super().__init__(f"{where}: {' '.join(problem.split())}")


class TokenizerError(ValueError):
    """A tokenizer that cannot be used, in one line: the folder and what is wrong."""

    def __init__(self, folder: Path, problem: object) -> None:
        first = str(problem).strip().split("\n")[0]
        super().__init__(f"{folder}: {first}")
