"""A report as one self-contained HTML file, for light and dark screens and for paper."""

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from carlt.reporting import formats
from carlt.reporting.figures import Figure
from carlt.reporting.groups import DataSet, shared_options
from carlt.reporting.html import class_table, escape, listing, scrolled, summary_table
from carlt.reporting.summary import Table
from carlt.runs.reading import LeftOut


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
    script = _beside("page.js")
    digest = b64encode(sha256(script.encode()).digest()).decode()
    # Nothing is loaded, and no script runs but the page's own.
    policy = f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'sha256-{digest}'"
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>{escape(title)}</title>
<style>{_beside("page.css")}</style>
</head>
<body>
<h1>Long-tailed recognition: report</h1>
<p class="quiet">{escape(written)}</p>
<nav aria-label="Contents"><ul>{_contents(sections, bool(left))}</ul></nav>
{body}
{missing}
<script>{script}</script>
</body>
</html>
"""


def _beside(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


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
    tables = "".join(map(summary_table, section.tables)) + class_table(section.data)
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
    """The numbers of runs, configurations, seeds, images and epochs, and what all configurations have in common."""
    counts = [run.result.get("class_counts") or [] for run in data.runs]
    totals, per_class = sorted({sum(c) for c in counts}), [n for c in counts for n in c]
    images = (
        f"{_range(totals)} training images, {max(per_class):,} to {min(per_class):,} per class; " if per_class else ""
    )
    seeds = sorted({len(group.runs) for group in data.groups})
    epochs = sorted({run.result["epochs"] for run in data.runs})
    commits = {run.result.get("commit") for run in data.runs}
    mixed = f" The runs come from {len(commits)} commits, which the list of runs names." if len(commits) > 1 else ""
    shared = shared_options(data.groups)
    common = f" Common to all: {', '.join(shared)}." if shared else ""
    return (
        f"{_count([len(data.runs)], 'run')} of {_count([len(data.groups)], 'configuration')}, "
        f"{_count(seeds, 'seed')} per configuration; {images}{_count(epochs, 'epoch')}. "
        f"The numbers are those of the last epoch on the test split.{common}{mixed}"
    )


def _count(values: Sequence[int], what: str) -> str:
    return f"{_range(values)} {what}{'' if values == [1] else 's'}"


def _range(values: Sequence[int]) -> str:
    return f"{values[0]:,}" if len(values) == 1 else f"{values[0]:,} to {values[-1]:,}"


def _figure(figure: Figure, anchor: str) -> str:
    drawn = figure.svg.replace("<svg ", f'<svg role="img" aria-label="{escape(figure.alt)}" ', 1)
    listings = "".join(map(listing, figure.listings))
    below = f'<div class="listings">{listings}</div>' if listings else ""
    return (
        f'<h3 id="{anchor}">{escape(figure.title)}</h3>'
        f"<figure>{scrolled(drawn, figure.title)}<figcaption>{escape(figure.caption)}</figcaption></figure>{below}\n"
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
    table = scrolled(f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>", "runs")
    summary = f"{_count([len(data.runs)], 'run')}: seed, commit, machine, folder"
    return f'<details id="{anchor}r"><summary>{summary}</summary><div class="listings">{table}</div></details>'


def _machine(result: dict) -> str:
    hardware, versions = result.get("hardware") or {}, result.get("versions") or {}
    torch = f"torch {versions['torch']}" if "torch" in versions else ""
    return ", ".join(text for text in (str(hardware.get("name", "")), torch) if text) or "-"
