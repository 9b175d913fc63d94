"""The page as one file: its content, and how the file is made of it.

Nothing is loaded: the policy in its head allows the style sheets and the one script in it, by their
digests, and no request. Whatever a record says is text: the template escapes it. The table of records is
most of a large page: its cells have no end tags and no quotes, which HTML does not ask for.
"""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from harness.report.page.record_rows import RecordTable
from harness.report.text_table import TextTable

FOLDER = files("harness.report.page")
# In the order in which they need one another.
SCRIPTS = (
    "page_basics.js", "replay_law.js", "log_plot.js", "record_table.js", "part_bars.js",
    "timeline_view.js", "what_if.js", "page_start.js",
)  # fmt: skip


@dataclass(frozen=True)
class PageFigure:
    """reading: how to read it. source: command, commit, machine, samples. numbers: what it shows."""

    title: str
    svg: Markup
    reading: str
    source: str
    numbers: TextTable


@dataclass(frozen=True)
class PageContent:
    """What the page shows.

    summary: of which records. command: what makes the page again. headline: sentences, a group for each
    comparison. first, first_tables: the headline's figure and tables. bars, traces: what the scripts
    draw. first_runs: the ids of the headline's records. left_out: traces that are not there, and why.
    """

    title: str
    summary: str
    command: str
    headline: Sequence[Sequence[str]]
    notes: Sequence[str]
    first: PageFigure | None
    first_tables: Sequence[TextTable]
    claims: TextTable | None
    published: TextTable | None
    changed: Sequence[TextTable]
    figures: Sequence[PageFigure]
    table: RecordTable
    bars: Sequence[Mapping[str, Any]]
    first_runs: Sequence[str]
    traces: Sequence[Mapping[str, Any]]
    left_out: Sequence[str]
    money: TextTable | None

    @property
    def parts(self) -> list[tuple[str, str]]:
        """The anchors and names of the sections."""
        has = {
            "figures": self.figures, "timeline": self.traces, "whatif": self.traces,
            "money": self.money, "changed": self.changed, "claims": self.claims, "published": self.published,
        }  # fmt: skip
        names = {
            "headline": "Headline", "claims": "Claims", "changed": "What changed",
            "figures": "Figures", "records": "All records",
            "parts": "Where it goes", "timeline": "Timeline", "whatif": "What if", "money": "Money",
            "published": "Published numbers",
        }  # fmt: skip
        return [(name, text) for name, text in names.items() if has.get(name, True)]


def html_page(page: PageContent) -> bytes:
    """The file."""
    style, unchecked, script = _file("page.css"), _unchecked(len(page.table.heads)), _script()
    allowed = (
        "default-src 'none'",
        f"style-src '{_digest(style)}' '{_digest(unchecked)}'",
        f"script-src '{_digest(script)}'",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
    )
    data = {
        "bars": page.bars,
        "first": page.first_runs,
        "traces": page.traces,
        "commands": _in_words([row.command for row in page.table.rows]),
    }
    text: str = _template().render(
        page=page,
        table=page.table,
        looks=_looks(page.table),
        data=data,
        policy="; ".join(allowed),
        style=Markup(style),
        unchecked=Markup(unchecked),
        script=Markup(script),
    )
    return text.encode()


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _unchecked(columns: int) -> str:
    """The style sheet by which a column of the records is hidden while its box is not checked. The first
    column is the row's id. Scripts switch it off: they take the cells out, which is quicker."""
    hidden = (
        f"#records:has(#col{i}:not(:checked)) #records-table :is(th,td):nth-child({i + 1})"
        for i in range(1, columns + 1)
    )
    return f"{','.join(hidden)}{{display:none}}"


def _looks(table: RecordTable) -> list[str]:
    """For each column, the attributes of its cells."""
    classes = ("n" if n else "long" * long for n, long in zip(table.right, table.long, strict=True))
    return [Markup(f" class={name}") if name else "" for name in classes]


def _in_words(texts: Sequence[str]) -> dict[str, Any]:
    """Texts that are much alike: all their words once, and of each text the places of its own."""
    words: dict[str, int] = {}
    places = [[words.setdefault(word, len(words)) for word in text.split(" ")] for text in texts]
    return {"words": list(words), "texts": places}


@cache
def _script() -> str:
    return "".join(map(_file, SCRIPTS))


def _file(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")


@cache
def _template() -> Any:
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    # The data of `tojson` without spaces.
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "sort_keys": False}
    return environment.from_string(_file("page.html"))
