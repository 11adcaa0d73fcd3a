"""A report as one self-contained HTML file, for light and dark screens and for paper."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape as escape_html
from pathlib import Path

from carlt.reporting import formats
from carlt.reporting.figures import Figure, Listing
from carlt.reporting.groups import DataSet
from carlt.reporting.summary import Table
from carlt.runs.reading import LeftOut
from carlt.runs.text import printable

PARTS = {
    "difference": "difference to the baseline, paired by seed",
    "published": "published by others, not measured here",
}


@dataclass(frozen=True)
class Section:
    """One data set: its tables, its plots, and the names of the plots whose data no run recorded."""

    data: DataSet
    tables: Sequence[Table]
    figures: Sequence[Figure]
    missing: Sequence[str]


def page(sections: Sequence[Section], left_out: Sequence[LeftOut], written: str) -> str:
    """The HTML of a report; ``written`` is a sentence with its date and its folders."""
    title = "Report: " + "; ".join(section.data.title for section in sections)
    body = "".join(_section(section, f"d{k}") for k, section in enumerate(sections))
    left = "".join(f"<li><code>{escape(str(folder))}</code>: {escape(reason)}</li>" for folder, reason in left_out)
    missing = f'<h2 id="left-out">Left out</h2><ul>{left}</ul>' if left else ""
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{Path(__file__).with_name("page.css").read_text()}</style>
</head>
<body>
<h1>Long-tailed recognition: report</h1>
<p class="quiet">{escape(written)}</p>
<nav aria-label="Contents"><ul>{_contents(sections, bool(left))}</ul></nav>
{body}
{missing}
</body>
</html>
"""


def _contents(sections: Sequence[Section], left_out: bool) -> str:
    items = []
    for k, section in enumerate(sections):
        plots = "".join(
            f'<li><a href="#d{k}f{i}">{escape(figure.title)}</a></li>' for i, figure in enumerate(section.figures)
        )
        inner = f'<ul><li><a href="#d{k}t">Tables</a></li>{plots}<li><a href="#d{k}r">Runs</a></li></ul>'
        items.append(f'<li><a href="#d{k}">{escape(section.data.title)}</a>{inner}</li>')
    return "".join(items) + ('<li><a href="#left-out">Left out</a></li>' if left_out else "")


def _section(section: Section, anchor: str) -> str:
    tables = "".join(_table(table) for table in section.tables)
    figures = "".join(_figure(figure, f"{anchor}f{i}") for i, figure in enumerate(section.figures))
    said = "".join(f"<p>{escape(text)}</p>" for table in section.tables for text in table.verdicts)
    verdict = f'<div class="verdict">{said}</div>' if said else ""
    lacking = escape(", ".join(section.missing))
    missing = f'<p class="quiet">Not drawn, because no run recorded the data: {lacking}.</p>' if lacking else ""
    return (
        f'<section><h2 id="{anchor}">{escape(section.data.title)}</h2><p>{escape(_facts(section.data))}</p>{verdict}'
        f'<h3 id="{anchor}t">Tables</h3><p class="quiet">{escape(formats.NOTE)}</p>{tables}{figures}{missing}'
        f"{_runs(section.data, anchor)}</section>\n"
    )


def _facts(data: DataSet) -> str:
    """The numbers of runs, configurations, seeds, images and epochs."""
    counts = [run.result.get("class_counts") or [] for run in data.runs]
    totals, per_class = sorted({sum(c) for c in counts}), [n for c in counts for n in c]
    images = (
        f"{_range(totals)} training images, {max(per_class):,} to {min(per_class):,} per class; " if per_class else ""
    )
    seeds = sorted({len(group.runs) for group in data.groups})
    epochs = sorted({run.result["epochs"] for run in data.runs})
    commits = {run.result.get("commit") for run in data.runs}
    mixed = f" The runs come from {len(commits)} commits, which the list of runs names." if len(commits) > 1 else ""
    return (
        f"{_count([len(data.runs)], 'run')} of {_count([len(data.groups)], 'configuration')}, "
        f"{_count(seeds, 'seed')} per configuration; {images}{_count(epochs, 'epoch')}. "
        f"The numbers are those of the last epoch on the test split.{mixed}"
    )


def _count(values: Sequence[int], what: str) -> str:
    return f"{_range(values)} {what}{'' if values == [1] else 's'}"


def _range(values: Sequence[int]) -> str:
    return f"{values[0]:,}" if len(values) == 1 else f"{values[0]:,} to {values[-1]:,}"


def _table(table: Table) -> str:
    head = "".join(f'<th scope="col">{escape(text)}</th>' for text in formats.headings(table))
    body = "".join(_bodies(table, len(formats.headings(table))))
    notes = "".join(f'<p class="quiet">{escape(source)}</p>' for source in formats.notes(table))
    caption = (
        f"<strong>{escape(table.epoch[0].upper() + table.epoch[1:])}.</strong> Baseline: {escape(table.baseline)}."
    )
    inside = f"<caption>{caption}</caption><thead><tr>{head}</tr></thead>{body}"
    return f'<div class="wide"><table>{inside}</table></div>{notes}'


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


def _figure(figure: Figure, anchor: str) -> str:
    drawn = figure.svg.replace("<svg ", f'<svg role="img" aria-label="{escape(figure.alt)}" ', 1)
    listings = "".join(_listing(listing) for listing in figure.listings)
    below = f'<div class="listings">{listings}</div>' if listings else ""
    return (
        f'<h3 id="{anchor}">{escape(figure.title)}</h3>'
        f"<figure>{drawn}<figcaption>{escape(figure.caption)}</figcaption></figure>{below}\n"
    )


def _listing(listing: Listing) -> str:
    head = "".join(f'<th scope="col">{escape(text)}</th>' for text in listing.head)
    rows = "".join("<tr>" + "".join(f"<td>{escape(text)}</td>" for text in row) + "</tr>" for row in listing.rows)
    return (
        f"<table><caption>{escape(listing.title)}</caption><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    )


def _runs(data: DataSet, anchor: str) -> str:
    """The run folder, commit and machine behind each number."""
    rows = "".join(
        f"<tr><td>{escape(group.label)}</td><td>{seed}</td><td>{escape(str(run.result.get('commit') or '-')[:9])}</td>"
        f"<td>{escape(_machine(run.result))}</td><td><code>{escape(str(run.folder))}</code></td></tr>"
        for group in data.groups
        for seed, run in group.runs.items()
    )
    head = "".join(f'<th scope="col">{text}</th>' for text in ("configuration", "seed", "commit", "machine", "folder"))
    return (
        f'<details id="{anchor}r"><summary>{_count([len(data.runs)], "run")}: seed, commit, machine, folder</summary>'
        '<div class="wide listings">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div></details>"
    )


def _machine(result: dict) -> str:
    hardware, versions = result.get("hardware") or {}, result.get("versions") or {}
    torch = f"torch {versions['torch']}" if "torch" in versions else ""
    return ", ".join(text for text in (str(hardware.get("name", "")), torch) if text) or "-"


def escape(text: str) -> str:
    """``text`` as HTML shows it, control characters written out."""
    return escape_html(printable(text))
