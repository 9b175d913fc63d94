"""The groups of conf/ and their options, read without composing anything."""

from pathlib import Path

from harness.config.errors import spell, unknown

# Beside the packages, in a checkout and in an installed wheel alike.
CONF_DIR = Path(__file__).resolve().parents[2] / "conf"
GROUPS = ("experiment", "system", "model", "network", "runner", "shaper")


def options(group: str, conf_dir: Path = CONF_DIR) -> list[str]:
    """The options of `group`, sorted."""
    return sorted(path.stem for path in (conf_dir / group).glob("*.yaml"))


def describe(group: str, option: str, conf_dir: Path = CONF_DIR) -> str:
    """The one-line description in the first comment of an option's file."""
    lines = (conf_dir / group / f"{option}.yaml").read_text(encoding="utf-8").splitlines()
    comments = (line.removeprefix("#").strip() for line in lines if line.startswith("#"))
    return next((text for text in comments if not text.startswith("@")), "")


def check_option(group: str, option: object, conf_dir: Path = CONF_DIR) -> None:
    """Raise `ConfigError` unless `group` has this option."""
    names = options(group, conf_dir)
    if option not in names:
        raise unknown(group, f"no option {spell(option)}", names)
