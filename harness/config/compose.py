"""Composition of conf/ and overrides into a checked `RunConfig`, through Hydra's compose API.

Hydra's decorator is not used: it would write folders and print its own errors.
"""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import is_dataclass, replace
from pathlib import Path
from typing import cast, get_type_hints

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.types import Override, OverrideType
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from harness.config.checkpoint import resolve
from harness.config.experiments import EXPERIMENTS
from harness.config.groups import CONF_DIR, GROUPS
from harness.config.hydra_errors import explain
from harness.config.network import canonical_links
from harness.config.overrides import check_single, parse
from harness.config.program_files import with_program
from harness.config.runners import RUNNERS, with_checkpoint, with_tls
from harness.config.schema import RunConfig
from harness.config.systems import system_schema
from harness.config.validate import validate
from harness.errors import ConfigError
from harness.registry import BROUGHT


def compose_run(texts: Sequence[str], conf_dir: Path = CONF_DIR) -> RunConfig:
    """The checked configuration of one run. Raises ConfigError."""
    return compose_all([texts], conf_dir)[0]


def compose_all(points: Sequence[Sequence[str]], conf_dir: Path = CONF_DIR) -> list[RunConfig]:
    """One checked configuration for each list of overrides. Raises ConfigError."""
    _register()
    with initialize_config_dir(str(conf_dir), job_name="permbench", version_base="1.3"):
        bases: dict[tuple[str, ...], DictConfig] = {}
        return [_compose(point, conf_dir, bases) for point in points]


def _compose(
    texts: Sequence[str], conf_dir: Path, bases: dict[tuple[str, ...], DictConfig]
) -> RunConfig:
    overrides = parse(texts)
    check_single(overrides, conf_dir)
    for override in overrides:
        if override.key_or_group == "system":
            _register_system(str(override.value()))
    try:
        config = cast(RunConfig, OmegaConf.to_object(_node(overrides, bases)))
    except (HydraException, OmegaConfBaseException, YAMLError) as error:
        raise explain(error, overrides, conf_dir) from error
    config = resolve(replace(config, network=canonical_links(config.network)))
    return with_program(validate(with_tls(with_checkpoint(config))))


def _node(overrides: Sequence[Override], bases: dict[tuple[str, ...], DictConfig]) -> DictConfig:
    """What Hydra makes of `overrides`. The points of a sweep mostly choose the same options: Hydra
    composes those once (`bases`), and plain values are set the way it would set them."""
    values = [
        o for o in overrides if o.key_or_group not in GROUPS and o.type == OverrideType.CHANGE
    ]
    others = tuple(str(override.input_line) for override in overrides if override not in values)
    if others not in bases:
        bases[others] = compose("config", overrides=list(others))
    node = deepcopy(bases[others])
    for override in values:
        OmegaConf.update(node, override.key_or_group, override.value(), merge=True)
    return node


def _register() -> None:
    store = ConfigStore.instance()
    store.store(name="run_schema", node=open_schema(RunConfig))
    for name, schema in EXPERIMENTS.items():
        store.store(group="experiment", name=f"{name}_schema", node=open_schema(schema))
    for name, runner in RUNNERS.items():
        store.store(group="runner", name=f"{name}_schema", node=open_schema(runner))
    for name in BROUGHT:
        store.store(group="system", name=f"{name}_schema", node=open_schema(system_schema(name)))


def _register_system(name: str) -> None:
    """Systems of other packages have no file in conf/ and are imported when they are chosen."""
    if name in BROUGHT:
        return
    try:
        node = open_schema(system_schema(name))
    except OmegaConfBaseException as error:
        raise ConfigError("system", f"{name}: {str(error).splitlines()[0]}") from error
    ConfigStore.instance().store(group="system", name=name, node=node)


def open_schema(schema: type) -> DictConfig:
    """A typed node that values may still be merged into: OmegaConf locks frozen dataclasses."""
    node: DictConfig = OmegaConf.structured(schema)
    OmegaConf.set_readonly(node, None)
    for key, hint in get_type_hints(schema).items():
        if is_dataclass(hint):
            node[key] = open_schema(cast(type, hint))
    return node
