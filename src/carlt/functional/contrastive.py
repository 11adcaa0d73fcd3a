"""Balanced supervised contrastive loss."""

import torch
from torch import Tensor
from torch.nn import functional as F


def balanced_contrastive(projections: Tensor, labels: Tensor, centres: Tensor, temperature: float) -> Tensor:
    """Supervised contrast in which every class weighs alike and is present (Zhu et al., CVPR 2022, section 4).

    Keys are all projections and the C centres; s_ik is the cosine similarity of anchor i and key k over T.

    loss_i = -mean over positives p of (s_ip - log sum_{k != i} exp(s_ik) / w_ik)

    Positives are the other keys of the anchor's class, its centre among them. w_ik is the number of keys of k's class
    (class averaging), one less for the anchor's own class, as the anchor is none of its keys; the centres bring in the
    classes that the batch lacks (class complement). The mean runs over all anchors.

    Args:
        projections: several views a sample, view by view, need not be normalised, (V, N, D).
        labels: int64 in [0, C), (N,).
        centres: one a class, need not be normalised, (C, D).
        temperature: T, positive.

    Returns:
        A scalar in float32 (float64 for such input), whatever autocast says.
    """
    with torch.autocast(projections.device.type, enabled=False):
        dtype = torch.promote_types(projections.dtype, torch.float32)
        views = len(projections)
        anchors = F.normalize(projections.flatten(0, 1).to(dtype), dim=1)
        keys = torch.cat([anchors, F.normalize(centres.to(dtype), dim=1)])
        own = labels.repeat(views)
        classes = torch.cat([own, torch.arange(len(centres), device=labels.device)])
        similarity = anchors @ keys.T / temperature
        itself = torch.eye(len(anchors), len(keys), dtype=torch.bool, device=labels.device)
        positive = (own[:, None] == classes) & ~itself
        ones = torch.ones_like(keys[:, 0])
        count = ones.new_zeros(len(centres)).index_add_(0, classes, ones)[classes]
        weighted = (similarity - (count - positive.to(dtype)).log()).masked_fill(itself, -torch.inf)
        log_share = similarity - weighted.logsumexp(1, keepdim=True)
        return -((log_share * positive).sum(1) / positive.sum(1)).mean()
