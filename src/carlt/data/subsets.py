"""Long-tailed subsets of balanced sets: the images of each class that are kept, and those of the rest that validate."""

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from carlt.errors import CarltError
from carlt.functional.profile import PROFILES
from carlt.ranges import CountOrZero, Seed, checked

Profile = Literal["exponential", "step", "pareto"]
Rule = Literal["ldam", "concutmix", "first"]

# Published CIFAR-LT numbers are of different subsets: repositories seed NumPy's legacy generator differently.
RULE_SEEDS: dict[str, int] = {"ldam": 0, "concutmix": 10}


def indices_by_class(targets: Tensor, num_classes: int) -> list[Tensor]:
    """For each class the indices of its images, ascending."""
    counts = torch.bincount(targets, minlength=num_classes)
    return list(targets.argsort(stable=True).split(counts.tolist()))


def rank_images(targets: Tensor, num_classes: int, rule: Rule | Seed) -> list[Tensor]:
    """Each class's indices in the order in which ``rule`` keeps them; a smaller subset is the start of a larger one.

    ``ldam`` (Cao et al., NeurIPS 2019, released code): NumPy's legacy generator, seed 0, shuffles class after class.
    ``concutmix``: the same with seed 10. ``first``: file order. An integer: the same as ``ldam`` with that seed.
    """
    classes = indices_by_class(targets, num_classes)
    if rule == "first":
        return classes
    # The legacy generator, because the published subsets are defined by it.
    generator = np.random.RandomState(rule if isinstance(rule, int) else RULE_SEEDS[rule])
    orders = [indices.numpy().copy() for indices in classes]
    for order in orders:
        generator.shuffle(order)
    return [torch.from_numpy(order) for order in orders]


def class_sizes(profile: str, largest: int, num_classes: int, imbalance_factor: float) -> list[int]:
    """The images that each class keeps.

    Raises:
        CarltError: the smallest class would keep less than one.
    """
    if imbalance_factor > largest:
        raise CarltError(
            f"data.imbalance_factor={imbalance_factor:g} leaves less than one of {largest} images for the smallest "
            "class; lower it"
        )
    return PROFILES[profile](largest, num_classes, imbalance_factor).tolist()


@checked
def make_long_tailed(
    targets: Tensor,
    num_classes: int,
    *,
    imbalance_factor: float,
    profile: Profile = "exponential",
    largest: int | None = None,
    rule: Rule | Seed = "ldam",
    val_per_class: int = 0,
) -> tuple[Tensor, Tensor]:
    """Indices of a long-tailed training subset, class after class, and of ``val_per_class`` unused images per class.

    Args:
        targets: class of each image, int64 (N,).
        imbalance_factor: largest class over smallest, at least 1.
        largest: images of the largest class; by default all that the smallest class has.
        rule: see ``rank_images``.

    Raises:
        CarltError: a class has fewer images than its place in the profile, or too few left to validate.
    """
    orders = rank_images(targets, num_classes, rule)
    available = [len(order) for order in orders]
    keep = class_sizes(profile, largest or min(available), num_classes, imbalance_factor)
    for label, (kept, there) in enumerate(zip(keep, available, strict=True)):
        if kept > there:
            raise CarltError(f"class {label} has {there} images, the profile needs {kept}; lower data.largest_class")
    train = torch.cat([order[:n] for order, n in zip(orders, keep, strict=True)])
    return train, hold_out([order[n:] for order, n in zip(orders, keep, strict=True)], val_per_class)


@checked
def thin(
    targets: Tensor,
    num_classes: int,
    *,
    imbalance_factor: float,
    profile: Profile = "exponential",
    largest: int | None = None,
    rule: Rule | Seed = "ldam",
) -> Tensor:
    """Indices, ascending, of a training subset that gives a long-tailed set another imbalance factor.

    The classes are ranked by their images, most first. The class of rank r keeps what the profile has at r, or all its
    images if those are fewer, so the ranks stay. The largest class keeps all its images or ``imbalance_factor`` times
    those of the smallest class, whichever are fewer. An exponential profile is below the counts of most published lists
    in the tail, so rare classes lose images as well (ImageNet-LT at factor 100: 131 of its 136 few-shot classes).

    Args:
        targets: class of each image, int64 (N,).
        imbalance_factor: largest class over smallest, at least 1.
        largest: images of the largest class instead.
        rule: which images of a class stay, see ``rank_images``.

    Raises:
        CarltError: no class has ``largest`` images, or the smallest class would keep less than one.
    """
    orders = rank_images(targets, num_classes, rule)
    counts = torch.tensor([len(order) for order in orders])
    most = int(min(counts.max(), imbalance_factor * counts[counts > 0].min())) if largest is None else largest
    if most > counts.max():
        raise CarltError(f"data.largest_class={most}: the largest class has {counts.max()} images; lower it")
    sizes = torch.tensor(class_sizes(profile, most, num_classes, imbalance_factor))
    keep = sizes.clamp_min(int(most / imbalance_factor + 1e-9))
    ranked = counts.argsort(descending=True, stable=True).tolist()
    return torch.cat([orders[label][:n] for label, n in zip(ranked, keep.tolist(), strict=True)]).sort().values


@checked
def hold_out(unused: list[Tensor], val_per_class: CountOrZero) -> Tensor:
    """The first ``val_per_class`` unused images of every class, for validation; CarltError if a class has too few."""
    for label, indices in enumerate(unused):
        if len(indices) < val_per_class:
            raise CarltError(
                f"class {label} has {len(indices)} images left for validation, data.val_per_class={val_per_class}: "
                f"lower it, or lower data.largest_class by {val_per_class - len(indices)}"
            )
    return torch.cat([indices[:val_per_class] for indices in unused])
