"""Axes whose ticks have units and never stand in one another's way."""

import math
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from harness.report.values import Value

RATIO = 4.0  # an axis whose numbers span more is logarithmic
# Tick positions in each decade, from coarse to fine.
STEPS = ((1,), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 6, 8), (1, 1.2, 1.4, 1.6, 1.8, 2, 2.5, 3, 3.5, 4,
         4.5, 5, 6, 7, 8, 9))  # fmt: skip
CHARACTER_IN = 0.085  # the width of one in a tick's text, in inches
MOST_TICKS = 8  # of measured positions
LABELS = {
    "experiment.n": "number of values n",
    "experiment.d": "width d",
    "experiment.shape": "number of values",
    "experiment.q_len": "new tokens q_len",
    "experiment.kv_len": "keys kv_len",
    "experiment.prompt_len": "tokens of the prompt",
    "experiment.new_tokens": "new tokens",
    "experiment.drafted": "drafted tokens",
    "model.d_model": "model width d",
    "network.rtt_ms": "round-trip time",
    "network.rate_mbit": "rate",
    "token": "position: tokens in the context",
}
UNITS = {"ms": "ms", "s": "s", "mbit": "Mbit/s", "kbit": "kbit/s", "bytes": "bytes", "kb": "kB"}


def x_label(key: str) -> str:
    """A key with its unit, where its name ends in one."""
    unit = UNITS.get(key.rpartition("_")[2])
    label = LABELS.get(key, key)
    return f"{label} ({unit})" if unit else label


def value_axis(axes: Axes, value: Value, numbers: Sequence[float]) -> None:
    """The vertical axis of `numbers` in the value's unit: from 0, or logarithmic where they span
    much; then with more ticks in each decade where they span less. Orders of magnitude are logarithms."""
    low, high = min(numbers), max(numbers)
    if value.unit != "orders" and low > 0 and high / low >= RATIO:
        axes.set_yscale("log")
        axes.set_ylim(low / 1.3, high * 1.3)
        axes.yaxis.set_major_locator(FixedLocator(log_ticks(low / 1.3, high * 1.3)))
    else:
        bottom, top = min(low, 0.0), max(high, 0.0)
        axes.set_ylim(bottom - 0.04 * (top - bottom) if bottom < 0 else 0, top * 1.12 or 1.0)
        axes.yaxis.set_major_locator(MaxNLocator(6, integer=value.unit in ("hops", "orders")))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda number, _: value.tick(number)))


def log_ticks(low: float, high: float, least: int = 3) -> list[float]:
    """At least so many round numbers between the two, where that can be, and not many more."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    choices = [
        [t for d in decades for step in steps if low <= (t := step * 10.0**d) <= high]
        for steps in STEPS
    ]
    return next((ticks for ticks in choices if len(ticks) >= least), choices[-1])


def place_axis(
    axes: Axes,
    tags: Mapping[float, Sequence[str]],
    width_in: float,
    linear: bool,
    more: Sequence[float] = (),
) -> None:
    """The horizontal axis: logarithmic where the positions span much, unless `linear`. Few positions have
    a tick each, with their tags below; one that is close to the last goes below it. width_in: of the
    panel, in inches. more: positions that must have room, and no tick."""
    places = sorted(tags)
    low, high = min([*places, *more]), max([*places, *more])
    logarithmic = not linear and low > 0 and high / low >= RATIO
    if logarithmic:
        axes.set_xscale("log")
    _limit(axes, low, high, logarithmic)
    axes.xaxis.set_minor_locator(NullLocator())
    if len(places) <= MOST_TICKS:
        texts = {x: "\n".join([number_text(x), *tags[x]]) for x in places}
        texts = _staggered(texts, logarithmic, width_in)
        axes.xaxis.set_major_locator(FixedLocator(places))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: texts.get(x, "")))
    else:
        locator = FixedLocator(log_ticks(low, high)) if logarithmic else MaxNLocator(8)
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: number_text(x)))


def _limit(axes: Axes, low: float, high: float, logarithmic: bool) -> None:
    """Room on both sides, also around a single position."""
    if logarithmic:
        room = max(1.15, (high / low) ** 0.07)
        axes.set_xlim(low / room, high * room)
    else:
        margin = (high - low) * 0.07 or abs(high) * 0.5 or 1.0
        axes.set_xlim(low - margin, high + margin)


def _staggered(texts: Mapping[float, str], logarithmic: bool, width_in: float) -> dict[float, str]:
    """Ticks' texts, moved down where they would stand on another's."""
    scale = math.log if logarithmic else float
    span = (scale(max(texts)) - scale(min(texts))) * 1.14 or 1.0
    moved: dict[float, str] = {}
    for right, text in texts.items():
        near = [
            placed
            for left, placed in moved.items()
            if (scale(right) - scale(left)) / span * width_in
            < (_columns(placed) + _columns(text)) / 2 * CHARACTER_IN + 0.06
        ]
        down = max((len(placed.split("\n")) for placed in near), default=0)
        moved[right] = "\n" * down + text
    return moved


def _columns(text: str) -> int:
    return max(map(len, text.split("\n")))


def number_text(number: float) -> str:
    """A number as people write it: 100,000 or 0.5."""
    return f"{number:,.10g}"
