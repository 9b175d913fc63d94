"""What a run may choose of a system: a frozen dataclass, each of whose fields has a default.

A field's type is int, float, bool, str, one of them or None, or a `Literal` of texts or whole numbers; what
the types cannot say, `__post_init__` refuses with a ValueError that names the field. A bool both of whose
values belong in a comparison has `metadata={SIDE_BY_SIDE: sentence}`, which says which is fair and why.
"""

from dataclasses import dataclass

SIDE_BY_SIDE = "side_by_side"


@dataclass(frozen=True)
class NoOptions:
    """Nothing to choose."""
