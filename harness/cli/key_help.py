"""Keys, options and groups explained, as lines of text."""

import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import replace

from harness.config import reference
from harness.config.call_keys import LAUNCHER, LAUNCHERS
from harness.config.groups import CONF_DIR, GROUPS, describe, option_file, options
from harness.config.reference import KeyDoc, keys
from harness.errors import ConfigError, close_match, spell
from harness.registry import others

WIDTH, COLUMN = 100, 38
UNSET = "…"  # a value that the chosen option gives


def key_lines(docs: Iterable[KeyDoc]) -> list[str]:
    """`key=default`, and beside it what the key means and which values it takes."""
    return [line for doc in docs for line in _beside(f"{doc.key}={doc.default or UNSET}", doc)]


def _beside(head: str, doc: KeyDoc) -> Iterator[str]:
    text = f"{doc.meaning}; {doc.values}" if doc.values else doc.meaning
    first = f"  {head}".ljust(COLUMN - 1) + " "
    if len(first) > COLUMN:
        yield first.rstrip()
        first = " " * COLUMN
    lines = textwrap.wrap(text, WIDTH - COLUMN, break_long_words=False, break_on_hyphens=False) or [
        ""
    ]
    yield (first + lines[0]).rstrip()
    yield from (" " * COLUMN + line for line in lines[1:])


def every_key() -> list[str]:
    """All keys, group by group, for `permbench run --help`."""
    lines = [
        "groups (GROUP=OPTION; permbench list describes the options, permbench list NAME one):"
    ]
    lines += key_lines(reference.group_keys())
    lines += ["keys of every run, and their defaults:", *key_lines(reference.plain_keys())]
    for group in GROUPS:
        if wide := reference.group_wide_keys(group):
            lines += [f"keys of every {group} ({UNSET}: the option gives it):", *key_lines(wide)]
        for option in options(group):
            if own := reference.option_keys(group, option):
                lines += [f"keys of {group}={option}{_for_sweeps(group, option)}:", *key_lines(own)]
    lines += ["keys of the call, which no run depends on:", *key_lines(reference.call_keys())]
    those = "timeout_min, cpus_per_task, mem_gb, partition, …"
    return [*lines, f"  hydra.launcher.KEY=…: {those} of {', '.join(list(LAUNCHERS)[1:])}"]


def _for_sweeps(group: str, option: str) -> str:
    return f" (or {option}.KEY, for its runs alone)" if group == "system" else ""


def about(name: str) -> list[str]:
    """All that is called `name`: groups, options, keys. Raises ConfigError where nothing is."""
    topics = [*_groups(name), *_options(name), *_keys(name)]
    if not topics:
        guess = close_match(name, _names())
        hint = f"did you mean {guess}? " if guess else ""
        raise ConfigError(
            name, f"no group, option or key is called that; {hint}permbench list shows all"
        )
    return [line for topic in topics for line in (*topic, "")][:-1]


def _names() -> set[str]:
    names = {doc.key for doc in keys()}
    named = {option for group in GROUPS for option in options(group)}
    return names | named | {name.rpartition(".")[2] for name in names} | set(GROUPS)


def _groups(name: str) -> Iterator[list[str]]:
    for doc in reference.group_keys():
        if doc.key == name:
            listed = [f"  {o:15} {describe(name, o)}" for o in options(name)]
            head = f"{name}: {doc.meaning}; {name}={doc.default} by default"
            wide = reference.group_wide_keys(name)
            more = [f"keys of every {name} ({UNSET}: the option gives it):", *key_lines(wide)]
            yield [head, *listed, *(more if wide else [])]


def _options(name: str) -> Iterator[list[str]]:
    for group in GROUPS:
        for option in options(group):
            if name in (option, f"{group}={option}"):
                yield _option(group, option)


def _option(group: str, option: str) -> list[str]:
    path = option_file(group, option)
    where = f"conf/{path.relative_to(CONF_DIR)}" if path.exists() else _package(option)
    given = reference.option_values(group, option)
    docs = [*reference.group_wide_keys(group), *reference.option_keys(group, option)]
    own = [replace(d, default=_given(d, given)) for d in docs]
    sets = " ".join(
        f"{key}={spell(value)}" for key, value in reference.option_sets(group, option).items()
    )
    return [
        f"{group}={option}: {describe(group, option)} ({where})",
        *key_lines(own),
        *([f"  it sets {sets} too"] if sets else []),
    ]


def _given(doc: KeyDoc, values: dict[str, object]) -> str:
    key = doc.key.partition(".")[2]
    return spell(values[key]) if key in values else doc.default


def _package(option: str) -> str:
    point = others().get(option)
    return f"package {point.dist.name}" if point and point.dist else "no file"


def _keys(name: str) -> Iterator[list[str]]:
    system, _, option = name.partition(".")
    for doc in keys():
        own = doc.of == f"system={system}" and doc.key == f"system.{option}"
        if own or (doc.key not in GROUPS and name in (doc.key, doc.key.rpartition(".")[2])):
            yield [f"key of {_whose(doc)}:", *key_lines([doc])]


def _whose(doc: KeyDoc) -> str:
    if doc.of == reference.CALL or doc.key == LAUNCHER:
        return "a call of permbench run"
    group = doc.key.partition(".")[0]
    return doc.of or (f"every {group}" if group in GROUPS else "every run")
