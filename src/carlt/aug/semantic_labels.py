"""ConCutMix's labels of mixed images."""

from torch import Tensor

from carlt.aug.batch import to_device_of
from carlt.errors import CarltError
from carlt.functional.mixing import semantic_labels
from carlt.ranges import Count, NonNegative, Share, checked


class SemanticLabels:
    """Adds the classes that a mixed image resembles to its labels by area (``functional.mixing.semantic_labels``).

    With ``loss=bcl``, as in ConCutMix's paper, images and class centres are compared in the contrastive space. Other
    losses have no such space: then the network's features are compared with running means of each class's features
    (ours; CAR's paper adds ConCutMix to cross-entropy and does not say how).

    Args:
        class_counts: training images of each class, at least 1 each, (C,).
        start: share of training after which features are good enough, in [0, 1]; the authors' recipes have 0.4 to 0.8.
        omega: weight of the correction; by default 0.2 C / 255, as in all of the authors' recipes.
        top_k: nearest classes that count; by default 0.3 C, at most 30, as in all of the authors' recipes.
    """

    @checked
    def __init__(
        self, class_counts: Tensor, start: Share = 0.5, omega: NonNegative | None = None, top_k: Count | None = None
    ):
        classes = len(class_counts)
        self.class_counts, self.start, self.active = class_counts, start, start <= 0
        self.omega = 0.2 * classes / 255 if omega is None else omega
        self.top_k = max(1, min(round(0.3 * classes), 30)) if top_k is None else top_k
        if not 1 <= self.top_k <= classes:
            raise CarltError(f"top_k={self.top_k} is out of range: it lies between 1 and the {classes} classes")

    def set_progress(self, progress: float) -> None:
        """Set the share of the training that is done, in [0, 1)."""
        self.active = progress >= self.start

    def __call__(self, features: Tensor, centres: Tensor, labels: Tensor) -> Tensor:
        """Mixed images' features (N, D), class centres (C, D), and labels by area (N, C) to labels (N, C)."""
        if not self.active:
            return labels
        counts = to_device_of(self.class_counts, labels)
        return semantic_labels(features.detach(), centres.detach(), labels, counts, self.omega, self.top_k)
