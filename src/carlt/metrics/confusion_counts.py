"""The counts of one pass over a split: confusions and calibration bins, exact on any number of ranks."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from carlt.errors import CarltError
from carlt.functional.accuracy import expected_calibration_error, summarise
from carlt.functional.bound import margin_terms, row_weight, strongest_rival

CALIBRATION_BINS = 15
NO_CELL = -1


@dataclass(frozen=True)
class Evaluation:
    """Counts of one split. ``true``, ``predicted`` and ``count`` (K,) list the non-zero cells of the confusion matrix.

    Sparse, because 8,142 classes make a dense matrix of half a gigabyte of which 24,426 test images fill nothing.
    """

    num_classes: int
    true: Tensor
    predicted: Tensor
    count: Tensor
    bins: Tensor
    """(3, B): images, summed confidence and right answers of each confidence bin."""
    margin_true: Tensor
    margin_rival: Tensor
    margin_count: Tensor
    """The non-zero cells of the hard margin confusion, as above (``carlt.functional.bound``)."""

    @property
    def correct(self) -> Tensor:
        return self._per_class(self.true, self.count * (self.true == self.predicted))

    @property
    def total(self) -> Tensor:
        return self._per_class(self.true, self.count)

    def summary(self, train_counts: Tensor) -> dict[str, float]:
        """``carlt.functional.accuracy.summarise`` and the expected calibration error ``ece``."""
        predictions = self._per_class(self.predicted, self.count)
        summary = summarise(self.correct, self.total, predictions, train_counts)
        return {**summary, "ece": float(expected_calibration_error(*self.bins))}

    def margin_summary(self, train_counts: Tensor) -> dict[str, float]:
        """``carlt.functional.bound.margin_terms`` with CAR's default Lambda, whatever the network was trained with."""
        weight = row_weight(train_counts)
        return margin_terms(self.margin_true, self.margin_rival, self.margin_count, self.total, weight)

    def calibration(self) -> dict[str, list[float]]:
        """The reliability diagram: ``images``, mean ``confidence`` and ``accuracy`` (B,) of equal bins of confidence.

        Bin b holds the images whose largest probability is in (b / B, (b + 1) / B]; NaN where it holds none.
        """
        images, confidence, right = self.bins
        filled = torch.where(images > 0, images, torch.nan)
        return {
            "images": images.long().tolist(),
            "confidence": (confidence / filled).tolist(),
            "accuracy": (right / filled).tolist(),
        }

    def _per_class(self, classes: Tensor, amounts: Tensor) -> Tensor:
        return torch.zeros(self.num_classes, dtype=torch.int64).index_add_(0, classes, amounts)


class ConfusionCounts(Metric):
    """Accumulates logits (N, C) and labels (N,) into an ``Evaluation``.

    >>> counts = ConfusionCounts(num_classes=2)
    >>> counts.update(torch.tensor([[2.0, 1.0], [3.0, 0.0]]), torch.tensor([0, 1]))
    >>> evaluation = counts.evaluation()
    >>> evaluation.correct.tolist(), evaluation.total.tolist()
    ([1, 0], [1, 1])
    """

    full_state_update = False
    cells: list[Tensor]
    margin_cells: list[Tensor]
    bins: Tensor

    def __init__(self, num_classes: int):
        super().__init__()
        self.num_classes = num_classes
        self.add_state("cells", default=[], dist_reduce_fx="cat")
        self.add_state("margin_cells", default=[], dist_reduce_fx="cat")
        self.add_state("bins", default=torch.zeros(3, CALIBRATION_BINS, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, logits: Tensor, targets: Tensor) -> None:
        confidence, predicted = logits.float().softmax(1).max(1)
        self.cells.append(targets * self.num_classes + predicted)
        rival, within = strongest_rival(logits.float(), targets)
        # A mask of this batch would make a GPU wait; compute() leaves NO_CELL out.
        self.margin_cells.append(torch.where(within, targets * self.num_classes + rival, NO_CELL))
        # Bins (0, 1/B], (1/B, 2/B], ...
        index = (confidence * CALIBRATION_BINS).ceil().long().clamp(1, CALIBRATION_BINS) - 1
        rows = torch.stack([torch.ones_like(confidence), confidence, (predicted == targets).float()])
        self.bins.index_add_(1, index, rows.double())

    def compute(self) -> tuple[Tensor, Tensor, Tensor]:
        """The non-zero cells (2, K) of both confusions, flat index and count, and the calibration bins (3, B), over all
        ranks."""
        return _cells(self.cells), _cells(self.margin_cells), self.bins

    def evaluation(self) -> Evaluation:
        """The counts since the last reset, over all ranks, on the CPU.

        Raises:
            CarltError: logits that are not finite, whose largest class means nothing.
        """
        plain, margin, bins = self.compute()
        if bins.isnan().any():
            raise CarltError(
                "logits of evaluated images are not finite: training has diverged (train anew with a smaller optim.lr, "
                "or clip gradients: trainer.gradient_clip_val=1), or float16 is too small for this network's values "
                "(trainer.precision=bf16-mixed or 32-true)"
            )
        (cell, count), (pair, near) = plain.cpu(), margin.cpu()
        size = self.num_classes
        return Evaluation(size, cell // size, cell % size, count, bins.cpu().clone(), pair // size, pair % size, near)


def _cells(parts: list[Tensor]) -> Tensor:
    """Each cell once, and how often it was there (2, K)."""
    cells = dim_zero_cat(parts) if len(parts) else torch.zeros(0, dtype=torch.int64)
    return torch.stack(cells[cells != NO_CELL].unique(return_counts=True))


def metric_names() -> list[str]:
    """The names of ``Evaluation.summary``, sorted."""
    counts = ConfusionCounts(num_classes=2)
    counts.update(torch.eye(2), torch.tensor([0, 1]))
    return sorted(counts.evaluation().summary(torch.tensor([1, 1])))
