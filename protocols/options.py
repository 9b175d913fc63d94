"""What a run may choose of a system: a frozen dataclass, each of whose fields has a default.

A field's type is int, float, bool, str, one of them or None, or a `Literal` of texts or whole numbers; what
the types cannot say, `__post_init__` refuses with a ValueError that names the field. Its metadata is made
by `doc`: help, `permbench list` and the reference are made from it.
"""

from dataclasses import dataclass

NO_EFFECT, SIDE_BY_SIDE = "no_effect", "side_by_side"


def doc(
    meaning: str, values: str = "", no_effect: bool = False, side_by_side: str = ""
) -> dict[str, str]:
    """The metadata of a field that is a key of the command line.

    meaning: one line. values: what is allowed, where the type does not say it. no_effect: no number
    that a run measures depends on it. side_by_side: of a bool both of whose values belong in a
    comparison: which is fair, and why.
    """
    effect = "yes" if no_effect else ""
    return {"meaning": meaning, "values": values, NO_EFFECT: effect, SIDE_BY_SIDE: side_by_side}


@dataclass(frozen=True)
class NoOptions:
    """Nothing to choose."""
