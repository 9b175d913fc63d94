"""The options of `external`."""

from dataclasses import dataclass, field

from protocols.options import doc


@dataclass(frozen=True)
class ExternalOptions:
    """Which programs."""

    file: str | None = field(
        default=None,
        metadata=doc(
            "YAML file that says how each party's program is started, and what it answers",
            "a path; how to write one: docs/external.md",
        ),
    )
