"""Composition of conf/ and overrides into a checked `RunConfig`, through Hydra's compose API.

Hydra's decorator is not used: it would write folders and print its own errors.
"""

from collections.abc import Sequence
from dataclasses import is_dataclass, replace
from pathlib import Path
from typing import cast, get_type_hints

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from harness.config.checkpoint import resolve
from harness.config.explain import explain
from harness.config.groups import CONF_DIR
from harness.config.links import canonical_links
from harness.config.overrides import check_single, parse
from harness.config.schema import EXPERIMENTS, SYSTEMS, RunConfig
from harness.config.validate import validate


def compose_run(texts: Sequence[str], conf_dir: Path = CONF_DIR) -> RunConfig:
    """The checked configuration of one run. Raises ConfigError."""
    return compose_all([texts], conf_dir)[0]


def compose_all(points: Sequence[Sequence[str]], conf_dir: Path = CONF_DIR) -> list[RunConfig]:
    """One checked configuration for each list of overrides. Raises ConfigError."""
    _register()
    with initialize_config_dir(str(conf_dir), job_name="permbench", version_base="1.3"):
        return [_compose(point, conf_dir) for point in points]


def _compose(texts: Sequence[str], conf_dir: Path) -> RunConfig:
    overrides = parse(texts)
    check_single(overrides, conf_dir)
    try:
        node = compose("config", overrides=[str(override.input_line) for override in overrides])
        config = cast(RunConfig, OmegaConf.to_object(node))
    except (HydraException, OmegaConfBaseException, YAMLError) as error:
        raise explain(error, overrides, conf_dir) from error
    return validate(resolve(replace(config, network=canonical_links(config.network))))


def _register() -> None:
    store = ConfigStore.instance()
    store.store(name="run_schema", node=_open(RunConfig))
    for group, schemas in (("experiment", EXPERIMENTS), ("system", SYSTEMS)):
        for name, schema in schemas.items():
            store.store(group=group, name=f"{name}_schema", node=_open(schema))


def _open(schema: type) -> DictConfig:
    """A typed node that values may still be merged into: OmegaConf locks frozen dataclasses."""
    node: DictConfig = OmegaConf.structured(schema)
    OmegaConf.set_readonly(node, None)
    for key, hint in get_type_hints(schema).items():
        if is_dataclass(hint):
            node[key] = _open(cast(type, hint))
    return node
