"""Tables as HTML: of configurations, of classes, and the small ones below plots."""

import math
from collections.abc import Callable, Iterator, Sequence
from html import escape as escape_html

from carlt.reporting import formats
from carlt.reporting.classes import agreed, mean_accuracy
from carlt.reporting.figures import Listing
from carlt.reporting.groups import DataSet
from carlt.reporting.pairs import find_pairs
from carlt.reporting.statistics import signed
from carlt.reporting.summary import Table
from carlt.runs.text import printable

PARTS = {
    "difference": "difference to the baseline, paired by seed",
    "published": "published by others, not measured here",
}
MOST_CLASSES = 1000
"""A page with more rows opens slowly."""


def escape(text: str) -> str:
    """``text`` as HTML shows it, control characters written out."""
    return escape_html(printable(text))


def scrolled(table: str, label: str) -> str:
    """A table that scrolls sideways by itself, also by keyboard."""
    return f'<div class="wide" tabindex="0" role="region" aria-label="{escape(label)}">{table}</div>'


def summary_table(table: Table) -> str:
    """A table of configurations with its notes, and its text for LaTeX and Markdown."""
    headings = formats.headings(table)
    body = "".join(_bodies(table, len(headings)))
    notes = "".join(f'<p class="quiet">{escape(source)}</p>' for source in formats.notes(table))
    epoch = table.epoch[0].upper() + table.epoch[1:]
    caption = f"<strong>{escape(epoch)}.</strong> Baseline: {escape(table.baseline)}."
    inside = f"<caption><span>{caption}</span></caption>{_head(headings)}{body}"
    texts = {"LaTeX": formats.latex(table), "Markdown": formats.markdown(table)}
    copies = "".join(
        f'<details class="text"><summary>{name}</summary><pre>{escape_html(text)}</pre></details>'
        for name, text in texts.items()
    )
    return f'{scrolled(f"""<table class="data">{inside}</table>""", epoch)}{notes}<div class="copies">{copies}</div>'


def _head(headings: Sequence[str]) -> str:
    return "<thead><tr>" + "".join(f'<th scope="col">{escape(text)}</th>' for text in headings) + "</tr></thead>"


def _bodies(table: Table, columns: int) -> Iterator[str]:
    """One ``tbody`` per part."""
    lines = list(formats.lines(table))
    for part in dict.fromkeys(line.part for line in lines):
        heading = f'<tr><th scope="rowgroup" colspan="{columns}">{PARTS[part]}</th></tr>' if part in PARTS else ""
        rows = []
        for line in (line for line in lines if line.part == part):
            label = line.label.removesuffix(f" minus {table.baseline}") if part == "difference" else line.label
            cells = [f"<strong>{escape(cell)}</strong>" if best else escape(cell) for cell, best in line.cells]
            data = "".join(f"<td>{cell}</td>" for cell in [escape(line.n), *cells])
            rows.append(f'<tr class="{part}"><th scope="row">{escape(label)}</th>{data}</tr>')
        yield f"<tbody>{heading}{''.join(rows)}</tbody>"


def class_table(data: DataSet) -> str:
    """The accuracy of each class under each configuration, rarest class first, and each regularizer's gain."""
    pairs = find_pairs(data.groups)
    columns = [mean_accuracy(group)[1] for group in data.groups]
    gains = [pair.class_gains() for pair in pairs]
    rows = sorted(data.runs[0].classes, key=lambda row: row.train_count)
    shown = rows[:MOST_CLASSES]
    head = ["class", "group", "training images", *(group.label for group in data.groups)]
    head += [f"gain of {pair.label}" for pair in pairs]
    counts = agreed(data.groups, lambda row: f"{row.train_count:,}")
    shots = agreed(data.groups, lambda row: row.group)
    body = "".join(
        f'<tr><th scope="row">{escape(row.class_name)}</th><td>{escape(shots[row.class_id] or formats.NONE)}</td>'
        f"<td>{counts[row.class_id] or formats.NONE}</td>"
        + "".join(f"<td>{_number(values[row.class_id], '{:.1f}'.format)}</td>" for values in columns)
        + "".join(f"<td>{_number(values[row.class_id], signed)}</td>" for values in gains)
        + "</tr>"
        for row in shown
    )
    limit = f" The {MOST_CLASSES:,} rarest of {len(rows):,} classes." if len(rows) > len(shown) else ""
    differ = " A dash: configurations have different numbers of training images." if None in counts else ""
    caption = (
        "<caption><span>Test accuracy in %, last epoch, mean over the seeds; gain: with the regularizer minus without "
        f"it, in points, mean over the seeds that both have.{differ}{limit}</span></caption>"
    )
    table = f'<table class="data">{caption}{_head(head)}<tbody>{body}</tbody></table>'
    return (
        f"<details><summary>{len(shown):,} classes: accuracy and gain</summary>{scrolled(table, 'classes')}</details>"
    )


def _number(value: float, text: Callable[[float], str]) -> str:
    return formats.NONE if math.isnan(value) else text(value)


def listing(found: Listing) -> str:
    """A small table below a plot."""
    rows = "".join("<tr>" + "".join(f"<td>{escape(text)}</td>" for text in row) + "</tr>" for row in found.rows)
    caption = f"<caption><span>{escape(found.title)}</span></caption>"
    return scrolled(f"<table>{caption}{_head(found.head)}<tbody>{rows}</tbody></table>", found.title)
