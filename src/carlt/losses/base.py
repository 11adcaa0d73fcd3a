"""The base classes of losses: hard and soft labels, class weights, and the start of the weights during training."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar, Literal, NamedTuple

from torch import Tensor, nn

from carlt.functional.confusion import check_batch, expand_soft_labels
from carlt.functional.precision import at_least_float32
from carlt.functional.prior import effective_number_weights
from carlt.losses.step import StepInput, StepOutput
from carlt.ranges import Share, checked

DivideBy = Literal["weights", "samples"]


class Augmentation(NamedTuple):
    """Which kinds of mixing the augmentation of a run has; a loss accepts or refuses them."""

    mixes: bool = False
    """Images of a batch with each other."""
    pastes: bool = False
    """Patches of images drawn by class."""


class BaseLoss(nn.Module, ABC):
    """What losses of logits and losses that run the network have in common."""

    paper: ClassVar[str]
    """The method and where it is from, for tables."""

    @classmethod
    def check_augmentation(cls, augmentation: Augmentation) -> None:
        """CarltError if training images must not be mixed in this way for this loss."""

    def register_constant(self, name: str, value: Tensor | None) -> None:
        """Register a constant of the data: it moves with the module, and no checkpoint needs it."""
        self.register_buffer(name, None if value is None else value.float(), persistent=False)


class LogitsLoss(BaseLoss):
    """A loss of logits and labels. Any module with this ``forward`` works; the base class documents it."""

    exact_gradient: ClassVar[bool] = True
    """False where a factor that depends on the logits is a constant to the gradient."""

    @abstractmethod
    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """A scalar: logits floating (N, C), targets int64 (N,) or soft labels floating (N, C)."""


class NetworkLoss(BaseLoss):
    """A loss that runs the network itself: it needs experts, further views or a second batch."""

    contrast_views: ClassVar[int] = 0
    """Further views of each image in a step, besides the one to classify."""
    contrast_is_view: ClassVar[bool] = False
    """Whether the further views are of the kind of the classified one (``aug.view`` with its transforms), instead of
    ``aug.contrast``."""
    has_centres: ClassVar[bool] = False
    """Whether ``compute_loss`` gives ``step.relabel`` class centres of its own."""
    adjusts: ClassVar[bool] = False
    """Whether ``compute_loss`` takes its logits through ``step.adjust``, as a regularizer with class offsets needs."""

    def check_run(self, network: nn.Module, batch_size: int) -> None:
        """CarltError if this loss cannot train ``network`` in batches of ``batch_size`` images."""

    @abstractmethod
    def compute_loss(self, network: nn.Module, step: StepInput) -> StepOutput:
        """Run ``network`` on a step's images. The regularizer and the metrics take logits and targets of the result."""


class Loss(LogitsLoss):
    """The mean loss of a batch, weighted by class: sum_q w[y_q] l(z_q, y_q) / sum_q w[y_q].

    w_c ~ (1 - b) / (1 - b^n_c), b = effective_number_beta    effective numbers (Cui et al., CVPR 2019, section 4)
    w_c = 1 before ``drw_start``                              deferred re-weighting (Cao et al., NeurIPS 2019, alg. 1)

    A soft label is a share of each class: sum_qc t_qc w_c l(z_q, c) / sum_qc t_qc w_c. Dividing by the weights, as
    torch and LDAM-DRW's code do, keeps the loss's size beside a regularizer when the weights set in; the paper of the
    weights divides by N, which is ``divide_by="samples"``.

    >>> import torch
    >>> from carlt.losses import CrossEntropy
    >>> loss = CrossEntropy(class_counts=[90, 10], effective_number_beta=1.0)  # inverse frequency
    >>> logits, targets = torch.tensor([[2.0, 0.0], [1.0, 0.0]]), torch.tensor([0, 1])
    >>> round(loss(logits, targets).item(), 4)
    1.1946

    A subclass writes ``per_sample``. Everything is computed in float32 or better.

    Args:
        class_counts: training images of each class (C,), at least 1 each where they are used.
        effective_number_beta: in [0, 1]: 0 weighs classes alike, 0.9999 is usual, 1 is inverse frequency.
        drw_start: fraction of the training in [0, 1] that is done when the weights set in; 0.8 is usual.
        divide_by: ``"weights"``, their sum over the batch, or ``"samples"``, N. Without weights both are the same.

    Raises:
        CarltError: an argument outside its range.
    """

    class_weight: Tensor | None

    @checked
    def __init__(
        self,
        class_counts: Sequence[int] | Tensor,
        effective_number_beta: Share = 0.0,
        drw_start: Share = 0.0,
        divide_by: DivideBy = "weights",
    ):
        super().__init__()
        self.num_classes = len(class_counts)
        self.drw_start, self.progress, self.divide_by = drw_start, 0.0, divide_by
        self.register_constant(
            "class_weight",
            effective_number_weights(class_counts, effective_number_beta) if effective_number_beta else None,
        )

    def set_progress(self, progress: float) -> None:
        """Set the share of the training that is done, in [0, 1)."""
        self.progress = progress

    @abstractmethod
    def per_sample(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The loss of each sample, (N,), without class weights; linear in soft labels, which may sum to anything."""

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The weighted mean, a scalar: logits floating (N, C), targets whole (N,) or soft labels floating (N, C).

        Raises:
            CarltError: other shapes or types.
        """
        check_batch(logits, targets, self.num_classes)
        targets = targets if targets.is_floating_point() else targets.long()
        logits = at_least_float32(logits)
        if self.class_weight is None or self.progress < self.drw_start:
            return self.per_sample(logits, targets).mean()
        if targets.is_floating_point():
            weights = targets * self.class_weight
            lost = self.per_sample(logits, weights).sum()
        else:
            weights = self.class_weight[targets]
            lost = (weights * self.per_sample(logits, targets)).sum()
        return lost / (weights.sum() if self.divide_by == "weights" else len(logits))


def gather_labels(values: Tensor, targets: Tensor) -> Tensor:
    """Each sample's value at its label (N,): ``values`` (N, C) of which all, and their derivatives, are finite."""
    if targets.is_floating_point():
        return (targets * values).sum(1)
    return values.gather(1, targets[:, None]).squeeze(1)


def sum_over_labels(logits: Tensor, targets: Tensor, loss: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Each sample's ``loss(logits (P, C), labels (P,))``, (N,), where logits change with the label they are for.

    A soft label takes a row for each of its shares that is not 0: two under mixup or cutmix.
    """
    sample, label, share = expand_soft_labels(targets, logits.dtype)
    losses = loss(logits[sample], label)
    if isinstance(sample, slice):
        return losses
    return losses.new_zeros(len(logits)).index_add(0, sample, share * losses)
