"""Many-, medium- and few-shot classes: the thresholds, for all of carlt (Liu et al., CVPR 2019, section 4.1)."""

MANY_ABOVE = 100
"""A class with more training images than this is many-shot."""
FEW_BELOW = 20
"""A class with fewer training images than this is few-shot."""
GROUPS = ("many", "medium", "few")
GROUP_COLOURS = {"many": "#0072b2", "medium": "#009e73", "few": "#d55e00"}
"""In all plots, from Okabe and Ito's palette for colour-blind readers."""


def group_of(train_count: int) -> str:
    """The group of a class with ``train_count`` training images.

    >>> [group_of(n) for n in (500, 100, 20, 19)]
    ['many', 'medium', 'medium', 'few']
    """
    return "many" if train_count > MANY_ABOVE else "few" if train_count < FEW_BELOW else "medium"


def evenly_spaced(classes: int, most: int) -> list[int]:
    """Indices of at most ``most`` (at least 2) of ``classes`` ranked classes, the first and the last included.

    >>> evenly_spaced(9, 3), evenly_spaced(2, 3)
    ([0, 4, 8], [0, 1])
    """
    return sorted({round(k * (classes - 1) / (most - 1)) for k in range(most)})


def describe_thresholds() -> str:
    """The groups in words, for tables."""
    return f"many / medium / few-shot classes (> {MANY_ABOVE}, {FEW_BELOW} to {MANY_ABOVE}, < {FEW_BELOW})"
