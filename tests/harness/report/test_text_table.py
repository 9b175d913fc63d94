"""Tables in Markdown and LaTeX: whole, and safe for whatever stands in a cell."""

from harness.report.text_table import FORMS, TextTable, latex_text, markdown_text, written

TABLE = TextTable(
    title="layer, q_len 1",
    heads=("system", "online", "× sum"),
    right=(False, True, True),
    rows=(("permllm", "21.0 ms [20.0–30.0]", "1.00"), ("a|b_c", "85 µs*", "∞")),
    notes=("100 % of 5 & 6",),
)
MARKDOWN = r"""**layer, q\_len 1**

| system | online | × sum |
| :-- | --: | --: |
| permllm | 21.0 ms \[20.0–30.0\] | 1.00 |
| a\|b\_c | 85 µs\* | ∞ |

- 100 % of 5 & 6
"""
LATEX = r"""\begin{table}
  \centering
  \caption{layer, q\_len 1}
  \begin{tabular}{@{}lrr@{}}
    \toprule
    system & online & $\times$ sum \\
    \midrule
    permllm & 21.0 ms {[}20.0--30.0{]} & 1.00 \\
    a\textbar{}b\_c & 85 \textmu{}s* & $\infty$ \\
    \bottomrule
  \end{tabular}
  \par\smallskip\footnotesize 100 \% of 5 \& 6
\end{table}
"""


def test_markdown() -> None:
    assert written([TABLE], "markdown") == MARKDOWN
    assert written([TABLE, TABLE], "markdown") == f"{MARKDOWN}\n{MARKDOWN}"


def test_latex() -> None:
    assert written([TABLE], "latex") == LATEX


def test_every_special_character_is_escaped() -> None:
    assert latex_text(r"\{}&%$#_~^<>") == (
        r"\textbackslash{}\{\}\&\%\$\#\_\textasciitilde{}\textasciicircum{}"
        r"\textless{}\textgreater{}"
    )
    assert markdown_text("`x` <b> [a](b)") == r"\`x\` \<b\> \[a\](b)"


def test_forms_are_those_of_the_help() -> None:
    from harness.cli.verb_show import DOCUMENTS  # noqa: PLC0415

    assert DOCUMENTS == FORMS
