"""Plots of each regularized configuration beside the same configuration without the regularizer."""

from collections.abc import Sequence
from functools import partial

import numpy as np

from carlt.reporting.figures.classes import FEW_CLASSES, binned, count_axis_of_classes
from carlt.reporting.figures.confusion import heat_map_ticks, shares
from carlt.reporting.figures.style import INK, Figure, LineStyle, Listing, canvas, hover, svg, wrapped
from carlt.reporting.pairs import METRICS, Pair, in_words, verdicts
from carlt.reporting.statistics import signed

PAIRS = 12
"""Pairs that the forest plot and the bars show at most: those with the largest gain of the worst class."""
PANELS = 4
"""Pairs that the plots with one panel per pair show at most."""
HOVERED = 200
"""Up to this number of classes each has a text for the pointer."""
NAMED = 10
"""Number of most helped and of most harmed classes that are named."""


def forest(pairs: Sequence[Pair], look: LineStyle, name: str) -> Figure:
    """The difference of each pair with its interval, one panel per metric."""
    shown, note = _largest(pairs, PAIRS)
    with canvas(9.6, 0.9 + 0.42 * len(shown), len(METRICS)) as (figure, axes):
        for axis, (metric, title) in zip(axes, METRICS.items(), strict=True):
            axis.axvline(0, color=INK, lw=0.8, alpha=0.6)
            for k, pair in enumerate(shown):
                difference = pair.difference(metric)
                if not difference.n:
                    continue
                colour = look(pair.regularized)["color"]
                half = difference.half if difference.n > 2 else np.nan
                bar = axis.errorbar(difference.mean, k, xerr=None if np.isnan(half) else half, color=colour, marker="o",
                                    ms=6, capsize=3, mfc=colour if difference.excludes_zero else "none")  # fmt: skip
                for whisker in bar.lines[2]:
                    whisker.set_linestyle(look(pair.regularized)["ls"])
                hover(axis, [difference.mean], [k], [f"{pair.label}\n{title}: {in_words(difference)}"])
            axis.set(title=title, xlabel="points", ylim=(len(shown) - 0.5, -0.5), yticks=range(len(shown)))
            axis.set_yticklabels([wrapped(p.label, 34) for p in shown] if axis is axes[0] else [""] * len(shown))
            axis.margins(x=0.12)
            axis.sharex(axes[0])  # all differences are points: one scale
        drawn = svg(figure, name)
    compared = sum(pair.difference(metric).n > 2 for pair in pairs for metric in METRICS)
    chance = (
        f" {compared} intervals are compared with zero; by chance alone about 1 in 20 excludes it." if compared else ""
    )
    return Figure(
        f"With and without {_names(pairs)}",
        "Each configuration with a regularizer minus the same configuration without it, paired by seed: mean and 95 % "
        "interval in percentage points. Right of zero the regularizer helps. Filled, and * in the text: the interval "
        f"excludes zero. Fewer than three seeds have no interval here, because they prove nothing.{chance}{note}",
        "Forest plot of the differences: " + " ".join(verdicts(pairs)),
        drawn,
    )


