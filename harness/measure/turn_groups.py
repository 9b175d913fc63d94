"""Which runs of a sweep are measured in turns: those that differ in the system alone."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from harness.config.config_hash import flatten, resolved
from harness.config.experiments import GenerateConfig
from harness.config.schema import RunConfig
from harness.records.stats import format_bytes

MOST = 18  # parties at once: more take longer to start than they save


@dataclass(frozen=True)
class TurnGroup:
    """Runs that are measured together, in turns; often one alone. why_apart: of several systems that
    are not."""

    configs: tuple[RunConfig, ...]
    why_apart: str | None = None


def alone(configs: Sequence[RunConfig]) -> list[TurnGroup]:
    """Each run by itself."""
    return [TurnGroup((config,)) for config in configs]


def turn_groups(configs: Sequence[RunConfig]) -> list[TurnGroup]:
    """`configs` in their order, with those of competing systems together."""
    alike: dict[str, list[RunConfig]] = {}
    for config in configs:
        alike.setdefault(_circumstances(config), []).append(config)
    return [group for runs in alike.values() for group in _of(runs)]


def _circumstances(config: RunConfig) -> str:
    """All but the system and its options."""
    flat = flatten(resolved(config))
    return repr(sorted((k, repr(v)) for k, v in flat.items() if not k.startswith("system.")))


def _of(runs: Sequence[RunConfig]) -> Iterator[TurnGroup]:
    if len({config.system.name for config in runs}) == 1:
        yield from alone(runs)
    elif (why := _why_apart(runs)) is None:
        yield TurnGroup(tuple(runs))
    else:
        yield TurnGroup((runs[0],), why)
        yield from alone(runs[1:])


def _why_apart(runs: Sequence[RunConfig]) -> str | None:
    """Why runs of several systems cannot take turns; None where they can."""
    from harness.machine import resource_check as memory  # noqa: PLC0415 - torch is slow to import

    first = runs[0]
    if isinstance(first.experiment, GenerateConfig):
        return "experiment=generate prints its tokens as they come"
    if first.runner.name not in memory.HERE:
        return f"with runner={first.runner.name} there is one party for each role"
    if (parties := sum(len(config.system.roles()) for config in runs)) > MOST:
        return f"they have {parties} parties, which are too many at once (at most {MOST})"
    needed, available = memory.needed_together(runs), memory.available_bytes()
    if first.memory.check and needed > available:
        return (
            f"at once they need about {format_bytes(needed)} of memory, {format_bytes(available)} are "
            "available"
        )
    return None


def apart_message(group: TurnGroup) -> str:
    """Why some systems are measured one after another, for people."""
    return f"systems do not take turns: {group.why_apart}; they are measured one after another"
