"""Sheets of wrongly predicted test images in the report."""

from collections.abc import Callable
from functools import partial

from carlt.errors import CarltError
from carlt.reporting import sheets
from carlt.reporting.figures.style import Figure, PlottedGroups, canvas, svg
from carlt.reporting.groups import Group
from carlt.runs.examples import Examples, read_examples
from carlt.runs.text import printable

METHODS = 2
"""The baseline and the best other trained configuration have sheets: a post-hoc method records no pictures."""


def sheet(kind: str, group: Group, name: str) -> Figure | None:
    """The sheet of the first seed of ``group`` that has pictures."""
    seed, examples = _first(group)
    rows = sheets.rows_of(examples, kind) if examples else []
    if not examples or not rows:
        return None
    columns = 2 * examples.captions.shape[1]
    with canvas(1.5 * columns, 1.7 * len(rows), len(rows) * columns, columns) as (figure, axes):
        sheets.draw_rows(axes, examples, rows)
        drawn = svg(figure, name)
    return Figure(
        f"{kind.capitalize()} of {printable(group.label)}, seed {seed}",
        sheets.READING,
        f"Pictures of the {kind}: " + "; ".join(printable(str(examples.titles[row])) for row in rows),
        drawn,
    )


def _first(group: Group) -> tuple[int, Examples | None]:
    """The first seed that recorded pictures."""
    for seed, run in group.runs.items():
        try:
            if found := read_examples(run.folder):
                return seed, found
        except CarltError:  # a damaged file costs its pictures, not the report
            continue
    return 0, None


def drawings(shown: PlottedGroups, prefix: str) -> dict[str, Callable[[], Figure | None]]:
    """The sheets by name."""
    trained = [group for group in shown.ranked() if not group.posthoc][:METHODS]
    names = {f"pictures of the {kind} of {group.label}": (kind, group) for group in trained for kind in sheets.KINDS}
    return {name: partial(sheet, *which, f"{prefix} {name}") for name, which in names.items()}
