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
"""The baseline and the best other configuration have sheets."""


def sheet(kind: str, place: int, shown: PlottedGroups, name: str) -> Figure | None:
    """The sheet of the group at ``place``: the first is the baseline, then by overall accuracy."""
    group = shown.ranked()[place]
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
    names = {
        f"pictures of the {kind} ({place + 1})": (kind, place)
        for place in range(min(METHODS, len(shown.groups)))
        for kind in sheets.KINDS
    }
    return {name: partial(sheet, *which, shown, f"{prefix} {name}") for name, which in names.items()}
