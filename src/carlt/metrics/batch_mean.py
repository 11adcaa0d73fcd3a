"""The mean of a training loss over batches."""

import torch
from torch import Tensor
from torchmetrics import Metric


class BatchMean(Metric):
    """The mean of values (), each of a batch, weighted by its images; NaN is left out.

    torchmetrics' ``MeanMetric`` asks the device whether a value is NaN, four times a step; this one asks nothing, so
    training does not wait for a GPU.

    >>> mean = BatchMean()
    >>> for value, images in ((1.0, 4), (4.0, 2), (float("nan"), 9)):
    ...     mean.update(torch.tensor(value), images)
    >>> mean.compute()
    tensor(2.)
    """

    full_state_update = False
    mean_value: Tensor  # the sum so far; MeanMetric's names, so that older checkpoints resume
    weight: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("mean_value", default=torch.tensor(0.0), dist_reduce_fx="sum", persistent=True)
        self.add_state("weight", default=torch.tensor(0.0), dist_reduce_fx="sum", persistent=True)

    def update(self, value: Tensor, images: int) -> None:
        known = ~value.isnan()
        self.mean_value += torch.where(known, value * images, 0)
        self.weight += images * known

    def compute(self) -> Tensor:
        return self.mean_value / self.weight
