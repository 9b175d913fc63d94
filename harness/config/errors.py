"""The one error that bad input ends in."""

import difflib
import json
from collections.abc import Iterable


class ConfigError(ValueError):
    """Bad input, told in one line: the key's full name, what was given, what is allowed."""

    def __init__(self, key: str, problem: str) -> None:
        super().__init__(f"{key}: {' '.join(problem.split())}")
        self.key = key


def rejected(key: str, given: object, allowed: str) -> ConfigError:
    """The error for a known key with a value outside what is `allowed`."""
    return ConfigError(key, f"got {spell(given)}, must be {allowed}")


def unknown(key: str, what: str, allowed: Iterable[str], parent: str = "") -> ConfigError:
    """The error for a name that is none of `allowed`; `parent` prefixes a suggested key."""
    names = list(allowed)
    guess = close_match(key.rpartition(".")[2], names)
    hint = f"did you mean {parent}{guess}? " if guess else ""
    return ConfigError(key, f"{what}; {hint}allowed: {', '.join(names)}")


def close_match(name: str, names: Iterable[str]) -> str | None:
    """The one of `names` that `name` is probably a misspelling of."""
    found = difflib.get_close_matches(name, list(names), n=1)
    return found[0] if found else None


def spell(value: object) -> str:
    """A value as it is written on the command line."""
    return value if isinstance(value, str) and value else json.dumps(value, default=str)
