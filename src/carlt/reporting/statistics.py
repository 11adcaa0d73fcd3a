"""The statistics of a table: mean and standard deviation over seeds, and differences paired by seed."""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import NamedTuple


class MeanAndStd(NamedTuple):
    """Mean of ``n`` values and their standard deviation (n - 1); NaN where there are too few."""

    mean: float
    deviation: float
    n: int


class Difference(NamedTuple):
    """Mean of ``n`` paired differences and half their 95 % confidence interval; NaN where there are too few."""

    mean: float
    half: float
    n: int

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval of at least three pairs excludes zero; fewer prove nothing, nor do equal differences,
        whose interval has no width but that of rounding."""
        return self.n > 2 and abs(self.mean) > self.half > 1e-9


def signed(value: float, digits: int = 1) -> str:
    """``+1.7``, ``-1.7``, and zero without a sign."""
    text = f"{value:+.{digits}f}"
    return text if float(text) else text[1:]


def mean_and_std(values: Sequence[float]) -> MeanAndStd:
    """sum x / n and sqrt(sum (x - mean)^2 / (n - 1))."""
    return MeanAndStd(
        fmean(values) if values else math.nan, stdev(values) if len(values) > 1 else math.nan, len(values)
    )


def paired_difference(ours: Mapping[int, float], theirs: Mapping[int, float]) -> Difference:
    """Mean of ours minus theirs over the n common seeds, and half its 95 % interval, t(0.975, n - 1) s_d / sqrt(n)."""
    from scipy.special import stdtrit  # scipy.stats has it too, after a second of imports

    mean, deviation, n = mean_and_std([ours[seed] - theirs[seed] for seed in sorted(ours.keys() & theirs.keys())])
    return Difference(mean, float(stdtrit(n - 1, 0.975)) * deviation / math.sqrt(n) if n > 1 else math.nan, n)
