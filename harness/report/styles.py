"""How each system looks in every figure: its proper name, its colour and its marker.

Colours are Okabe and Ito's, which colour-blind readers can tell apart, less their pale yellow; a brown, a
violet, an indigo, an olive and a grey besides.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from matplotlib.colors import to_hex, to_rgb

from harness.records.record import Record


@dataclass(frozen=True)
class Style:
    """name: as its authors write it. dash: of its lines, as matplotlib knows it."""

    name: str
    colour: str
    marker: str
    dash: Any = "-"


REUSED = "system.reuse_weight_masks"  # what tells variants apart
OWN = {
    "permllm": Style("PermLLM", "#0072B2", "o"),
    "mpcformer": Style("MPCFormer", "#D55E00", "s"),
    "mpcformer, weights opened once": Style("MPCFormer, weights opened once", "#CC79A7", "D"),
    "puma": Style("Puma", "#009E73", "^"),
    "shaft": Style("SHAFT", "#E69F00", "h"),
    "shaft, weights opened once": Style("SHAFT, weights opened once", "#8C6D31", "d"),
    "shamir": Style("Shamir", "#117733", "p"),
    "fss": Style("FSS", "#332288", "<"),
    "he_linear": Style("HE linear", "#6A3D9A", "H"),
    "ckks": Style("CKKS", "#882255", "8"),
    "tfhe": Style("TFHE", "#7F7F00", "*"),
    "plaintext": Style("plaintext", "#000000", "v"),
}
# For systems of other packages.
SPARE_COLOURS = ("#56B4E9", "#999999")
SPARE = tuple((colour, marker) for marker in "PX*>" for colour in SPARE_COLOURS)
# Several lines of one system: the same marker, other dashes, paler and paler.
DASHES = ("-", (0, (5, 1.5)), (0, (5, 1.5, 1, 1.5)), (0, (2, 1)))
PALEST = 0.6


def system_of(record: Record) -> str:
    """The system, or the variant of one that has a look of its own."""
    system = record.config["system"]
    reused = system.get("reuse_weight_masks")
    return f"{system['name']}{', weights opened once' if reused else ''}"


def rank_of(system: str) -> tuple[int, str]:
    """Its place in a legend: ours first, as in `OWN`."""
    return (list(OWN).index(system) if system in OWN else len(OWN)), system


def styles_of(systems: Sequence[str]) -> dict[str, Style]:
    """The look of each. Ours are fixed; any other has the spare one that its name says, or the next
    where another of `systems` has that."""
    styles = {name: OWN[name] for name in systems if name in OWN}
    taken: set[int] = set()
    for name in sorted(set(systems) - set(OWN)):
        place = int(hashlib.sha256(name.encode()).hexdigest(), 16) % len(SPARE)
        while place in taken and len(taken) < len(SPARE):
            place = (place + 1) % len(SPARE)
        taken.add(place)
        styles[name] = Style(name, *SPARE[place])
    return styles


def name_of(record: Record) -> str:
    """A record's system as its authors write it."""
    system = system_of(record)
    return OWN[system].name if system in OWN else system


def line_styles(systems: Sequence[str]) -> list[Style]:
    """The look of several lines, by the system of each."""
    styles, count = styles_of(systems), Counter(systems)
    seen: Counter[str] = Counter()
    found = []
    for system in systems:
        by = PALEST * seen[system] / max(count[system] - 1, 2)
        dash = DASHES[seen[system] % len(DASHES)]
        colour = paler(styles[system].colour, by)
        found.append(replace(styles[system], colour=colour, dash=dash))
        seen[system] += 1
    return found


def distinct_colours(systems: Sequence[str]) -> list[str]:
    """A colour for each of several areas: its system's, or one of another if that is taken."""
    styles = styles_of(systems)
    spare = [*(style.colour for style in OWN.values()), *SPARE_COLOURS]
    spare = [c for c in spare if c not in {style.colour for style in styles.values()}]
    found: list[str] = []
    for system in systems:
        colour = styles[system].colour
        if colour in found:
            colour = spare.pop(0) if spare else paler(colour, 0.4)
        found.append(colour)
    return found


def paler(colour: str, by: float) -> str:
    """A colour mixed with white; 0: as it is."""
    red, green, blue = (part + (1 - part) * by for part in to_rgb(colour))
    return to_hex((red, green, blue)) if by else colour
