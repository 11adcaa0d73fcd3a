"""Mixing two images and their labels: boxes, soft labels and their shares."""

import torch
from torch import Tensor
from torch.nn import functional as F


def random_box(height: int, width: int, share: Tensor) -> tuple[slice, slice]:
    """Rows and columns of a box of about ``1 - share`` of the area (CutMix; Yun et al., ICCV 2019, eq. 2).

    Its sides are sqrt(1 - share) of the image's and its centre is uniform, so that a box near the border loses what
    lies outside. Draws from torch's global generator.

    Args:
        share: of the area that stays outside the box if nothing is cut off, in [0, 1], ().
    """
    size = (1 - share).sqrt()
    sides = [int(side * size) for side in (height, width)]
    centres = [int(torch.randint(side, ())) for side in (height, width)]
    rows, columns = (
        slice(max(centre - side // 2, 0), min(centre - side // 2 + side, whole))
        for centre, side, whole in zip(centres, sides, (height, width), strict=True)
    )
    return rows, columns


def area_outside(box: tuple[slice, slice], height: int, width: int) -> float:
    """The share of an image's area that ``box`` leaves as it was, in [0, 1]."""
    rows, columns = box
    return 1 - (rows.stop - rows.start) * (columns.stop - columns.start) / (height * width)


def soft_labels(labels: Tensor, others: Tensor, share: Tensor | float, num_classes: int) -> Tensor:
    """share * onehot(labels) + (1 - share) * onehot(others), (N, C) float32.

    Args:
        labels, others: int64 (N,).
        share: of ``labels``, in [0, 1], one number or (N,).
    """
    if isinstance(share, Tensor):
        share = share.to(labels.device, torch.float32, non_blocking=True).reshape(-1, 1)
    return share * F.one_hot(labels, num_classes) + (1 - share) * F.one_hot(others, num_classes)


def remix_lam(share: Tensor, counts: Tensor, other_counts: Tensor, kappa: float, tau: float) -> Tensor:
    """The share of the first image's label, (N,), which favours the rarer class (Chou et al., ECCVW 2020, eq. 7).

    0 if n_i / n_j >= kappa and share < tau; 1 if n_i / n_j <= 1 / kappa and 1 - share < tau; else the image's share.

    Args:
        share: of the first image in the mixed one, in [0, 1], () or (N,).
        counts, other_counts: training images of both images' classes, (N,).
        kappa: from this ratio of counts on, at least 1.
        tau: up to this share of the image, in [0, 1].
    """
    ratio = counts / other_counts
    result = share.expand(len(ratio))
    result = torch.where((ratio >= kappa) & (share < tau), 0.0, result)
    return torch.where((ratio <= 1 / kappa) & (1 - share < tau), 1.0, result)


def semantic_labels(
    features: Tensor, centres: Tensor, labels: Tensor, class_counts: Tensor, omega: float, top_k: int
) -> Tensor:
    """Soft labels with the classes that a mixed image resembles (ConCutMix; Pan et al., TIP 2024, section III-C).

    s_qc  = 1 / ||f_q - centre_c||, the top_k largest of each row, divided by their sum
    rho_q = omega * log(sum_c n_c t_qc) / sum_c log n_c,  kept in [0, 1]
    result = rho * s + (1 - rho) * t

    Args:
        features: f, of the mixed images, not normalised, (N, D).
        centres: of the classes in the same space, (C, D); a row of NaN is a class without a centre: never near.
        labels: t, by area, rows that sum to 1, (N, C).
        class_counts: n, at least 1 each, (C,).
        omega: at least 0. With the released 0.2 C / 255 rho is of the order of 0.001.
        top_k: in [1, C].

    Returns:
        (N, C), rows that sum to 1, without gradient.
    """
    with torch.no_grad(), torch.autocast(features.device.type, enabled=False):
        distance = torch.cdist(features.to(labels.dtype), centres.to(labels.dtype))
        nearness = distance.clamp_min(torch.finfo(labels.dtype).eps).reciprocal().nan_to_num(0.0)
        nearness, nearest = nearness.topk(top_k, dim=1)
        similar = torch.zeros_like(labels).scatter(1, nearest, nearness / nearness.sum(1, keepdim=True))
        counts = class_counts.to(labels)
        whole = counts.log().sum()
        rho = omega * (labels @ counts).log() / whole.clamp_min(torch.finfo(labels.dtype).tiny)
        rho = rho.clamp(0, 1)[:, None] * (nearness[:, :1] > 0)
        similar = similar.nan_to_num(0.0)
        return rho * similar + (1 - rho) * labels
