"""The differentiable confusion surrogate: which class each sample is mistaken for, softly.

Written per sample, as (N, C) contributions, because later steps need no more: a confusion matrix is a class mean
of contributions, and the gradient of a penalty on the matrix flows through them alone.
"""

from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from carlt.errors import CarltError
from carlt.functional.precision import at_least_float32
from carlt.functional.spectral import pieces

Surrogate = Literal["paper", "released"]


class LabelledRows(NamedTuple):
    """Labelled rows: sample ``sample[p]`` counts for class ``label[p]`` with weight ``weight[p]``, each (P,)."""

    sample: Tensor | slice
    label: Tensor
    weight: Tensor


def gate_and_rival(
    logits: Tensor, column: Tensor, margin: float | Tensor, surrogate: Surrogate
) -> tuple[Tensor, Tensor]:
    """The two factors of :func:`contributions`, each (N, C), for labels (N, 1).

    At the true class one of them is 0: rival in the paper's form, gate in the released one.
    """
    if isinstance(margin, Tensor):
        margin = margin[column]
    gate = torch.sigmoid(logits - (logits.gather(1, column) - margin))
    if surrogate == "paper":
        return gate, logits.scatter(1, column, -torch.inf).softmax(1)
    return gate.detach().scatter(1, column, 0.0), logits.softmax(1)


def contributions(
    logits: Tensor, labels: Tensor, margin: float | Tensor = 0.1, surrogate: Surrogate = "paper"
) -> Tensor:
    """How much each sample is mistaken for each class (arXiv 2603.16732, eq. 7).

    gate_q[i]  = sigmoid(margin + z_q[i] - z_q[y_q])       softly: i is within the margin of the true class
    rival_q[i] = softmax over i != y_q of z_q[i]           softly: i is the strongest rival
    result     = gate * rival, and 0 at i = y_q

    ``"released"`` is the authors' code instead: the softmax runs over all classes, the true one included, before that
    is masked out, and the gate carries no gradient.

    Args:
        logits: z, floating, (N, C), C at least 2.
        labels: y, int64 in [0, C), (N,).
        margin: in logits; one for all, or of each true class, (C,).
        surrogate: ``"paper"`` or ``"released"``.

    Returns:
        Contributions in [0, 1], (N, C); a row sums to less than 1.
    """
    gate, rival = gate_and_rival(logits, labels[:, None], margin, surrogate)
    return gate * rival


def contributions_gradient(
    gate: Tensor, rival: Tensor, rows: Tensor, column: Tensor, direction: Tensor, scale: Tensor, surrogate: Surrogate
) -> Tensor:
    """Gradient of sum_q scale_q <direction, c_q> with respect to the logits, c_q = gate_q * rival_q. By hand, it needs
    a third of what autograd would keep.

    With g = direction * c_q and s = sum(g), softmax's part is g[i] - s rival_q[i], and the gate's, in the paper's form,
    g[i] (1 - gate_q[i]); the true logit gets what makes their sum zero.

    Args:
        gate, rival: of :func:`gate_and_rival`, (N, C).
        rows: their product, which is overwritten.
        column: labels, int64, (N, 1).
        direction: (C,).
        scale: (N, 1).

    Returns:
        (N, C).
    """
    part = rows.mul_(direction)
    total = part.sum(1, keepdim=True)
    if surrogate == "paper":
        part *= 2 - gate
    out = torch.addcmul(part, total, rival, value=-1)
    if surrogate == "paper":
        out.scatter_(1, column, -out.sum(1, keepdim=True))
    return out.mul_(scale)


def check_batch(logits: Tensor, targets: Tensor, num_classes: int) -> None:
    """Raise CarltError for shapes or types that cannot be a batch; reads no value, so no device is waited for."""
    for name, value in (("logits", logits), ("targets", targets)):
        if not isinstance(value, Tensor):
            raise CarltError(f"{name}: expected a tensor, got {type(value).__name__}; give torch.as_tensor({name})")
    if logits.ndim != 2 or logits.shape[1] != num_classes or not logits.is_floating_point():
        raise CarltError(
            f"logits: expected floating (N, {num_classes}), got {logits.dtype} {tuple(logits.shape)}; a column for "
            f"each of the {num_classes} classes"
        )
    shape = (len(logits), num_classes) if targets.is_floating_point() else (len(logits),)
    if targets.shape != shape or targets.is_complex() or targets.dtype == torch.bool:
        raise CarltError(
            f"targets: expected whole numbers ({len(logits)},) or soft labels, floating ({len(logits)}, "
            f"{num_classes}), got {targets.dtype} {tuple(targets.shape)}"
        )
    if not len(logits):
        raise CarltError("the batch is empty: a step needs at least one sample")


def wrong_targets(targets: Tensor, clamped: Tensor) -> Tensor:
    """0 if all soft labels are finite and at least 0, or no label changed when ``clamped``: a scalar on the device."""
    if not targets.is_floating_point():
        return (clamped != targets).sum()
    low, high = targets.aminmax()
    return ((low >= 0) & high.isfinite()).logical_not()


