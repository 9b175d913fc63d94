"""A paper's claims, as conf/reproduce/<paper>.yaml has them: what each says, and what is run for it."""

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, cast

import yaml

from harness.data_files import data_path
from harness.errors import ConfigError, unknown
from protocols.party import Phase

FOLDER = "conf/reproduce"
QUANTITIES = (
    "online",
    "sum",
    "first_token",
    "per_token",
    "bytes",
    "offline_bytes",
    "hops",
    "slowdown",
)  # report.values.VALUES
DECLARED: Mapping[str, Phase] = {
    "bytes": "online",
    "offline_bytes": "offline",
}  # where costs say it
UNITS = {
    "s": 1e9, "ms": 1e6, "MiB": 2.0**20, "GiB": 2.0**30, "MB": 1e6,
    "hops": 1.0, "times": 1.0, "orders": 1.0,
}  # fmt: skip


@dataclass(frozen=True)
class Claim:
    """One claim. Every list of arguments is one call of `permbench run -m`.

    said, place: the paper's number in its words, and where it stands. runs: what is measured; quick: with
    --quick, nothing if empty. of: which of these runs the claim is about, as filters of show.
    value: what of them; a_token: of one token of a model. against: runs whose value is divided by it,
    each beside the run that differs in the system alone. predict: networks that traced runs are replayed
    on. declared: the runs are not made, their systems' declared costs are judged. layers: how many times
    the value is taken. expected with tolerance (relative), or at_least, in `unit`. not_comparable: why our
    number is not the paper's, where that is known beforehand; then neither is needed, for a number that
    no paper has.
    minutes, memory_gb, disk_mb: what the runs take on two cores.
    """

    id: str
    statement: str
    said: str
    place: str
    runs: tuple[str, ...]
    of: tuple[str, ...]
    value: str
    unit: str
    minutes: float
    memory_gb: float
    disk_mb: float
    quick: tuple[str, ...] = ()
    against: tuple[str, ...] = ()
    predict: tuple[str, ...] = ()
    declared: bool = False
    a_token: bool = False
    layers: int = 1
    expected: float | None = None
    at_least: float | None = None
    tolerance: float = 0.0
    note: str = ""
    not_comparable: str = ""


@dataclass(frozen=True)
class Paper:
    """One file of claims. common, common_quick: overrides of every run. measured: what of it is measured and
    what predicted."""

    name: str
    title: str
    source: str
    measured: str
    common: tuple[str, ...]
    common_quick: tuple[str, ...]
    claims: tuple[Claim, ...] = field(repr=False)
    figures: tuple[Mapping[str, Any], ...] = ()

    def chosen(self, ids: Sequence[str], quick: bool) -> list[Claim]:
        """The claims of these ids, or all; with `quick` those that have quick runs. Raises ConfigError."""
        known = {claim.id: claim for claim in self.claims}
        for text in ids:
            if text not in known:
                raise unknown("claim", f"{self.name} has no claim {text}", known, of=text)
            if quick and not known[text].quick:
                raise ConfigError("--quick", f"{text} has no quick runs")
        return [
            claim
            for claim in self.claims
            if (not ids or claim.id in ids) and (claim.quick or not quick)
        ]

    def calls(self, claim: Claim, quick: bool, more: Sequence[str] = ()) -> list[list[str]]:
        """The overrides of each call that a claim needs, with `more` in place of those of the same keys."""
        lines, common = (claim.quick, self.common_quick) if quick else (claim.runs, self.common)
        return [overridden(overridden(common, line.split()), more) for line in lines]


def overridden(given: Sequence[str], more: Sequence[str]) -> list[str]:
    """`more`, and of `given` what has other keys."""
    keys = {text.partition("=")[0] for text in more}
    return [*more, *(text for text in given if text.partition("=")[0] not in keys)]


def papers() -> list[str]:
    """The names of all papers."""
    return sorted(path.stem for path in data_path(FOLDER).glob("*.yaml"))


def load_paper(name: str) -> Paper:
    """A paper by its name. Raises ConfigError."""
    if name not in papers():
        raise unknown("paper", f"no paper {name}", papers(), of=name)
    return read_paper(data_path(FOLDER) / f"{name}.yaml")


def read_paper(path: Path) -> Paper:
    """A paper from its file. Raises ConfigError, which names file and key."""
    data = yaml.safe_load(path.read_text(encoding="utf-8"))
    claims = tuple(_claim(path, each) for each in data.pop("claims", ()))
    ids = [claim.id for claim in claims]
    if double := {text for text in ids if ids.count(text) > 1}:
        raise ConfigError(path.name, f"two claims have the id {sorted(double)[0]}")
    return cast(Paper, _made(Paper, path, "", {"name": path.stem, "claims": claims, **data}))


def _claim(path: Path, data: Mapping[str, Any]) -> Claim:
    where = f"claim {data.get('id', '?')}"
    claim = cast(Claim, _made(Claim, path, where, data))
    given = [each for each in (claim.expected, claim.at_least) if each is not None]
    if len(given) > 1 or not (given or claim.not_comparable):
        raise ConfigError(path.name, f"{where}: needs one of expected and at_least")
    if claim.value not in QUANTITIES:
        raise unknown(path.name, f"{where}: no value {claim.value}", QUANTITIES, of=claim.value)
    if claim.declared and (claim.value not in DECLARED or claim.against or claim.predict):
        raise ConfigError(path.name, f"{where}: declared costs have {' and '.join(DECLARED)} alone")
    if claim.unit not in UNITS:
        raise unknown(path.name, f"{where}: no unit {claim.unit}", UNITS, of=claim.unit)
    return claim


def _made(kind: type, path: Path, where: str, data: Mapping[str, Any]) -> Any:
    """A dataclass from a mapping. Raises ConfigError for a key too many or too few."""
    known = {f.name: f for f in fields(kind)}
    for key in data:
        if key not in known:
            raise unknown(path.name, f"{where} has an unknown key {key}", known, of=key)
    for key, of in known.items():
        if key not in data and of.default is MISSING:
            raise ConfigError(path.name, f"{where} lacks the key {key}")
    return kind(**{key: tuple(v) if isinstance(v, list) else v for key, v in data.items()})
