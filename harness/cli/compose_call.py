"""A call's own arguments: composed and checked apart from those of its runs."""

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any, cast

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from harness.config.call_keys import (
    HERE,
    LAUNCHER,
    LAUNCHERS,
    LOCAL,
    ORDERS,
    SLURM,
    Call,
    CallConfig,
    Launcher,
)
from harness.config.compose import open_schema
from harness.config.groups import CONF_DIR
from harness.config.hydra_errors import explain
from harness.config.overrides import CALL_KEYS, is_call_argument, parse
from harness.config.validate import at_least, one_of
from harness.errors import ConfigError, unknown

FOLDER = ".submitit/${now:%Y-%m-%d_%H-%M-%S}/%j"  # in results_dir: one for each job, with its log
NEEDS = "needs the extra cluster: pip install 'permbench[cluster]'"


def split_arguments(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """The arguments of a call, and those of its runs."""
    return [w for w in arguments if is_call_argument(w)], [
        w for w in arguments if not is_call_argument(w)
    ]


def compose_call(arguments: Sequence[str]) -> Call:
    """The checked call. Raises ConfigError."""
    overrides = parse(arguments, CALL_KEYS)
    launcher = next((str(o.value()) for o in overrides if o.key_or_group == LAUNCHER), HERE)
    for override in overrides:
        _check(override, launcher)
    ConfigStore.instance().store(name="call", node=open_schema(CallConfig))
    try:
        with initialize_config_dir(str(CONF_DIR), job_name="permbench", version_base="1.3"):
            _register_launchers()  # after Hydra has found its plugins, which register their own
            texts = [str(override.input_line) for override in overrides]
            node = compose("call", overrides=texts, return_hydra_config=True)
            parameters = _parameters(node)
            with open_dict(node):
                del node["hydra"]
            config = cast(CallConfig, OmegaConf.to_object(node))
    except (HydraException, OmegaConfBaseException) as error:
        raise explain(error, overrides, CONF_DIR) from error
    one_of("sweep.order", config.sweep.order, ORDERS)
    at_least("sweep.jobs", config.sweep.jobs, 1)
    return Call(config, Launcher(launcher, parameters))


def _check(override: Override, launcher: str) -> None:
    key = override.key_or_group
    if override.is_sweep_override():
        raise ConfigError(key, f"{override.input_line} is a sweep; a call has one value of it")
    if key == LAUNCHER:
        if launcher not in LAUNCHERS:
            raise unknown(LAUNCHER, f"no option {launcher}", LAUNCHERS, of=launcher)
        if launcher != HERE and not has_submitit():
            raise ConfigError(LAUNCHER, f"{launcher} {NEEDS}")
    elif key.startswith("hydra.launcher."):
        if launcher == HERE:
            raise ConfigError(key, f"needs {LAUNCHER}={LOCAL} or {SLURM}")
    elif key.startswith("hydra"):
        raise ConfigError(key, f"of Hydra's own keys only {LAUNCHER} and hydra.launcher.… are used")


def has_submitit() -> bool:
    """Whether the extra `cluster` is installed."""
    return find_spec("submitit") is not None and find_spec("hydra_plugins") is not None


def _parameters(node: DictConfig) -> dict[str, Any]:
    parameters = cast(dict[str, Any], OmegaConf.to_container(node.hydra.launcher, resolve=True))
    return {key: value for key, value in parameters.items() if key != "_target_"}


def _register_launchers() -> None:
    """The plugin's launchers with defaults of ours: a core for each party, and hours."""
    if not has_submitit():
        return
    from hydra_plugins.hydra_submitit_launcher.config import (  # noqa: PLC0415 - an optional extra
        LocalQueueConf,
        SlurmQueueConf,
    )

    local = LocalQueueConf(submitit_folder=FOLDER, timeout_min=1440)
    slurm = SlurmQueueConf(submitit_folder=FOLDER, timeout_min=240, cpus_per_task=3, mem_gb=16)
    for name, node in ((LOCAL, local), (SLURM, slurm)):
        ConfigStore.instance().store(group=LAUNCHER, name=name, node=node)
