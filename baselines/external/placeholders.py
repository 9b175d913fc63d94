"""Texts with gaps, such as `server {listen} --seed {seed}`: which there are, and filled.

A gap is a name in braces, in lower case, perhaps with a role: `{address:P1}`. `{{` and `}}` are braces.
Other braces, as in `${HOME}` or JSON, stay what they are.
"""

import re
from collections.abc import Iterator, Mapping

GAP = re.compile(r"\{\{|\}\}|\{([a-z_]+(?::\w+)?)\}")


def gaps(text: str) -> Iterator[str]:
    """The names in a text, in their order."""
    return (found[1] for found in GAP.finditer(text) if found[1])


def filled(text: str, values: Mapping[str, str]) -> str:
    """The text with the value of each name. Raises KeyError for a name without one."""
    return GAP.sub(lambda found: values[found[1]] if found[1] else found[0][0], text)
