"""Pages of the site that are made when it is built: the reference from the code, the root's pages.

`mkdocs build` calls `on_files` and `on_page_markdown`. Links keep working in the repository and on the
site: a link to a page of the root is turned into one to its copy.
"""

import argparse
import dataclasses
import json
import os
import re
from collections.abc import Iterable, Iterator
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

from harness.cli.main import VERBS, Parser
from harness.config.groups import GROUPS, describe, options
from harness.config.reference import CALL, KeyDoc, keys
from harness.records import record
from harness.records.dataframe import COLUMNS
from harness.records.record_schema import record_schema

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
ROOT_PAGES = ("METHODOLOGY.md", "SECURITY.md", "ARTIFACT.md", "CHANGELOG.md", "CONTRIBUTING.md")
ROOT_LINK = re.compile(rf"\]\((?:\.\./)*({'|'.join(ROOT_PAGES)})")
DOCS_LINK = re.compile(r"\]\(docs/")
FIELDS = {  # what each field of a record means
    "Record.id": "hash of the configuration, and the file's name",
    "Record.config": "every key, as nested groups",
    "Record.status": "how it ended",
    "Record.error": "why it is not ok",
    "Record.network": "what was asked of the links, and what they were",
    "Record.phases": "by name: prepare, offline, input, online",
    "Record.steps": "the tokens of a model, in order",
    "Record.correctness": "the answers against plaintext; null where there is none",
    "Record.environment": "machine, versions, commit, date",
    "Record.logs": "last lines of every party, of a run that failed",
    "Record.generated": "prompt, tokens and text of experiment=generate",
    "Record.schema": "version of this form",
    "Record.stored_bytes": "by role: what it keeps of the model; null: the system does not say",
    "Record.parameters": "what the system chose for the workload, in a line; null: nothing",
    "Record.operators": "of a traced run: online work by role and operator; null: not traced",
    "Record.markers": "of external programs: when each marker came, in ns; null: of others",
    "NetworkRecord.name": "the network's name",
    "NetworkRecord.profile": "by ordered pair of roles: delay, rate, jitter, loss",
    "NetworkRecord.measured": "what calibration measured of each link",
    "NetworkRecord.within_tolerance": "whether all links were as asked; null: not measured",
    "NetworkRecord.interfaces": "with shaper=tc: settings and counters of each interface",
    "NetworkRecord.calibrated_at": "when the links were measured",
    "PhaseRecord.wall_ns": "one for each measured evaluation",
    "PhaseRecord.warmup_wall_ns": "one for each warm-up",
    "PhaseRecord.hops": "messages on the critical path; null: not known",
    "PhaseRecord.no_hops": "why hops are not known",
    "PhaseRecord.roles": "by role",
    "PhaseRecord.computed_ns": "what the network alone would take; null: the phase was shaped",
    "PhaseRecord.started_ns": "when each measured evaluation began, in ns of Unix time",
    "RolePhase.cpu_ns": "processor time, one for each measured evaluation",
    "RolePhase.peak_rss_bytes": "peak memory",
    "RolePhase.sent": "traffic, by receiver",
    "Sent.messages": "how many",
    "Sent.payload_bytes": "bytes of tensors",
    "Sent.wire_bytes": "the same with framing",
    "StepRecord.evaluation": "number of the evaluation that the step is of",
    "StepRecord.kind": "a prompt (prefill), a token (decode), drafted ones (verify), or all there is (whole)",
    "StepRecord.tokens": "how many went in at once",
    "StepRecord.wall_ns": "online time",
    "StepRecord.offline_wall_ns": "offline time; of a batch, at its first step",
    "StepRecord.hops": "online messages on the critical path",
    "StepRecord.payload_bytes": "online payload of all roles",
    "OperatorRecord.role": "whose work it is",
    "OperatorRecord.operator": "the step, without its layer's number, as layer/softmax",
    "OperatorRecord.compute_wall_ns": "computing, and handling messages",
    "OperatorRecord.compute_cpu_ns": "processor time of the same",
    "OperatorRecord.wait_ns": "waiting for messages",
    "OperatorRecord.messages": "how many this role sent",
    "OperatorRecord.payload_bytes": "bytes of tensors that it sent",
    "OperatorRecord.hops": "its messages on the critical path",
    "Correctness.metric": "how answer and plaintext were compared",
    "Correctness.value": "largest error of all evaluations",
    "Correctness.tolerance": "largest error that is accepted",
    "Correctness.ok": "whether value is at most tolerance",
    "Correctness.exact": "the same error against the exact model",
}
RECORDS = (
    record.Record,
    record.NetworkRecord,
    record.PhaseRecord,
    record.RolePhase,
    record.Sent,
    record.StepRecord,
    record.OperatorRecord,
    record.Correctness,
)


def on_files(files: "Files", config: "MkDocsConfig") -> "Files":
    """Add the pages that no file of docs/ holds."""
    from mkdocs.structure.files import File  # noqa: PLC0415 - the tests need no mkdocs

    for name, text in pages().items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, page: "Page", **_: Any) -> str:
    """`markdown` with its links to pages of the root as links to their copies."""
    here = Path(page.file.src_uri).parent

    def copy(found: re.Match[str]) -> str:
        return f"]({os.path.relpath(found[1].lower(), here)}"

    return ROOT_LINK.sub(copy, markdown)


