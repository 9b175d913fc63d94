"""Whether memory and disk of this machine are enough for a run, before anything is started."""

import shutil
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import psutil

from baselines.external.program_file import PROGRAM
from harness.config.program_files import check_programs, program_file
from harness.config.runners import DockerRunner
from harness.config.schema import RunConfig
from harness.errors import ConfigError
from harness.records.stats import format_bytes
from harness.registry import is_external, system_class
from protocols.errors import Unsupported
from protocols.footprint import Footprint, Need, Sizes, layer_weights, peak, sizes
from protocols.party import Role
from protocols.system import System
from protocols.transformer.plain_model import layers_held
from protocols.workload import Generation, Layer

HARNESS = Footprint(320e6)  # this process, while parties work
VERIFICATION = Footprint(320e6, resident=4, passing=4, element=30)  # the model in float32
IDLE_PARTY_BYTES = 450_000_000  # a party that has given its weights back, while answers are checked
HERE = ("local", "netns")  # runners whose parties see this machine's folders
SLEEPING_PARTY_BYTES = 320_000_000  # one that has measured the links of a program of others
RECORD_BYTES, TRACE_BYTES = 1_000_000, 64_000_000  # of one run, at most
CGROUPS = (  # limit and use of a container: version 2, version 1
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)


def require_resources(configs: Iterable[RunConfig]) -> None:
    """Raise ConfigError for the first run that does not fit, unless its `memory.check` is false."""
    checked = [config for config in configs if config.memory.check and _can_run(config)]
    for config in checked:
        _require_memory(config)
        _require_store(config)
    _require_disk(checked)


def needed_bytes(config: RunConfig) -> dict[str, int]:
    """Estimated peak of each process that this machine must hold at once, by role and `harness`; nothing
    of a run that its system cannot do, or of which nobody knows."""
    if not _can_run(config):
        return {}
    here = {} if config.runner.name == "remote" else party_bytes(config)
    working = here | {"harness": peak(HARNESS, _sizes(config))}
    checking = dict.fromkeys(here, IDLE_PARTY_BYTES) | {"harness": _checking_bytes(config)}
    return max(working, checking, key=lambda each: sum(each.values()))


def _checking_bytes(config: RunConfig) -> int:
    """Of this process, while answers are checked: of a large model the plaintext one holds the tables and
    one layer, with its successor in the making; one of approximations of a system's own holds all."""
    counts = _sizes(config)
    if config.experiment.name == PROGRAM:
        return peak(HARNESS, counts)
    work = config.workload()
    if not isinstance(work, Generation) or _system(config).approximates(config.system.options()):
        return peak(VERIFICATION, counts)
    layer = layer_weights(work.spec)
    held = 1 if work.tie_layers else layers_held(4 * layer, work.spec.n_layers)
    tables = sizes(replace(work, tie_layers=True)).weights - layer
    return peak(VERIFICATION, replace(counts, weights=tables + held * layer, largest=layer))


def _sizes(config: RunConfig) -> Sizes:
    """Of what is computed; nothing of it is permbench's where only a program of others knows it."""
    return Sizes(0, 0, 0) if config.experiment.name == PROGRAM else sizes(config.workload())


def _system(config: RunConfig) -> type[System]:
    return system_class(config.system.name)


def fits(config: RunConfig) -> bool:
    """Whether a run, all of whose processes are still to be started, fits into memory as it is now."""
    return not _can_run(config) or sum(needed_bytes(config).values()) <= available_bytes()


def needed_together(configs: Iterable[RunConfig]) -> int:
    """The same of several runs whose parties live at once, all processes together."""
    each = [config for config in configs if _can_run(config)]
    parties = sum(sum(party_bytes(config).values()) for config in each)
    return parties + max((needed_bytes(config)["harness"] for config in each), default=0)


def party_bytes(config: RunConfig) -> dict[str, int]:
    """Estimated peak of each party."""
    return {str(role): need.memory_bytes for role, need in _needs(config).items()}


def _needs(config: RunConfig) -> Mapping[Role, Need]:
    if not is_external(config.system.name):
        return _system(config).needs(config.workload(), config.system.options())
    known = {role: each.memory_bytes for role, each in program_file(config).roles.items()}
    return {role: Need(size + SLEEPING_PARTY_BYTES) for role, size in known.items() if size}


