"""A table as text: Markdown and LaTeX."""

import math
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from carlt.errors import CarltError
from carlt.reporting.published import READING
from carlt.reporting.statistics import Difference, MeanAndStd, signed
from carlt.reporting.summary import Column, Table

NONE = "-"
DIFFERENCES = (
    "Differences are paired by seed (n pairs), ± half their 95 % confidence interval; *: the interval excludes zero"
)
NOTE_BEGINS = "Test split, % unless "
"""In every version: by it the tables of an earlier report are recognised."""
NOTE = (
    f"{NOTE_BEGINS}the column is a ratio (WR = lowest class accuracy on the test split / lowest on the training "
    "split) or a count. "
    "Mean ± standard deviation over n seeds; bold: best mean. "
    f"{DIFFERENCES} (three pairs or more; one or two prove nothing, nor do equal differences). "
    "A dash: not defined; WR is not, where that on the training split is 0."
)
PAPER = ("many", "medium", "few", "accuracy", "worst_class")
"""The columns of LaTeX tables, as in the paper."""
SHORT = {"medium": "med.", "overall": "all", "worst class": "worst", "worst 10 %": "w. 10 %", "classes at 0": "at 0"}
CHOICES = ("reg=", "loss=", "aug=", "model=", "stage=", "sampler=", "preset=")
"""Settings whose value is clear without its key."""
LATEX_NOTE = "mean ± standard deviation over n seeds; bold: best mean; worst: the class with the lowest accuracy."
_LATEX = str.maketrans({
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "±": r"$\pm$", "≈": r"$\approx$",
})  # fmt: skip
_MARKDOWN = str.maketrans({letter: "\\" + letter for letter in r"\`*[]|~$"} | {"<": "&lt;", "&": "&amp;", "\n": " "})


class Line(NamedTuple):
    """A line of a table as text: its part, label and n, and per cell its text and whether it is the column's best."""

    part: str
    label: str
    n: str
    cells: Sequence[tuple[str, bool]]


def headings(table: Table, shown: Sequence[int] | None = None) -> list[str]:
    """The texts of the first line; ``shown`` as in :func:`lines`."""
    return ["configuration", "n", *(table.columns[i].heading for i in (table.shown() if shown is None else shown))]


def lines(table: Table, shown: Sequence[int] | None = None) -> Iterator[Line]:
    """The lines of the parts ``measured``, ``difference`` and ``published``, in this order.

    ``shown`` are indices of columns; by default those of ``table.shown()``.
    """
    shown = table.shown() if shown is None else shown
    for row in table.rows:
        cells = [(format_estimate(row.estimates[i], table.columns[i], row.runs), row.best[i]) for i in shown]
        yield Line("measured", row.label, str(row.runs), cells)
    for row in table.rows:
        if row.differences:
            pairs = max(row.differences[i].n for i in shown) if shown else 0
            cells = [(format_difference(row.differences[i], table.columns[i], pairs), False) for i in shown]
            yield Line("difference", f"{row.label} minus {table.baseline}", str(pairs), cells)
    for known in table.published:
        cells = [(known.values.get(table.columns[i].metric, ""), False) for i in shown]
        yield Line("published", f"{known.method} ({known.setting}), published", "", cells)


def format_estimate(value: MeanAndStd, column: Column, n: int) -> str:
    """``78.6 ± 2.8``: one seed has no deviation, none is a dash, and n is added where it is not the row's."""
    if not value.n:
        return NONE
    deviation = "" if math.isnan(value.deviation) else f" ± {value.deviation:.{column.digits}f}"
    return f"{value.mean:.{column.digits}f}{deviation}" + (f" (n = {value.n})" if value.n != n else "")


def format_difference(value: Difference, column: Column, n: int) -> str:
    """``+13.0 ± 3.1*``: * where the interval excludes zero; one pair has no interval, none is a dash, and n is added
    where it is not the row's."""
    if not value.n:
        return NONE
    half = "" if math.isnan(value.half) else f" ± {value.half:.{column.digits}f}{'*' if value.excludes_zero else ''}"
    return signed(value.mean, column.digits) + half + (f" (n = {value.n})" if value.n != n else "")


def percent(value: float | None) -> str:
    """An accuracy in [0, 1] as a percentage with one digit; a dash for None and NaN."""
    return NONE if value is None or math.isnan(value) else f"{100 * value:.1f}"


def markdown(table: Table) -> str:
    """A heading, the table and its notes."""
    head = [markdown_text(text) for text in headings(table)]
    text = [
        f"### {markdown_text(table.title)}: {markdown_text(table.epoch)}",
        "",
        _bar(head),
        "|---|" + "---:|" * (len(head) - 1),
    ]
    for line in lines(table):
        cells = [f"**{cell}**" if best else cell.replace("*", r"\*") for cell, best in line.cells]
        text.append(_bar([markdown_text(line.label), line.n, *cells]))
    said = [*table.verdicts, *notes(table)]
    return "\n".join([*text, "", *(f"- {markdown_text(sentence)}" for sentence in said)]).rstrip() + "\n"