def pages() -> dict[str, str]:
    """Every generated page: its path in the site, and its Markdown."""
    copies = {
        name.lower(): DOCS_LINK.sub("](", (ROOT / name).read_text("utf-8")) for name in ROOT_PAGES
    }
    reference = {
        "keys.md": keys_page(),
        "options.md": options_page(),
        "record.md": record_page(),
        "columns.md": columns_page(),
        "verbs.md": verbs_page(),
    }
    return copies | {f"reference/{name}": text for name, text in reference.items()}


def keys_page() -> str:
    """All keys of the command line, by what they belong to."""
    groups: dict[str, list[KeyDoc]] = {}
    for key in keys():
        groups.setdefault(_belongs_to(key), []).append(key)
    parts = ["# Keys", "A run is a list of `key=value`. These are all keys."]
    for title, docs in groups.items():
        parts += [f"## {title}", _table(("key", "meaning", "values", "default"), map(_row, docs))]
    return _joined(parts)


def _belongs_to(key: KeyDoc) -> str:
    group = key.key.partition(".")[0]
    if key.of == CALL:
        return "Keys of a call, which no run depends on"
    if key.of:
        return f"Keys of {key.of}"
    if key.key in GROUPS:
        return "Groups"
    return f"Keys of every {group}" if group in GROUPS else "Keys of every run"


def _row(key: KeyDoc) -> tuple[str, ...]:
    default = f"`{key.default}`" if key.default else "the option gives it"
    return f"`{key.key}`", key.meaning, key.values, default


def options_page() -> str:
    """The options of every group."""
    parts = ["# Options", "`GROUP=OPTION` chooses one. Each is a file in `conf/GROUP`."]
    for group in GROUPS:
        listed = [(f"`{name}`", describe(group, name)) for name in options(group)]
        parts += [f"## {group}", _table(("option", "what"), listed)]
    return _joined(parts)


def record_page() -> str:
    """The fields of a record, from its dataclasses."""
    parts = ["# The record", "One JSON file for each run. Times are in ns, sizes in bytes."]
    for kind in RECORDS:
        fields = _table(("field", "type", "meaning"), _fields(kind))
        parts += [f"## {kind.__name__}", _doc(kind), fields]
    schema = json.dumps(record_schema(record.Record), indent=1)
    intro = "What `permbench show` holds a record to, once it is migrated to this version."
    return _joined([*parts, "## JSON Schema", intro, f"```json\n{schema}\n```"])


def _fields(kind: type[Any]) -> Iterator[tuple[str, str, str]]:
    hints = get_type_hints(kind)
    for field in dataclasses.fields(kind):
        meaning = FIELDS.get(f"{kind.__name__}.{field.name}", "see above")
        yield f"`{field.name}`", f"`{_type(hints[field.name])}`", meaning


def columns_page() -> str:
    """The columns of a table of records."""
    intro = (
        "`permbench.load()` and `permbench show --format csv` give one row for each run, in these "
        "columns and one more for each key of the configuration, by the key's name."
    )
    columns = [(f"`{name}`", what) for name, what in COLUMNS.items()]
    return _joined(["# Columns", intro, _table(("column", "meaning"), columns)])


def verbs_page() -> str:
    """The help of every verb."""
    parts = ["# Verbs"]
    for verb, summary in VERBS.items():
        parts += [f"## permbench {verb}", f"{summary[0].upper()}{summary[1:]}.", _help(verb)]
    return _joined(parts)


def _help(verb: str) -> str:
    """The help text; of run without the list of keys, which has a page."""
    parser = Parser(prog=f"permbench {verb}", formatter_class=_wide)
    import_module(f"harness.cli.verb_{verb}").add_arguments(parser)
    if parser.epilogue is not None:
        parser.epilogue = lambda: "The keys have a page of their own."
    return f"```text\n{parser.format_help().strip()}\n```"


def _wide(prog: str) -> argparse.HelpFormatter:
    return argparse.RawDescriptionHelpFormatter(prog, width=100)


def _doc(kind: type) -> str:
    return (kind.__doc__ or "").partition("\n")[0]


def _type(hint: Any) -> str:
    name = hint.__name__ if isinstance(hint, type) and not hasattr(hint, "__args__") else str(hint)
    short = name.replace("typing.", "").replace(f"{record.__name__}.", "")
    return short.replace(" | ", " or ")


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    def line(cells: tuple[str, ...]) -> str:
        inner = " | ".join(cell.replace("|", "\\|") for cell in cells)
        return f"| {inner} |"

    def lines() -> Iterator[str]:
        yield line(head)
        yield f"|{'---|' * len(head)}"
        yield from map(line, rows)

    return "\n".join(lines())


def _joined(parts: list[str]) -> str:
    return "\n\n".join(parts) + "\n"
