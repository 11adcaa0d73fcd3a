"""The style of a report's plots: SVG in the page's text colour, with colours for colour-blind readers."""

import io
import re
import textwrap
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle
from typing import Any, NamedTuple

import numpy as np

from carlt.reporting.fonts import families
from carlt.reporting.groups import Group
from carlt.reporting.pairs import is_plain, without_regularizer
from carlt.runs.text import printable

# Okabe and Ito's palette (https://jfly.uni-koeln.de/color/), those that show on white and on black.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
DASHES = ("-", (0, (4, 1.5)), (0, (1, 1)), (0, (6, 1.5, 1, 1.5)), (0, (9, 2)), (0, (3, 1, 1, 1, 1, 1)))
"""Without a regularizer solid; the others by their order among those of the same loss."""
MOST = 6
"""The most methods in one plot; more lines cannot be followed."""
NAME_LETTERS = 24
"""Of a class's name beside an axis; longer names would leave no room for the plot."""
INK = "#010203"
"""A placeholder for the page's text colour until the SVG is written."""
HOVER = "hover: "
"""Marks an id that is a text for the pointer."""
_RC: Any = {
    "svg.fonttype": "none",  # text stays text: small, and readable to machines
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.parse_math": False,  # a class may be called $x$
    **dict.fromkeys(
        ["text.color", "axes.edgecolor", "axes.labelcolor", "axes.titlecolor", "xtick.color", "ytick.color"], INK
    ),
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "legend.frameon": False,
    "lines.linewidth": 1.6,
}


LineStyle = Callable[[Group], dict[str, Any]]
"""How the lines of a group are drawn."""


@dataclass(frozen=True)
class Figure:
    """A plot: its title, how to read it, its description and its SVG."""

    title: str
    caption: str
    alt: str
    svg: str
    listings: Sequence["Listing"] = ()


