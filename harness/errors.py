"""The errors of the harness; those of protocols stand in `protocols.errors`.

ValueError
  ConfigError          bad input: one line that names the key and what is allowed
  RecordError          a text is no record
  TraceError           a file is no trace, or contradicts itself
RuntimeError
  RunnerError          this machine cannot do what the runner needs
    DockerError        … of its Docker daemon
  PartyFailure         a party raised, died, or stayed silent
  GateFailure          the regression gate has nothing to compare
  PeerError            (of protocols)
    FrameError         bytes are no message
    HandshakeError     no authenticated connection to a peer
      NotAwaited       the peer waits for others, or no longer for anybody
      Refused          it knows the secret, but is not who it must be
KeyboardInterrupt
  RunInterrupted       Ctrl-C during a run, whose record it carries
"""

import difflib
import json
from collections.abc import Iterable
from typing import Any

from protocols.errors import PeerError


class ConfigError(ValueError):
    """Bad input, in one line: the key's full name, what was given, what is allowed."""

    def __init__(self, key: str, problem: str) -> None:
        super().__init__(f"{key}: {' '.join(problem.split())}")
        self.key = key


class RecordError(ValueError):
    """A text that is not a record of a known schema."""


class TraceError(ValueError):
    """No trace of this run, a file that is none, or one that contradicts itself."""


class RunnerError(RuntimeError):
    """This machine cannot do what the runner needs; the text says what is missing."""


class DockerError(RunnerError):
    """What is wrong with Docker here, and the command that would mend it."""

    def __init__(self, reason: str, remedy: str = "") -> None:
        super().__init__(f"{reason}; {remedy}" if remedy else reason)
        self.reason, self.remedy = reason, remedy


class PartyFailure(RuntimeError):
    """A party raised, died, or stayed silent. `timed_out` tells the last from the others."""

    def __init__(self, message: str, timed_out: bool = False) -> None:
        super().__init__(message)
        self.timed_out = timed_out


class GateFailure(RuntimeError):
    """There is nothing to compare; the text says why."""


class FrameError(PeerError):
    """A message that cannot be framed, or bytes that are no frame."""


class HandshakeError(PeerError):
    """No authenticated connection to a peer: unreachable, not ours, or too late."""


class NotAwaited(HandshakeError):
    """A peer that waits for other roles than this one, or has just ended waiting."""


class Refused(HandshakeError):
    """A peer that knows the secret, but is not who it must be, or comes without TLS, or an old one."""


class RunInterrupted(KeyboardInterrupt):
    """Ctrl-C during a run; `record` is what is known of it (a `Record`)."""

    def __init__(self, record: Any) -> None:
        super().__init__()
        self.record = record


def rejected(key: str, given: object, allowed: str) -> ConfigError:
    """The error for a known key with a value outside what is `allowed`."""
    return ConfigError(key, f"got {spell(given)}, must be {allowed}")


def unknown(
    key: str, what: str, allowed: Iterable[str], parent: str = "", of: str | None = None
) -> ConfigError:
    """The error for a name that is none of `allowed`: the key's, or `of`, a value of it. `parent`
    prefixes a suggested key."""
    names = list(allowed)
    parts = (key.rpartition(".")[2], key, key.partition(".")[0]) if of is None else (of,)
    guess = next((found for part in parts if (found := close_match(part, names))), None)
    hint = f"did you mean {parent}{guess}? " if guess else ""
    return ConfigError(key, f"{what}; {hint}allowed: {', '.join(names)}")


def close_match(name: str, names: Iterable[str]) -> str | None:
    """The one of `names` that `name` is probably a misspelling of."""
    found = difflib.get_close_matches(name, list(names), n=1)
    return found[0] if found else None


def spell(value: object) -> str:
    """A value as it is written on the command line."""
    return value if isinstance(value, str) and value else json.dumps(value, default=str)
