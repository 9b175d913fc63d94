"""What a run may choose of a system: a frozen dataclass, each of whose fields has a default.

A field's type is int, float, bool, str, one of them or None, or a `Literal` of texts or whole numbers; what
the types cannot say, `__post_init__` refuses with a ValueError that names the field. Its metadata is made
by `doc`: help, `permbench list` and the reference are made from it.
"""

from dataclasses import dataclass

NO_EFFECT, SIDE_BY_SIDE, NEWER = "no_effect", "side_by_side", "newer"


def doc(
    meaning: str,
    values: str = "",
    no_effect: bool = False,
    side_by_side: str = "",
    newer: bool = False,
) -> dict[str, str]:
    """The metadata of a field that is a key of the command line.

    meaning: one line. values: what is allowed, where the type does not say it. no_effect: no number
    that a run measures depends on it. side_by_side: of a bool both of whose values belong in a
    comparison: which is fair, and why. newer: there are records from before this option, which are those
    of its default.
    """
    flags = {NO_EFFECT: "yes" if no_effect else "", NEWER: "yes" if newer else ""}
    return {"meaning": meaning, "values": values, SIDE_BY_SIDE: side_by_side, **flags}


@dataclass(frozen=True)
class NoOptions:
    """Nothing to choose."""