class Listing(NamedTuple):
    """A small table below a plot, as plain text."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class PlottedGroups:
    """The groups that plots show, the baseline first; a sentence about the others; and how the lines of all look."""

    groups: Sequence[Group]
    baseline: Group
    note: str
    look: LineStyle

    def styles(self) -> Iterator[tuple[Group, dict[str, Any]]]:
        """Each group and how its lines are drawn."""
        for group in self.groups:
            yield group, self.look(group)

    def ranked(self) -> list[Group]:
        """The baseline, then the others by overall accuracy."""
        return sorted(self.groups, key=lambda g: (g is self.baseline, g.mean("test/accuracy")), reverse=True)


def choose(groups: Sequence[Group], baseline: Group) -> PlottedGroups:
    """The baseline and the best others by overall accuracy, at most ``MOST`` in all."""
    others = [group for group in groups if group is not baseline]
    best = sorted(others, key=lambda group: np.nan_to_num(group.mean("test/accuracy"), nan=-1), reverse=True)
    kept = {id(group) for group in best[: MOST - 1]}
    left = len(others) - len(kept)
    note = f"Shown: the baseline and the best {len(kept)} others by overall accuracy; {left} left out. " if left else ""
    chosen = [baseline, *(group for group in others if id(group) in kept)]
    rest = [group for group in others if id(group) not in kept]
    return PlottedGroups(chosen, baseline, note, line_styles([*chosen, *rest]))


def line_styles(groups: Sequence[Group]) -> LineStyle:
    """One hue per configuration without its regularizer (a loss, as a rule), one dash per regularizer.

    The same in all plots of a report; hues and dashes repeat where there are more of them than ``COLOURS`` and
    ``DASHES``.
    """
    families: dict[Any, list[Group]] = {}
    for group in groups:
        families.setdefault(without_regularizer(group), []).append(group)
    found = {}
    for colour, family in zip(cycle(COLOURS), families.values(), strict=False):
        for dash, group in zip(cycle(DASHES[1:]), (g for g in family if not is_plain(g)), strict=False):
            found[group.label] = {"color": colour, "ls": dash}
        found |= {group.label: {"color": colour, "ls": DASHES[0]} for group in family if is_plain(group)}
    return lambda group: found[group.label]


@contextmanager
def canvas(width: float, height: float, panels: int = 1, columns: int = 6) -> Iterator[tuple[Any, list[Any]]]:
    """A figure and its panels, at most ``columns`` in a row, in the report's style."""
    import matplotlib as mpl
    from matplotlib.figure import Figure as Canvas  # not pyplot: no global state, no screen

    with mpl.rc_context(_RC | {"font.sans-serif": families()}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # the reader's browser has it
        figure = Canvas(figsize=(width, height), layout="constrained")
        columns = min(panels, columns)
        axes = figure.subplots(-(-panels // columns), columns, squeeze=False).flatten().tolist()
        for axis in axes[panels:]:
            axis.remove()
        yield figure, axes[:panels]


def svg(figure: Any, name: str) -> str:
    """The figure as ``<svg>``: it scales to its place, takes the page's text colour and has unique ids."""
    import matplotlib as mpl

    text = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": name}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        figure.savefig(text, format="svg", metadata={"Date": None}, dpi=110)
    body = text.getvalue()
    body = body[body.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(rf'<g id="{HOVER}([^"]*)">', r"<g><title>\1</title>", body)
    body = re.sub(r'<g id="[^"]*"', "<g", body)  # every figure has the same ones
    # Hundredths of a point are enough; numbers that are read are no attributes.
    body = re.sub(r'="[^"]*"', lambda found: re.sub(r"(?<=\d\.\d\d)\d+", "", found[0]), body)
    width, height = 72 * figure.get_size_inches()
    # All plots at one scale, so that all letters are of one size.
    size = f'viewBox="0 0 {width:.0f} {height:.0f}" style="max-width: {1.45 * width:.0f}px"'
    body = f'<svg {size} xmlns:xlink="http://www.w3.org/1999/xlink">' + body[body.index(">") + 1 :]
    return re.sub(r"\n\s*", "\n", body).replace(INK, "currentColor")


def hover(axes: Any, x: Sequence[float] | np.ndarray, y: Sequence[float] | np.ndarray, texts: Sequence[str]) -> None:
    """Show each text, of one line or several, where the pointer rests on its point."""
    for at, height, text in zip(x, y, texts, strict=True):
        if np.isfinite(height):
            gid = HOVER + "\n".join(map(printable, text.split("\n")))
            axes.plot([at], [height], "o", ms=9, mew=0, alpha=0.01, color=INK, gid=gid, clip_on=False)


def legend(figure: Any, axes: Any, order: Sequence[int] | None = None) -> None:
    """Names beside the plot from top to bottom in ``order``, best that of the lines."""
    handles, labels = axes.get_legend_handles_labels()
    places = [i for i in (order if order is not None else range(len(handles))) if i < len(handles)]
    figure.legend(
        [handles[i] for i in places], [wrapped(labels[i]) for i in places],
        loc="outside right upper", fontsize=8.5, handlelength=2.4, labelspacing=0.8,
    )  # fmt: skip


def wrapped(text: str, width: int = 30) -> str:
    """A label in at most four lines of ``width`` letters; tables have it in full."""
    return "\n".join(textwrap.wrap(text, width, max_lines=4, placeholder=" ...")) or text


def percent_axis(axes: Any) -> None:
    """0 to 100 with quiet lines to read values by; values at 0 are seen whole."""
    axes.set(ylim=(-2, 102), ylabel="test accuracy (%)")
    axes.grid(axis="y", color=INK, alpha=0.12, lw=0.6)


def share_or_positive(axes: Any, percent: bool) -> None:
    """The range of a value's axis: 0 to 100, with room for values at the ends; otherwise from 0 on, unless some values
    are negative, as a loss may be."""
    if percent:
        axes.set_ylim(-2, 102)
    elif axes.dataLim.y0 >= 0:
        axes.set_ylim(bottom=0)


def count_axis(axes: Any) -> None:
    """A logarithmic axis of image counts in plain numbers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=12))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