def require_own(role: Role, needs: Mapping[Role, Need]) -> None:
    """For a party on a machine of its own. Raises Unsupported where that has not what `role` needs."""
    need = needs.get(role, Need(0))
    if need.memory_bytes > (available := available_bytes()):
        raise Unsupported(
            f"{role} needs about {format_bytes(need.memory_bytes)} of memory, "
            f"{format_bytes(available)} are available"
        )


def _disk_problem(need: Need) -> str | None:
    """Why the disk does not do; None where it does."""
    if need.folder is None:
        return None
    if not Path(need.folder).is_dir():
        return f"{need.folder} is no folder; name one that exists"
    if (free := shutil.disk_usage(need.folder).free) < need.disk_bytes:
        return (
            f"masked weights need {format_bytes(need.disk_bytes)} in {need.folder}, "
            f"{format_bytes(free)} are free; name a folder on a larger disk"
        )
    return None


def available_bytes() -> int:
    """Memory that can be taken without swapping: of the machine, or of the container's limit."""
    found = int(psutil.virtual_memory().available)
    for limit, used in CGROUPS:
        texts = [Path(file).read_text().strip() for file in (limit, used) if Path(file).is_file()]
        if len(texts) == 2 and all(text.isdigit() for text in texts):
            found = min(found, int(texts[0]) - int(texts[1]))
    return found


def _can_run(config: RunConfig) -> bool:
    """Whether its system takes the workload at all; one that does not is a row, and costs nothing."""
    user = config.experiment.user()
    try:
        if is_external(config.system.name):
            check_programs(config)
        else:
            _system(config).check(config.workload(), config.system.options(), user)
    except Unsupported:
        return False
    return True


def _require_memory(config: RunConfig) -> None:
    needed, available = needed_bytes(config), available_bytes()
    if isinstance(config.runner, DockerRunner) and config.runner.memory_mb is not None:
        _require_in_container(config.runner.memory_mb, party_bytes(config))
    if (total := sum(needed.values())) > available:
        raise ConfigError(
            "memory",
            f"{config.title()} needs about {format_bytes(total)} on this machine ({_each(needed)}), "
            f"{format_bytes(available)} are available; {_remedies(config)}; memory.check=false tries",
        )


def _require_store(config: RunConfig) -> None:
    """Disk that parties on this machine fill while they run; elsewhere each looks for itself."""
    needs = _needs(config).values() if config.runner.name in HERE else ()
    for need in needs:
        if problem := _disk_problem(need):
            raise ConfigError("system.store_dir", problem)


def _require_in_container(memory_mb: int, needed: Mapping[str, int]) -> None:
    role, most = max(needed.items(), key=lambda item: item[1])
    if most > memory_mb * 1_000_000:
        raise ConfigError(
            "runner.memory_mb",
            f"got {memory_mb}, but {role} needs about {format_bytes(most)}: "
            f"runner.memory_mb={-(-most // 1_000_000)} or more, or memory.check=false",
        )


def _each(needed: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {format_bytes(size)}" for name, size in needed.items())


def _remedies(config: RunConfig) -> str:
    """What would make the run smaller, or spread it."""
    if is_external(config.system.name):
        return "use a larger machine"
    workload, helps = config.workload(), list(_system(config).smaller)
    if isinstance(workload, Generation) and not workload.tie_layers and not workload.checkpoint:
        helps.append("model.tie_layers=true")
    if isinstance(workload, Generation | Layer):
        helps += ["fewer tokens", "a smaller model"]
    if config.runner.name != "remote":
        helps.append("other machines (runner=remote)")
    return f"what helps: {', '.join(helps)}" if helps else "use a larger machine"


def _require_disk(configs: Iterable[RunConfig]) -> None:
    needed: dict[Path, int] = {}
    for config in configs:
        folder = Path(config.results_dir).absolute()
        existing = next(path for path in (folder, *folder.parents) if path.exists())
        each = RECORD_BYTES + (TRACE_BYTES if config.trace else 0)
        needed[existing] = needed.get(existing, 0) + each
    for folder, size in needed.items():
        if (free := shutil.disk_usage(folder).free) < size:
            raise ConfigError(
                "results_dir",
                f"records need up to {format_bytes(size)} in {folder}, {format_bytes(free)} are free; "
                "use another folder, or fewer runs",
            )