def class_gains(pairs: Sequence[Pair], look: LineStyle, name: str) -> Figure:
    """The gain of each class over its training images, and the most helped and most harmed classes by name."""
    shown, note = _largest(pairs, PANELS)
    listings = []
    largest = [np.abs(pair.class_gains()) for pair in shown]
    reach = 1.1 * max([1.0, *(np.nanmax(gains) for gains in largest if not np.isnan(gains).all())])
    with canvas(4.6 * min(len(shown), 2) + 0.4, 3.1 * -(-len(shown) // 2), len(shown), 2) as (figure, axes):
        for axis, pair in zip(axes, shown, strict=True):
            rows = pair.plain.classes
            gains, counts = pair.class_gains(), np.array([row.train_count for row in rows], dtype=float)
            known = np.flatnonzero(~np.isnan(gains))
            known = known[np.argsort(-counts[known], kind="stable")]
            colour = look(pair.regularized)["color"]
            axis.axhline(0, color=INK, lw=0.8, alpha=0.6)
            x, y = np.maximum(counts[known], 0.8), gains[known]
            many = len(known) > FEW_CLASSES
            axis.plot(x, y, ".", ms=3 if many else 7, alpha=0.35 if many else 1, color=colour, rasterized=many)
            if len(known) <= HOVERED:
                texts = [
                    f"{rows[i].class_name}: {signed(gains[i])} points, {counts[i]:,.0f} training images" for i in known
                ]
                hover(axis, x, y, texts)
            if many:
                axis.plot(*binned(x, y), marker="o", ms=3.5, **look(pair.regularized))
            if len(known):
                count_axis_of_classes(axis)
            axis.set_ylim(-reach, reach)
            axis.set_title(wrapped(pair.label, 44), pad=16)
            axis.set(xlabel="training images of the class (rare right)", ylabel="gain (points)")
            listings += _helped_and_harmed(pair, gains)
        drawn = svg(figure, name)
    line = " The line is the mean over classes of similar frequency." if len(rows) > FEW_CLASSES else ""
    return Figure(
        f"Gain of each class by {_names(pairs)}",
        "Test accuracy with the regularizer minus without it; each point is a class, the mean over the seeds that both "
        f"ran. Above zero the class gains. All panels have one scale, symmetric about zero.{line} Below: the classes "
        f"with the largest gains and losses, with their training images.{note}",
        "Scatter plots of the gain of each class over its training images.",
        drawn,
        listings,
    )


def confusion_difference(pairs: Sequence[Pair], look: LineStyle, name: str) -> Figure:
    """Confusion with the regularizer minus without it, over the seeds that both ran."""
    from matplotlib.colors import SymLogNorm

    shown, note = _largest(pairs, PANELS)
    maps = [100 * (shares(p.regularized, p.seeds) - shares(p.plain, p.seeds)) for p in shown]
    reach = max(1.0, *(float(np.abs(difference).max()) for difference in maps))
    norm = SymLogNorm(1, vmin=-reach, vmax=reach, base=10)
    columns = min(len(shown), 2)
    with canvas(4 * columns + 1.2, 3.9 * -(-len(shown) // 2), len(shown), 2) as (figure, axes):
        figure.set_layout_engine("compressed")
        image = None
        for axis, pair, difference in zip(axes, shown, maps, strict=True):
            image = axis.imshow(difference, cmap="PuOr", norm=norm, interpolation="nearest")
            axis.set_title(wrapped(pair.label, 36), fontsize=8.5)
            axis.set_xlabel("predicted class")
            if axis in axes[::2]:
                axis.set_ylabel("true class")
            heat_map_ticks(axis, pair.plain, len(difference), named=axis in axes[::2])
            for i, j in np.argwhere(np.abs(difference) >= 0.5) if len(difference) <= 15 else ():
                strong = abs(float(norm(difference[i, j])) - 0.5) > 0.3  # of the colour scale, which runs from 0 to 1
                axis.text(j, i, f"{difference[i, j]:+.0f}", ha="center", va="center", fontsize=6.5,
                          color="white" if strong else "black")  # fmt: skip
        ticks = [v for v in (-100, -30, -10, -3, -1, 0, 1, 3, 10, 30, 100) if abs(v) <= reach]
        bar = figure.colorbar(image, ax=axes, label="points of the true class's images", shrink=0.85, ticks=ticks)
        bar.ax.set_yticklabels([f"{v:+d}" if v else "0" for v in ticks])
        bar.ax.minorticks_off()
        drawn = svg(figure, name)
    return Figure(
        f"What {_names(pairs)} changes in the confusion",
        "Share of a true class's test images with the regularizer minus without it, most frequent class first. "
        "Violet on the diagonal: more images are right; brown off it: fewer confusions. "
        f"The colour scale is linear within one point and logarithmic beyond.{note}",
        "Heat maps of the difference of two confusion matrices.",
        drawn,
    )


def worst_class_bars(pairs: Sequence[Pair], look: LineStyle, name: str) -> Figure:
    """The worst class with and without the regularizer, and a radar of the groups, as in the paper."""
    shown, note = _largest(pairs, PAIRS)
    spokes = {"test/many": "many", "test/medium": "medium", **METRICS}
    spokes = {key: text for key, text in spokes.items() if any(not np.isnan(p.plain.mean(key)) for p in shown)}
    radar, _ = _largest(pairs, PANELS)
    of_radar = f" of the {PANELS} pairs with the largest gains of the worst class" if len(pairs) > PANELS else ""
    upright = len(shown) > PANELS  # beside one another, the names would be cut
    with canvas(9.6, 6.4 + 1.4 * upright) as (figure, (unused,)):
        unused.remove()
        grid = figure.add_gridspec(2, max(2, len(radar)), height_ratios=(1 + 0.4 * upright, 1.05))
        bars = figure.add_subplot(grid[0, :])
        for k, pair in enumerate(shown):
            for side, group in ((-0.2, pair.plain), (0.2, pair.regularized)):
                values = 100 * np.array(list(group.values("test/worst_class").values()))
                mean = values.mean() if len(values) else np.nan
                spread = values.std(ddof=1) if len(values) > 1 else np.nan
                colour, whisker = look(group)["color"], None if np.isnan(spread) else spread
                bars.bar(k + side, mean, 0.38, yerr=whisker, capsize=3, ec=colour,
                         fc=colour if group is pair.plain else "none", ecolor=INK, lw=1.4,
                         hatch=None if group is pair.plain else "////", error_kw={"lw": 1})  # fmt: skip
                hover(bars, [k + side], [mean], [f"{group.label}: {mean:.1f} %"])
                bars.annotate("none" if np.isnan(mean) else f"{mean:.1f}", (k + side, mean + np.nan_to_num(spread)),
                              (0, 2), textcoords="offset points", ha="center", va="bottom", fontsize=8)  # fmt: skip
        names = [wrapped(p.label, 30 if upright else 96 // len(shown)) for p in shown]
        bars.set_xticks(range(len(shown)), names, fontsize=8, rotation=90 if upright else 0)
        bars.set(ylabel="worst class (%)", xlim=(-0.6, len(shown) - 0.4))
        bars.set_ylim(0, max(5.0, 1.15 * bars.get_ylim()[1]))
        angles = np.linspace(0, 2 * np.pi, len(spokes), endpoint=False)
        for k, pair in enumerate(radar):
            axis = figure.add_subplot(grid[1, k], polar=True)
            for group in (pair.plain, pair.regularized):
                values = 100 * np.array([group.mean(key) for key in spokes])
                axis.plot(
                    np.append(angles, angles[:1]), np.append(values, values[:1]), label=group.label, **look(group)
                )
            axis.set_xticks(angles, list(spokes.values()), fontsize=7)
            axis.set(ylim=(0, 100), yticks=(25, 50, 75, 100))
            axis.set_yticklabels(["", "50", "", "100"], fontsize=6.5)
            if of_radar:  # else each radar stands below the named bars of its pair
                axis.set_title(wrapped(pair.label, 96 // len(radar)), fontsize=8, pad=14)
            axis.grid(color=INK, alpha=0.15, lw=0.6)
        drawn = svg(figure, name)
    return Figure(
        f"The worst class with and without {_names(pairs)}",
        "Bars: test accuracy of the worst class, mean and standard deviation over the seeds; filled without, hatched "
        f"with the regularizer.{note} Below: groups of classes{of_radar} in %, 0 in the centre and 100 at the rim; "
        "dashed with the regularizer.",
        "Bars of the worst class: " + "; ".join(
            f"{p.label} {100 * p.regularized.mean('test/worst_class'):.1f} %, "
            f"without it {100 * p.plain.mean('test/worst_class'):.1f} %" for p in shown
        ),
        drawn,
    )  # fmt: skip


PLOTS = {
    "with and without the regularizer": forest,
    "worst class with and without the regularizer": worst_class_bars,
    "gain of each class": class_gains,
    "confusion difference": confusion_difference,
}


def drawings(pairs: Sequence[Pair], look: LineStyle, prefix: str) -> dict:
    """The plots by name; none where no configuration has a pair."""
    return {name: partial(draw, pairs, look, f"{prefix} {name}") for name, draw in PLOTS.items()} if pairs else {}


def _names(pairs: Sequence[Pair]) -> str:
    names = {pair.regularizer for pair in pairs}
    return names.pop() if len(names) == 1 else "the regularizer"


def _largest(pairs: Sequence[Pair], most: int) -> tuple[list[Pair], str]:
    """At most ``most`` pairs, in their order, and a sentence about the others."""
    gain = [np.nan_to_num(pair.difference("test/worst_class").mean, nan=-np.inf) for pair in pairs]
    kept = sorted(np.argsort(-np.array(gain), kind="stable")[:most])
    left = len(pairs) - len(kept)
    note = f" {left} pairs with smaller gains of the worst class are left out." if left else ""
    return [pairs[k] for k in kept], note


def _helped_and_harmed(pair: Pair, gains: np.ndarray) -> list[Listing]:
    rows = pair.plain.classes
    gains = gains.round(1)  # as it is printed: no class is harmed by -0.0
    order = [int(k) for k in np.argsort(-np.nan_to_num(gains), kind="stable")]
    sides = {
        "most helped": [k for k in order[:NAMED] if gains[k] > 0],
        "most harmed": [k for k in order[::-1][:NAMED] if gains[k] < 0],
    }
    return [
        Listing(
            f"{pair.label}: {side}",
            ("class", "training images", "gain"),
            [(rows[k].class_name, f"{rows[k].train_count:,}", f"{gains[k]:+.1f}") for k in chosen],
        )
        for side, chosen in sides.items()
        if chosen
    ]