def latex(table: Table, metrics: Sequence[str] = PAPER, *, differences: bool = False) -> str:
    """A ``table`` environment no wider than a column, with booktabs' rules.

    Args:
        metrics: of the test split, by the names that the records use, in the order of the columns.
        differences: whether the differences to the baseline have lines of their own.

    Raises:
        CarltError: a metric that tables do not have.
    """
    known = {column.metric.removeprefix("test/"): i for i, column in enumerate(table.columns)}
    if unknown := [name for name in metrics if name not in known]:
        raise CarltError(f"metrics={','.join(unknown)}: no such metric among {', '.join(known)}")
    shown = [known[name] for name in metrics]
    head = ["", "n", *(SHORT.get(table.columns[i].heading, table.columns[i].heading) for i in shown)]
    body: list[str] = []
    part = "measured"
    for line in lines(table, shown):
        if line.part == "difference" and not differences:
            continue
        if line.part != part:
            part = line.part
            body.append(r"\midrule")
        cells = [rf"\textbf{{{_latex_number(cell)}}}" if best else _latex_number(cell) for cell, best in line.cells]
        text = _latex(_short(line.label))
        if text.startswith(("[", "*")):  # the end of the row above would take it for an argument
            text = f"{{}}{text}"
        label = rf"\textit{{{text}}}" if part == "published" else text
        body.append(" & ".join([label, _latex_number(line.n), *cells]) + r" \\")
    below = [f"{DIFFERENCES}.", *notes(table)] if differences else sources(table)
    mixed = any(table.columns[i].scale == 1 for i in shown)
    unit = "Test split, in % but for ratios and counts" if mixed else "Test accuracy in %"
    caption = " ".join([f"{table.title}: {table.epoch}.", f"{unit}, {LATEX_NOTE}", *below])
    return "\n".join([
        "% needs \\usepackage{booktabs,graphicx}", r"\begin{table}", r"\centering", r"\footnotesize",
        r"\setlength{\tabcolsep}{3pt}", rf"\caption{{{_latex(caption)}}}",
        # Shrunk where it is wider than the column, never enlarged.
        r"\resizebox{\ifdim\width>\columnwidth\columnwidth\else\width\fi}{!}{%",
        rf"\begin{{tabular}}{{@{{}}l{'r' * (len(head) - 1)}@{{}}}}", r"\toprule",
        " & ".join(map(_latex, head)) + r" \\", r"\midrule", *body, r"\bottomrule", r"\end{tabular}}", r"\end{table}",
        "",
    ])  # fmt: skip


def _short(label: str) -> str:
    """The values of a label without their keys and without ``reg=none``: ``car, ce`` of ``reg=car, loss=ce``."""
    ours, minus, theirs = label.partition(" minus ")
    if minus:
        return f"{_short(ours)} minus {_short(theirs)}"
    parts = [part for part in label.split(", ") if part != "reg=none"] or [label]
    return ", ".join(part.partition("=")[2] if part.startswith(CHOICES) else part for part in parts)


def notes(table: Table) -> list[str]:
    """The sentences below a table: rows that are not compared and why, and the sources of published rows."""
    return [
        *(
            f"{row.label} is not compared with {table.baseline}: {row.not_compared}. "
            "Use baseline=<label> to compare anyway."
            for row in table.rows
            if row.not_compared
        ),
        *sources(table),
    ]


def sources(table: Table) -> list[str]:
    """One sentence per source of published rows, and one on numbers that were read from a figure."""
    found = dict.fromkeys(source for known in table.published for source in known.sources.values())
    read = any(text.startswith(READING) for known in table.published for text in known.values.values())
    return [f"Published, not measured here: {source}." for source in found] + [f"{READING}: read from a figure."] * read


def _latex_number(text: str) -> str:
    """A number with a typographic minus sign, and en dashes for ranges."""
    sign, rest = ("$-$", text[1:]) if text.startswith("-") and text != NONE else ("", text)
    return sign + _latex(rest).replace("-", "--").replace("*", "$^{*}$")


def _bar(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _latex(text: str) -> str:
    return text.translate(_LATEX)


def markdown_text(text: str) -> str:
    """``text`` without Markdown's meaning; addresses do not become links."""
    plain = re.sub(r"(?<!\w)_|_(?!\w)", r"\_", text.translate(_MARKDOWN))  # within a word it means nothing
    return re.sub(r"(?i)(www)\.", r"\1&#46;", plain.replace("://", "&#58;//"))
