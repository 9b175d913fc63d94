"""What came of a claim: held, near, off, not comparable or not run, each with its reason."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from harness.config.schema import RunConfig
from harness.errors import ConfigError
from harness.records.record import Record
from harness.records.stats import digits
from harness.records.store import write_whole
from harness.report.text_table import TextTable
from harness.reproduce.claim_numbers import (
    Compared,
    Declared,
    NotComparable,
    compared,
    declared,
)
from harness.reproduce.claims import UNITS, Claim, Paper

Result = Literal["held", "near", "off", "not comparable", "not run"]
NEAR = 3.0  # times the tolerance
FILE = "claims.json"
TIMES = ("online", "sum", "first_token", "per_token", "slowdown")
NOTE = (
    f"held: within the claim's tolerance; near: within {NEAR:g} times that; off: beyond. *: a link was "
    "outside tolerance."
)


@dataclass(frozen=True)
class Outcome:
    """One claim's end. here: our number as text; reason: why it is not held, or what to know of it."""

    claim: Claim
    result: Result
    here: str
    reason: str

    def row(self, paper: Paper, quick: bool) -> dict[str, Any]:
        """All about it, for data files and the page."""
        claim = {k: v for k, v in asdict(self.claim).items() if k not in ("runs", "quick")}
        return {
            "paper": paper.name, **claim, "expected_text": expected_text(self.claim),
            "here": self.here, "outcome": self.result, "reason": self.reason,
            "predicted": bool(self.claim.predict), "command": command_of(self.claim, paper, quick),
        }  # fmt: skip


def command_of(claim: Claim, paper: Paper, quick: bool = False) -> str:
    """What runs one claim."""
    return f"permbench reproduce {paper.name}{' --quick' if quick else ''} {claim.id}"


def judged(
    claim: Claim, records: Sequence[Record], folder: Path, missing: str | None = None
) -> Outcome:
    """The outcome of a claim from the records of its runs. missing: why some of them are not there."""
    if missing:
        return Outcome(claim, "not run", "–", missing)
    if bad := [record for record in records if record.status not in ("ok", "unsupported")]:
        return Outcome(claim, "not run", "–", f"a run ended as {bad[0].status}: {bad[0].error}")
    if odd := [record for record in records if record.status == "unsupported"]:
        return Outcome(claim, "not comparable", "–", str(odd[0].error))
    try:
        pairs = compared(claim, records, folder)
    except (NotComparable, ConfigError) as why:
        return Outcome(claim, "not comparable", "–", str(why))
    return _weighed(claim, pairs)


def judged_declared(claim: Claim, configs: Sequence[RunConfig]) -> Outcome:
    """The outcome of a claim from what the systems of its runs declare."""
    try:
        return _weighed(claim, declared(claim, configs))
    except NotComparable as why:
        return Outcome(claim, "not comparable", "–", str(why))


def _weighed(claim: Claim, pairs: Sequence[Compared | Declared]) -> Outcome:
    """The worst of its values decides."""
    here, outside = _text(claim, pairs), any(pair.outside for pair in pairs)
    timed = claim.value in TIMES
    if claim.not_comparable:
        return Outcome(claim, "not comparable", here, claim.not_comparable)
    if timed and outside and not claim.against:
        return Outcome(claim, "not comparable", here, "a link was outside tolerance")
    misses = [_miss(claim, pair.value / UNITS[claim.unit]) for pair in pairs]
    worst = max(misses)
    result: Result = "held" if worst <= claim.tolerance else "off"
    if result == "off" and worst <= NEAR * claim.tolerance:
        result = "near"
    reasons = [] if result == "held" else [_where(pairs[misses.index(worst)], worst, claim)]
    reasons += ["a link was outside tolerance"] if timed and outside else []
    return Outcome(
        claim, result, here, "; ".join([*reasons, *([claim.note] if claim.note else [])])
    )


def _miss(claim: Claim, value: float) -> float:
    """By which part of what is expected a value misses it."""
    if claim.expected is not None:
        return abs(value / claim.expected - 1)
    assert claim.at_least is not None  # `claims.read_paper` checks it of what can be compared
    return max(0.0, 1 - value / claim.at_least)


def _where(pair: Compared | Declared, miss: float, claim: Claim) -> str:
    """The run that misses most."""
    config, *others = pair.configs
    keys = [f"{k}={v}" for k, v in config["experiment"].items() if k != "name" and v is not None]
    other = " ".join(_unlike(config["system"], each["system"]) for each in others)
    which = " ".join([*keys, *([f"against {other}"] if other else [])])
    way = (
        "more"
        if pair.value / UNITS[claim.unit] > (claim.expected or claim.at_least or 0)
        else "less"
    )
    return f"{digits(100 * miss)} % {way} than said ({which})"


def _unlike(own: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """The other system's name; of the same system the options in which it differs."""
    if own["name"] != other["name"]:
        return str(other["name"])
    return " ".join(f"{key}={value}" for key, value in other.items() if own.get(key) != value)


def _text(claim: Claim, pairs: Sequence[Compared | Declared]) -> str:
    values = sorted(pair.value / UNITS[claim.unit] for pair in pairs)
    spell = "{:g}".format if claim.unit == "hops" else digits
    low, high = spell(values[0]), spell(values[-1])
    mark = "*" if claim.value in TIMES and any(pair.outside for pair in pairs) else ""
    sure = " (predicted)" if claim.predict else " (declared)" if claim.declared else ""
    return f"{low if low == high else f'{low} to {high}'} {claim.unit}{mark}{sure}"


def expected_text(claim: Claim) -> str:
    """What a claim expects of our number; a dash where no paper has one."""
    if claim.expected is None and claim.at_least is None:
        return "–"
    if claim.at_least is not None:
        return f"≥ {claim.at_least:g} {claim.unit}"
    return f"{claim.expected:g} {claim.unit} ± {100 * claim.tolerance:g} %"


def outcome_table(outcomes: Sequence[Outcome], paper: Paper) -> TextTable:
    """A row for each claim."""
    counts: Mapping[str, int] = {o.result: 0 for o in outcomes}
    counts = {name: sum(o.result == name for o in outcomes) for name in counts}
    told = ", ".join(f"{count} {name}" for name, count in counts.items())
    return TextTable(
        title=f"{paper.title}: {len(outcomes)} claims, {told}",
        heads=("claim", "the paper", "expected", "here", "outcome", "reason"),
        right=(False,) * 6,
        rows=tuple(
            (o.claim.id, o.claim.said, expected_text(o.claim), o.here, o.result, o.reason or "–")
            for o in outcomes
        ),
        notes=(NOTE,),
    )


def save_outcomes(folder: Path, outcomes: Sequence[Outcome], paper: Paper, quick: bool) -> Path:
    """Write the outcomes beside the records, for the page; those of claims that were not chosen now stay.
    Returns the path."""
    path = folder / FILE
    rows = {row["id"]: row for row in load_outcomes(folder) if row["paper"] == paper.name}
    rows |= {o.claim.id: o.row(paper, quick) for o in outcomes}
    order = {claim.id: place for place, claim in enumerate(paper.claims)}
    kept = sorted((r for r in rows.values() if r["id"] in order), key=lambda r: order[r["id"]])
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(path, (json.dumps(kept, indent=1, ensure_ascii=False) + "\n").encode())
    return path


def load_outcomes(folder: Path) -> list[dict[str, Any]]:
    """The rows that `save_outcomes` wrote; none where there is no such file."""
    try:
        rows = json.loads((folder / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return [row for row in rows if isinstance(row, dict) and {"id", "paper"} <= row.keys()]
