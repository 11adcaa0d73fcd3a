"""Samplers: rules that order the images of an epoch."""

from typing import Annotated, ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor

from carlt.ranges import Count, Range, Share, checked

Power = Annotated[float, Range(-1, 1)]
"""Exponent of the class counts: -1 draws rare classes more often, 0 all classes and 1 all images equally often."""


class Sampler(Protocol):
    """A rule that orders an epoch."""

    def order(self, targets: Tensor, epoch: int, generator: torch.Generator) -> Tensor:
        """Indices (N,) of one epoch's images, a function of ``targets`` (N,), ``epoch`` and ``generator`` alone."""
        ...


@runtime_checkable
class ShufflesBatches(Protocol):
    """A sampler whose order is shuffled within each batch, where ``shuffles_batches`` is True."""

    shuffles_batches: bool


class Instance:
    """Every image once per epoch, shuffled: classes appear as often as they have images."""

    @checked
    def __init__(self) -> None:
        pass

    def order(self, targets: Tensor, epoch: int, generator: torch.Generator) -> Tensor:
        """A permutation of all images."""
        return torch.randperm(len(targets), generator=generator)


class PowerLaw:
    """N draws with replacement per epoch: class c with probability proportional to n_c^power, then one of its images.

    Kang et al., ICLR 2020, section 3.1, equation 1: power 1 draws images uniformly, 1/2 is square-root sampling and 0
    class-balanced sampling; -1 draws the rarer classes the more often (CMO's patches; Park et al., CVPR 2022).

    Args:
        power: in [-1, 1].
    """

    @checked
    def __init__(self, power: Power):
        self.power = power

    def order(self, targets: Tensor, epoch: int, generator: torch.Generator) -> Tensor:
        """Drawn images."""
        counts = targets.bincount()
        return draw(targets, torch.where(counts > 0, counts.double() ** self.power, 0.0), generator)


class ClassBalanced(PowerLaw):
    """Every class equally often: ``PowerLaw`` with power 0."""

    paper: ClassVar[str] = "Class-balanced sampling (Kang et al., ICLR 2020)"

    @checked
    def __init__(self) -> None:
        super().__init__(0)


class SquareRoot(PowerLaw):
    """Every class as often as the root of its count: ``PowerLaw`` with power 1/2."""

    paper: ClassVar[str] = "Square-root sampling (Kang et al., ICLR 2020)"

    @checked
    def __init__(self) -> None:
        super().__init__(0.5)


class ProgressivelyBalanced:
    """From instance to class-balanced sampling in ``epochs``: p_c = (1 - t) n_c / N + t / C, t = epoch / (epochs - 1).

    Kang et al., ICLR 2020, section 3.1, equation 2, with the last epoch fully balanced; later epochs stay so.

    Args:
        epochs: of the training, at least 1.
    """

    paper: ClassVar[str] = "Progressively balanced sampling (Kang et al., ICLR 2020)"

    @checked
    def __init__(self, epochs: Count):
        self.epochs = epochs

    def order(self, targets: Tensor, epoch: int, generator: torch.Generator) -> Tensor:
        """Drawn images."""
        counts = targets.bincount().double()
        t = min(epoch / max(self.epochs - 1, 1), 1.0)
        return draw(targets, (1 - t) * counts / counts.sum() + t * (counts > 0) / (counts > 0).sum(), generator)


class Deferred:
    """``Instance`` in the first ``start * epochs`` epochs, then ``PowerLaw(power)``.

    Deferred re-sampling, DRS (Cao et al., NeurIPS 2019, section 4). For deferred re-weighting, DRW, losses have
    ``drw_start``.

    Args:
        epochs: of the training, at least 1.
        start: fraction of the epochs before the change, in [0, 1].
        power: in [-1, 1]; 0 is class-balanced sampling.
    """

    paper: ClassVar[str] = "Deferred re-sampling, DRS (Cao et al., NeurIPS 2019)"

    @checked
    def __init__(self, epochs: Count, start: Share = 0.8, power: Power = 0.0):
        self.epochs, self.start, self.before, self.after = epochs, start, Instance(), PowerLaw(power)

    def order(self, targets: Tensor, epoch: int, generator: torch.Generator) -> Tensor:
        """The order of the rule that holds in this epoch."""
        rule = self.before if epoch / self.epochs < self.start else self.after
        return rule.order(targets, epoch, generator)


class ClassAware:
    """N draws per epoch: all classes in random order, again and again, with ``per_class`` images each time.

    The images of a class are drawn in random order, without replacement until all of them were drawn. So every class
    has equally many draws per epoch, up to one group (Shen et al., ECCV 2016, section 2.2).

    Args:
        per_class: images of one class in a row, at least 1.
        shuffle: the images within each batch, as the released code of cRT does. Without it neighbours are of one class,
            and mixing that pairs neighbours (torchvision's) mixes mostly within classes.
    """

    paper: ClassVar[str] = "Class-aware sampling (Shen et al., ECCV 2016)"

    @checked
    def __init__(self, per_class: Count = 4, shuffle: bool = True):
        self.per_class, self.shuffles_batches = per_class, shuffle

    def order(self, targets: Tensor, epoch: int, generator: torch.Generator) -> Tensor:
        """Images in groups of ``per_class``."""
        counts = targets.bincount()
        classes = counts.nonzero().squeeze(1)
        rounds = -(-len(targets) // (len(classes) * self.per_class))
        order = torch.cat([classes[torch.randperm(len(classes), generator=generator)] for _ in range(rounds)])
        drawn = order.repeat_interleave(self.per_class)[: len(targets)]
        # The k-th draw of class c takes the k-th image of a sequence of shuffled rounds of its images.
        result = torch.empty_like(drawn)
        images = targets.argsort(stable=True).split(counts.tolist())
        places = drawn.argsort(stable=True).split(drawn.bincount(minlength=len(counts)).tolist())
        for own, place in zip(images, places, strict=True):
            if len(place):
                turns = -(-len(place) // len(own))
                sequence = torch.cat([own[torch.randperm(len(own), generator=generator)] for _ in range(turns)])
                result[place] = sequence[: len(place)]
        return result


def draw(targets: Tensor, weights: Tensor, generator: torch.Generator) -> Tensor:
    """len(targets) draws with replacement: a class by ``weights`` (C,), 0 for empty classes, then one of its images."""
    n, counts = len(targets), targets.bincount()
    # By inverting the distribution function: torch.multinomial's draws differ between versions and devices.
    cumulative = weights.double().cumsum(0)
    point = torch.rand(n, generator=generator, dtype=torch.float64) * cumulative[-1]
    drawn = torch.searchsorted(cumulative, point, right=True).clamp(max=len(counts) - 1)
    # Images sorted by class: those of class c begin at start[c].
    by_class, start = targets.argsort(stable=True), counts.cumsum(0) - counts
    offset = (torch.rand(n, generator=generator, dtype=torch.float64) * counts[drawn]).long()
    return by_class[start[drawn] + offset]
