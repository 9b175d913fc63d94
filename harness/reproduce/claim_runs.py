"""The runs of claims: which there are, which are stored, and which this machine cannot do."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness.config.compose import compose_all
from harness.config.config_hash import config_hash
from harness.config.overrides import points
from harness.config.schema import RunConfig
from harness.errors import ConfigError
from harness.machine.resource_check import available_bytes, require_resources
from harness.measure import sweep
from harness.records import store
from harness.records.record import Record
from harness.reproduce.claims import Claim, Paper

GB, MB = 1e9, 1e6


@dataclass(frozen=True)
class ClaimRuns:
    """The runs of one claim. missing: why this machine cannot do those that are pending; None where it
    can."""

    claim: Claim
    configs: tuple[RunConfig, ...]
    pending: int
    missing: str | None


def runs_of(
    paper: Paper, claims: Sequence[Claim], quick: bool, more: Sequence[str]
) -> list[ClaimRuns]:
    """The runs of each claim, `more` overrides on top. Raises ConfigError for what composes to nothing."""
    found = []
    for claim in claims:
        calls = paper.calls(claim, quick, more)
        configs = tuple(compose_all([point for call in calls for point in points(call, True)]))
        pending = [] if claim.declared else list(sweep.plan(configs).pending.values())
        found.append(ClaimRuns(claim, configs, len(pending), _missing(claim, pending, quick)))
    return found


def _missing(claim: Claim, pending: Sequence[RunConfig], quick: bool) -> str | None:
    """What this machine lacks for the runs that are still to be made. The memory that a claim states is
    that of its whole runs."""
    if not any(config.memory.check for config in pending):
        return None
    if not quick and claim.memory_gb * GB > (free := available_bytes()):
        return f"needs {claim.memory_gb:g} GB of memory, {free / GB:.1f} GB are available"
    folder = Path(pending[0].results_dir).absolute()
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if claim.disk_mb * MB > (room := shutil.disk_usage(existing).free):
        return f"needs {claim.disk_mb:g} MB of disk, {room / MB:.0f} MB are free"
    try:
        require_resources(pending)
    except ConfigError as error:
        return str(error)
    return None


def distinct(runs: Sequence[ClaimRuns]) -> list[RunConfig]:
    """Every run of the claims that can be run, once. Runs of one workload stand together, and in it those
    of one system: they share the plaintext answers that theirs are checked against."""
    able = [
        config
        for each in runs
        if each.missing is None and not each.claim.declared
        for config in each.configs
    ]
    once = list({config_hash(config): config for config in able}.values())
    workloads = list(dict.fromkeys(config.workload() for config in once))
    systems = list(dict.fromkeys(config.system for config in once))
    return sorted(once, key=lambda c: (workloads.index(c.workload()), systems.index(c.system)))


def stored(runs: Sequence[ClaimRuns]) -> tuple[list[ClaimRuns], list[Record]]:
    """The runs as nothing is made of them any more, and those of their records that are stored, whatever
    code made them."""
    configs = {config_hash(config): config for each in runs for config in each.configs}
    found = [store.finished(sweep.path_of(config)) for config in configs.values()]
    return [replace(each, missing=None) for each in runs], [r for r in found if r is not None]


def records_of(runs: ClaimRuns, records: Sequence[Record]) -> tuple[list[Record], str | None]:
    """Those of `records` that a claim is judged by, and why some are not there, if some are not."""
    if runs.missing:
        return [], runs.missing
    known: Mapping[str, Record] = {record.id: record for record in records}
    ids = dict.fromkeys(map(config_hash, runs.configs))
    found = [known[each] for each in ids if each in known]
    left = len(ids) - len(found)
    return found, f"{left} of its {len(ids)} runs are still to be made" if left else None
