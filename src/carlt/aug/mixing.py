"""Mixing within a batch and of two batches, beside torchvision's MixUp and CutMix."""

import torch
from torch import Tensor
from torch.distributions import Beta

from carlt.aug.batch import to_device_of
from carlt.errors import CarltError
from carlt.functional.mixing import area_outside, random_box, remix_lam, soft_labels
from carlt.ranges import AtLeastOne, Count, CountOrZero, Positive, Share, checked
from carlt.runs.text import get_logger
from carlt.samplers.rules import Power

log = get_logger(__name__)


class Remix:
    """MixUp with a label that favours the rarer class (Chou et al., ECCVW 2020; ``functional.mixing.remix_lam``).

    Args:
        class_counts: training images of each class, (C,).
        alpha: of the Beta(alpha, alpha) that an image's share is drawn from, positive.
        kappa: the rarer class gets the whole label if the ratio of counts is at least ``kappa``, 1 or more,
        tau: and the share of the frequent class's image below ``tau``, in [0, 1].
    """

    @checked
    def __init__(self, class_counts: Tensor, alpha: Positive = 1.0, kappa: AtLeastOne = 3.0, tau: Share = 0.5):
        self.class_counts, self.kappa, self.tau, self.lam = class_counts, kappa, tau, Beta(alpha, alpha)

    def __call__(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        lam = self.lam.sample()
        partner, counts = (to_device_of(x, images) for x in (torch.randperm(len(images)), self.class_counts))
        own = remix_lam(to_device_of(lam, images), counts[labels], counts[labels[partner]], self.kappa, self.tau)
        mixed = torch.lerp(images.index_select(0, partner), images, float(lam))
        return mixed, soft_labels(labels, labels[partner], own, len(counts))


class Paste:
    """CutMix whose patch shows an image drawn by class: CMO (Park et al., CVPR 2022) and ConCutMix (Pan et al., 2024).

    Backgrounds are the images of the batch. Foregrounds come from a separate sampler, which draws class c with
    probability proportional to n_c^power. The loader reads them only for the batches that are mixed.

    Args:
        probability: that a batch is mixed.
        power: 0 draws all classes equally often, as the released code of both does; -1 rare classes more often, 1 all
            images equally often.
        alpha: of the Beta(alpha, alpha) that the background's share is drawn from, positive; it is then corrected to
            the box as cut off at the border.
        first, last: this many epochs at either end of training without mixing.
        epochs: of the whole training, which ``last`` counts back from.
    """

    @checked
    def __init__(
        self,
        probability: Share = 0.5,
        power: Power = 0.0,
        alpha: Positive = 1.0,
        first: CountOrZero = 0,
        last: CountOrZero = 0,
        epochs: Count | None = None,
    ):
        if last and epochs is None:
            raise CarltError(f"last={last} needs epochs, the number that it counts back from")
        self.probability, self.power, self.first = probability, power, first
        self.until = float("inf") if epochs is None else epochs - last
        if first >= self.until:
            log.warning(
                "aug.paste mixes no batch: without the first %d and the last %d epochs none of %d are left; lower "
                "aug.paste.first and aug.paste.last", first, last, epochs,
            )  # fmt: skip
        self.lam = Beta(alpha, alpha)

    def is_mixed(self, epoch: int, point: float) -> bool:
        """Whether a batch of ``epoch`` whose draw is ``point``, uniform in [0, 1), is mixed."""
        return self.first <= epoch < self.until and point < self.probability

    def __call__(self, images: Tensor, foreground: Tensor) -> tuple[Tensor, float]:
        """Images with one box of each replaced by the foreground's, and the share of them that is left."""
        height, width = images.shape[-2:]
        rows, columns = box = random_box(height, width, self.lam.sample())
        mixed = images.clone()
        mixed[..., rows, columns] = foreground[..., rows, columns]
        return mixed, area_outside(box, height, width)


class SecondBatch:
    """A second batch for each batch, for a loss that mixes the two (GLMC; Du et al., CVPR 2023).

    ``power``: class c has probability proportional to n_c^power; 1 draws all images equally often, 0 all
    classes. GLMC's k is 1 - power: 0 at imbalance factor 100.
    """

    first = 0

    @checked
    def __init__(self, power: Power = 1.0):
        self.power = power

    def is_mixed(self, epoch: int, point: float) -> bool:
        """Always."""
        return True
