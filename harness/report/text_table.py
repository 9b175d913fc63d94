"""A table of texts, and its forms: for a terminal, in Markdown, in LaTeX (booktabs)."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

FORMS = ("markdown", "latex")
STYLES = {"ok": "green", "unsupported": "yellow"}  # of the column "status", on a terminal
LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "&": r"\&", "%": r"\%", "$": r"\$",
    "#": r"\#", "_": r"\_", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
    "–": "--", "—": "---", "…": r"\dots{}", "×": r"$\times$", "∞": r"$\infty$", "µ": r"\textmu{}",
    "→": r"$\rightarrow$", "≤": r"$\leq$", "≥": r"$\geq$", "±": r"$\pm$", "[": "{[}", "]": "{]}",
}  # fmt: skip
MARKDOWN = re.compile(r"([\\`*_|<>\[\]])")


@dataclass(frozen=True)
class TextTable:
    """One table. right: for each column, whether its cells stand on the right. notes: remarks under
    it."""

    title: str
    heads: tuple[str, ...]
    right: tuple[bool, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()


def for_terminal(table: TextTable) -> RenderableType:
    """For people at a terminal. Notes are left to the caller."""
    drawn = Table(box=None, padding=(0, 1))
    for head, right in zip(table.heads, table.right, strict=True):
        drawn.add_column(head, justify="right" if right else "left", no_wrap=True)
    for row in table.rows:
        drawn.add_row(*(_styled(*cell) for cell in zip(table.heads, row, strict=True)))
    return Group(Text(table.title, "bold"), drawn)


def _styled(head: str, cell: str) -> Text:
    known = STYLES.get(cell.rstrip("*"), "red")
    return Text(cell, known if head == "status" else "")


def written(tables: Sequence[TextTable], form: str) -> str:
    """The tables in one of `FORMS`, one after the other."""
    write = {"markdown": markdown, "latex": latex}[form]
    return "\n".join(write(table) for table in tables)


def markdown(table: TextTable) -> str:
    """A pipe table under its title, its notes as a list."""
    lines = [f"**{markdown_text(table.title)}**", "", *markdown_rows(table)]
    notes = [f"- {markdown_text(note)}" for note in table.notes]
    return "\n".join([*lines, *([""] if notes else []), *notes, ""])


def markdown_rows(table: TextTable) -> list[str]:
    """The pipe table alone, without title and notes."""
    return [
        _piped([markdown_text(head) for head in table.heads]),
        _piped(["--:" if right else ":--" for right in table.right]),
        *(_piped([markdown_text(cell) for cell in row]) for row in table.rows),
    ]


def _piped(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def markdown_text(text: str) -> str:
    """Plain text, so that Markdown shows it as it is."""
    return MARKDOWN.sub(r"\\\1", text)


def latex(table: TextTable) -> str:
    """A floating table in the style of booktabs (the document needs that package)."""
    columns = "".join("r" if right else "l" for right in table.right)
    heads = " & ".join(latex_text(head) for head in table.heads)
    return "\n".join(
        [
            r"\begin{table}",
            r"  \centering",
            rf"  \caption{{{latex_text(table.title)}}}",
            rf"  \begin{{tabular}}{{@{{}}{columns}@{{}}}}",
            r"    \toprule",
            rf"    {heads} \\",
            r"    \midrule",
            *(rf"    {' & '.join(latex_text(cell) for cell in row)} \\" for row in table.rows),
            r"    \bottomrule",
            r"  \end{tabular}",
            *(rf"  \par\smallskip\footnotesize {latex_text(note)}" for note in table.notes),
            r"\end{table}",
            "",
        ]
    )


def latex_text(text: str) -> str:
    """Plain text, so that LaTeX shows it as it is (for pdflatex with UTF-8, and newer ones)."""
    return "".join(LATEX.get(character, character) for character in text)
