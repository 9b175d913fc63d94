"""The groups of conf/ and their options, read without composing anything.

Systems of other packages are options of the group `system` without a file.
"""

from pathlib import Path
from typing import Any, cast

import yaml

from harness.data_files import data_path
from harness.errors import ConfigError, spell, unknown
from harness.registry import others, system_class

CONF_DIR = data_path("conf")
GROUPS = ("experiment", "system", "model", "network", "runner", "shaper")


def options(group: str, conf_dir: Path = CONF_DIR) -> list[str]:
    """The options of `group`, sorted."""
    files = {path.stem for path in (conf_dir / group).glob("*.yaml")}
    return sorted(files | others().keys() if group == "system" else files)


def option_file(group: str, option: str, conf_dir: Path = CONF_DIR) -> Path:
    """The file of an option; there is none of a system of another package."""
    return conf_dir / group / f"{option}.yaml"


def loaded(path: Path) -> dict[str, Any]:
    """A file of conf/ as plain data."""
    return cast(dict[str, Any], yaml.safe_load(path.read_text(encoding="utf-8")) or {})


def default_options(conf_dir: Path = CONF_DIR) -> dict[str, str]:
    """The option of each group by default."""
    given = loaded(conf_dir / "config.yaml")["defaults"]
    chosen = [entry for entry in given if isinstance(entry, dict)]  # the others are schemas
    return {group: str(name) for entry in chosen for group, name in entry.items()}


def describe(group: str, option: str, conf_dir: Path = CONF_DIR) -> str:
    """The one-line description in the first comment of an option's file, or what a system of another
    package says of itself."""
    if group == "system" and option in others():
        return _introduce(option)
    lines = option_file(group, option, conf_dir).read_text(encoding="utf-8").splitlines()
    comments = (line.removeprefix("#").strip() for line in lines if line.startswith("#"))
    return next((text for text in comments if not text.startswith("@")), "")


def check_option(group: str, option: object, conf_dir: Path = CONF_DIR) -> None:
    """Raise `ConfigError` unless `group` has this option."""
    names = options(group, conf_dir)
    if option not in names:
        raise unknown(group, f"no option {spell(option)}", names, of=str(option))


def _introduce(name: str) -> str:
    try:
        summary = (system_class(name).__doc__ or "").partition("\n")[0]
    except ConfigError as error:
        return str(error)
    package = others()[name].dist
    return f"{summary} (package {package.name})" if package else summary
