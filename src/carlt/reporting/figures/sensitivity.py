"""The effect of each swept parameter, with all other values fixed."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from carlt.reporting.figures.style import INK, Figure, LineStyle, canvas, svg, wrapped
from carlt.reporting.groups import Group, implied
from carlt.reporting.statistics import mean_and_std

PANELS = {"test/accuracy": "overall (%)", "test/few": "few (%)", "test/worst_class": "worst class (%)"}
LINES = 3
TICKS = 7
DEFAULT = "default"


class Sweep(NamedTuple):
    """One line of the plot: groups that differ by one parameter alone, and their common values."""

    label: str
    groups: Mapping[str, Group]


def sweeps(groups: Sequence[Group]) -> dict[str, list[Sweep]]:
    """Each parameter that has several values while nothing else changes, with its lines, the longest first."""
    names = list(dict.fromkeys(name for group in groups for name in group.config))
    differing = [name for name in names if len({group.config.get(name) for group in groups}) > 1]
    found = {}
    for parameter in (name for name in differing if _is_parameter(name)):
        families: dict[tuple[str | None, ...], dict[str, Group]] = {}
        rest = [name for name in differing if name != parameter and not implied(name)]
        for group in groups:
            value = group.config.get(parameter, DEFAULT)
            families.setdefault(tuple(group.config.get(name) for name in rest), {})[value] = group
        lines = {key: family for key, family in families.items() if len(family) > 1}
        if lines:
            apart = [i for i, name in enumerate(rest) if len({k[i] for k in lines}) > 1 or name.startswith("choices.")]
            longest = sorted(lines.items(), key=lambda item: -len(item[1]))
            found[parameter] = [Sweep(_label(rest, key, apart), family) for key, family in longest]
    return found


def sensitivity(parameter: str, lines: Sequence[Sweep], baseline: Group, look: LineStyle, name: str) -> Figure:
    """Accuracy over the values of a parameter, mean and standard deviation over the seeds; a line looks as its first
    group does in other plots."""
    shown = lines[:LINES]
    values = _ordered({value for line in shown for value in line.groups})
    numbers = _numbers(values)
    place = dict(zip(values, numbers or range(len(values)), strict=True))
    inside = any(baseline is group for line in shown for group in line.groups.values())
    with canvas(9, 2.9, len(PANELS)) as (figure, axes):
        for axis, (metric, title) in zip(axes, PANELS.items(), strict=True):
            for line in shown:
                style = look(next(iter(line.groups.values())))
                points = [
                    (place[value], *mean_and_std([100 * v for v in group.values(metric).values()]))
                    for value, group in sorted(line.groups.items(), key=lambda item: place[item[0]])
                ]
                x, mean, deviation, _ = np.array(points, dtype=float).T
                # A value that the record lacks is drawn between the others.
                first = int(DEFAULT in line.groups)
                axis.plot(x[first:], mean[first:], **style)
                axis.plot([], [], marker="o", ms=4, label=line.label, **style)
                axis.errorbar(x, mean, np.nan_to_num(deviation), color=style["color"], marker="o", ms=4, capsize=2.5,
                              ls="", elinewidth=1)  # fmt: skip
            reference = 100 * baseline.mean(metric)
            if not inside and not math.isnan(reference):
                axis.axhline(reference, color="#808080", lw=1.2, label=f"baseline: {baseline.label}")
            axis.set_title(title)
            axis.set_xlabel(parameter)
            axis.grid(axis="y", color=INK, alpha=0.12, lw=0.6)
            _ticks(axis, values, numbers)
            low, high = axis.get_ylim()
            axis.set_ylim(max(0, low), min(102, max(high, low + 4)))  # a small effect must not fill the plot
        handles, labels = axes[0].get_legend_handles_labels()
        if len(labels) > 1:
            figure.legend(
                handles, [wrapped(text, 60) for text in labels], loc="outside lower center", fontsize=8.5, ncols=2
            )
        drawn = svg(figure, name)
    default = (
        f" {DEFAULT.capitalize()}: not set in the config, so the constructor's value." if DEFAULT in values else ""
    )
    left = f" {len(lines) - len(shown)} more lines left out." if len(lines) > len(shown) else ""
    return Figure(
        f"Sensitivity to {parameter}",
        "Mean and standard deviation over the seeds, on axes that do not begin at zero; all else stays as it is. A "
        "flat line says that the value hardly matters; whiskers that overlap the neighbours', that these seeds do not "
        f"show a difference.{default}{left}",
        f"Line plots of overall, few-shot and worst-class test accuracy over {parameter} = {', '.join(values)}.",
        drawn,
    )


def _is_parameter(name: str) -> bool:
    """A value of a part: no choice of a part, no recipe (which other values repeat), no checksum."""
    return not (implied(name) or name.startswith("choices.") or name.endswith("._target_"))


def _label(names: Sequence[str], key: Sequence[str | None], apart: Sequence[int]) -> str:
    told = [i for i in apart if not names[i].endswith("_target_") and key[i] is not None]
    return ", ".join(f"{names[i].removeprefix('choices.')}={key[i]}" for i in told) or "runs"


def _ordered(values: set[str]) -> list[str]:
    """Numbers by size; the constructor's default, which no record spells out, first; then the rest by name."""

    def key(value: str) -> tuple[int, float, str]:
        number = _number(value)
        return (0, 0, "") if value == DEFAULT else (2, 0, value) if number is None else (1, number, "")

    return sorted(values, key=key)


def _numbers(values: Sequence[str]) -> list[float] | None:
    """The values as numbers; None if one is none."""
    numbers = [_number(value) for value in values]
    return None if None in numbers else [number for number in numbers if number is not None]


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _ticks(axis: Any, values: Sequence[str], numbers: Sequence[float] | None) -> None:
    """One tick per value, fewer for many numbers; a logarithmic axis where they span more than a factor of 8."""
    from matplotlib.ticker import NullLocator

    if numbers and min(numbers) > 0 and max(numbers) / min(numbers) > 8:
        axis.set_xscale("log")
        axis.xaxis.set_minor_locator(NullLocator())
    at = list(numbers or range(len(values)))
    step = -(-len(at) // TICKS) if numbers else 1
    rotation = 45 if sum(map(len, values[::step])) > 30 else 0
    axis.set_xticks(at[::step], values[::step], rotation=rotation)
    axis.margins(x=0.08)