def expand_soft_labels(targets: Tensor, dtype: torch.dtype) -> LabelledRows:
    """Labels as weighted (sample, class) pairs: one per sample for hard labels, one per non-zero weight for soft.

    Args:
        targets: classes, int64 (N,), or class weights, floating and not negative (N, C).
        dtype: of the weights.

    Returns:
        LabelledRows, P = N for hard labels, else the number of non-zero weights (at most 2 N under mixup or cutmix).
    """
    if targets.is_floating_point():
        sample, label = targets.nonzero(as_tuple=True)
        if not len(label):
            raise CarltError("soft targets are all zero: no sample counts for any class")
        return LabelledRows(sample, label, targets[sample, label].to(dtype))
    return LabelledRows(slice(None), targets.long(), torch.ones(len(targets), dtype=dtype, device=targets.device))


def soft_labels_of(targets: Tensor, num_classes: int, dtype: torch.dtype) -> Tensor:
    """Soft labels (N, C) of a ``dtype``: ``targets`` itself if floating (N, C), else one-hot for classes (N,)."""
    if not targets.is_floating_point():
        targets = F.one_hot(targets.long(), num_classes)
    return targets.to(dtype)


def add_rows_(sums: Tensor, index: Tensor, rows: Tensor) -> Tensor:
    """sums[index[p]] += rows[p] for all p, in place, in an order that is the same on every run and rank.

    Not so on a GPU where inductor compiles it without ``torch.use_deterministic_algorithms``."""
    if rows.is_cuda:  # there index_add_ adds in any order, and index_put_ sorts first
        return sums.index_put_((index,), rows, accumulate=True)
    return sums.index_add_(0, index, rows)


def batch_confusion(
    logits: Tensor, targets: Tensor, margin: float | Tensor = 0.1, surrogate: Surrogate = "paper"
) -> tuple[Tensor, Tensor]:
    """One batch's surrogate confusion matrix, differentiable (arXiv 2603.16732, eq. 7).

    C~[j, i] = sum_q t_q[j] c_q[i] / max(1, sum_q t_q[j]), c_q the contributions of sample q as a member of class j, t_q
    its label weights (one-hot for hard labels). A class without weight has a zero row, and one whose weight is below 1
    a row of that size, so that a trace of a class in soft labels does not count like a whole image. Costs O(C^2)
    memory.

    Args:
        logits: floating, (N, C).
        targets: int64 (N,), or floating and not negative (N, C).

    Returns:
        C~ (C, C), rows true classes, and the weight of each class (C,).
    """
    logits = at_least_float32(logits)  # bfloat16 cannot count beyond 256
    num_classes = logits.shape[1]
    sample, label, weight = expand_soft_labels(targets, logits.dtype)
    rows = contributions(logits[sample], label, margin, surrogate) * weight[:, None]
    sums = rows.new_zeros(num_classes, num_classes).index_add(0, label, rows)
    mass = weight.new_zeros(num_classes).index_add(0, label, weight)
    return mean_confusion(sums, mass), mass


@torch.no_grad()
def accumulate_confusion_(
    sums: Tensor,
    mass: Tensor,
    logits: Tensor,
    targets: Tensor,
    margin: float | Tensor = 0.1,
    surrogate: Surrogate = "paper",
) -> None:
    """Add a batch to running class sums, in place; ``mean_confusion(sums, mass)`` is then the confusion of all batches.

    Args:
        sums: contributions summed per true class, (C, C).
        mass: label weight summed per true class, (C,).
        logits: floating, (N, C).
        targets: int64 (N,), or floating and not negative (N, C).
    """
    sample, label, weight = expand_soft_labels(targets, sums.dtype)
    rows = contributions(logits.to(sums.dtype)[sample], label, margin, surrogate) * weight[:, None]
    add_rows_(sums, label, rows)
    add_rows_(mass, label, weight)


def scale_rows_(matrix: Tensor, keep: float | Tensor, norm: Tensor | None = None) -> None:
    """matrix *= keep, in place and without a temporary of its size.

    Args:
        matrix: (C, C).
        keep: one factor, a number, () or (1,).
        norm: norms of the rows, (C,), scaled along; rows that are zero are then not read, and those that have faded
            below eps of the largest become exactly zero.
    """
    if norm is None:
        matrix.mul_(keep)
        return
    live = None if matrix.is_cuda else norm.nonzero().flatten()
    norm.mul_(keep)
    norm.mul_(norm > torch.finfo(norm.dtype).eps * norm.max())
    factor = (norm > 0)[:, None].to(norm) * keep
    if live is None or 2 * len(live) > len(norm):  # a GPU scales all rows faster than it finds the live ones
        matrix.mul_(factor)
        return
    for rows, piece in pieces(matrix, live):
        matrix[rows] = piece.mul_(factor[rows])


def mean_confusion(sums: Tensor, mass: Tensor) -> Tensor:
    """Class means (C, C) of :func:`accumulate_confusion_`'s sums; a class of weight below 1 counts with its weight."""
    return sums / mass.clamp(min=1)[:, None]


def relative_gap(estimate: Tensor, truth: Tensor) -> Tensor:
    """||estimate - truth||_F / ||truth||_F, a scalar at least 0; NaN where ``truth`` is all zero."""
    gap = torch.linalg.vector_norm(estimate - truth) / torch.linalg.vector_norm(truth)
    return torch.where(gap.isfinite(), gap, torch.nan)
