"""Each configuration with a regularizer beside the same configuration without it, paired by seed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from carlt.reporting.groups import Group
from carlt.reporting.statistics import Difference, paired_difference, signed
from carlt.runs.keys import is_under
from carlt.runs.text import counted

OF_REGULARIZER = ("reg", "choices.reg", "choices.preset", "recipe")
"""Keys that may differ within a pair: the regularizer, and what other keys repeat."""
METRICS = {
    "test/accuracy": "overall",
    "test/few": "few",
    "test/worst_class": "worst class",
    "test/worst_10pct": "worst 10 %",
}
PROVES_NOTHING = {
    0: "No seed is common to both, so there is nothing to compare.",
    1: "One pair of seeds has no interval and proves nothing.",
    2: "Two pairs of seeds prove nothing: their interval rests on a single degree of freedom.",
}


@dataclass(frozen=True)
class Pair:
    """Two groups that differ by the regularizer alone."""

    plain: Group
    regularized: Group

    @property
    def label(self) -> str:
        return self.regularized.label

    @property
    def seeds(self) -> list[int]:
        """The seeds that both groups ran."""
        return sorted(self.plain.runs.keys() & self.regularized.runs.keys())

    @property
    def regularizer(self) -> str:
        """CAR's name in the paper; other regularizers are named as their option."""
        name = self.regularized.config.get("choices.reg", "the regularizer")
        return name.replace("car", "CAR", 1) if name.split("_")[0] == "car" else name

    def difference(self, metric: str) -> Difference:
        """With the regularizer minus without it, in percentage points."""
        ours, theirs = ({seed: 100 * v for seed, v in g.values(metric).items()} for g in (self.regularized, self.plain))
        return paired_difference(ours, theirs)

    def class_gains(self) -> np.ndarray:
        """Test accuracy with the regularizer minus without it, in points, (C,): means over the common seeds.

        NaN for classes without test images in some seed.
        """
        with_it, without = (
            np.array([[row.accuracy for row in group.runs[seed].classes] for seed in self.seeds])
            for group in (self.regularized, self.plain)
        )
        return 100 * (with_it - without).mean(0)


def without_regularizer(group: Group) -> frozenset[tuple[str, str]]:
    """The configuration without its regularizer: equal within a pair."""
    return frozenset((name, value) for name, value in group.config.items() if not is_under(name, OF_REGULARIZER))


def is_plain(group: Group) -> bool:
    """Whether the group was trained without a regularizer."""
    return group.config.get("choices.reg", "none") == "none"


def find_pairs(groups: Sequence[Group]) -> list[Pair]:
    """The pairs with at least one common seed, in the order of ``groups``; of several partners that with the most."""
    plain: dict[frozenset[tuple[str, str]], list[Group]] = {}
    for group in groups:
        if is_plain(group):
            plain.setdefault(without_regularizer(group), []).append(group)
    regularized = [group for group in groups if not is_plain(group)]
    partners = [[Pair(other, group) for other in plain.get(without_regularizer(group), ())] for group in regularized]
    pairs = [max(found, key=lambda pair: len(pair.seeds)) for found in partners if found]
    return [pair for pair in pairs if pair.seeds]


def verdicts(pairs: Sequence[Pair]) -> Iterator[str]:
    """One paragraph per pair that a reader may quote."""
    for pair in pairs:
        found = {name: pair.difference(metric) for metric, name in METRICS.items()}
        found = {name: difference for name, difference in found.items() if difference.n}
        n = len(pair.seeds)
        yield (
            f"{pair.label} against {pair.plain.label}, {counted(n, 'paired seed')}: "
            + "; ".join(f"{name} {in_words(difference)}" for name, difference in found.items())
            + f". {_verdict(pair.regularizer, found, n)}"
        )


def unpaired(groups: Sequence[Group]) -> list[str]:
    """A sentence that names the configurations with a regularizer and without a pair, if there are any."""
    paired = {id(pair.regularized) for pair in find_pairs(groups)}
    alone = [group for group in groups if not is_plain(group) and id(group) not in paired]
    labels = "; ".join(group.label for group in alone[:3])
    more = f" and {len(alone) - 3} more" if len(alone) > 3 else ""
    kinds = {f"reg={group.config.get('choices.reg')}" for group in alone}
    hidden = sorted(kind for kind in kinds if kind not in labels)  # a label lacks what all rows have in common
    trained = f" (trained with {', '.join(hidden)})" if hidden else ""
    return [
        f"{labels}{more}{trained}: nothing here shows what the regularizer changes, because no run with reg=none has "
        "the same other values and a seed in common. Train with reg=none as well."
    ] * bool(alone)


def in_words(difference: Difference) -> str:
    """``+1.7 points (95 % interval +0.2 to +3.2)*``."""
    mean, half, n = difference
    interval = f" (95 % interval {signed(mean - half)} to {signed(mean + half)})" if n > 1 else ""
    return f"{signed(mean)} points{interval}{'*' if difference.excludes_zero else ''}"


def _verdict(regularizer: str, found: dict[str, Difference], n: int) -> str:
    if n in PROVES_NOTHING:
        return PROVES_NOTHING[n]
    better = [name for name, difference in found.items() if difference.excludes_zero and difference.mean > 0]
    worse = [name for name, difference in found.items() if difference.excludes_zero and difference.mean < 0]
    if not better and not worse:
        return f"No interval shows a difference: these seeds do not show that {regularizer} helps or harms."
    parts = [f"improves {_listed(better)}"] if better else []
    parts += [f"lowers {_listed(worse)}"] if worse else []
    others = "; the other intervals show no difference" if len(better + worse) < len(found) else ""
    return f"{regularizer} {' and '.join(parts)}{others}."


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
