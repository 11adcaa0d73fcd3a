"""Balanced supervised contrastive loss, and parametric contrastive loss."""

import torch
from torch import Tensor
from torch.nn import functional as F

from carlt.functional.confusion import soft_labels_of
from carlt.functional.precision import at_least_float32


def balanced_contrastive(projections: Tensor, labels: Tensor, centres: Tensor, temperature: float) -> Tensor:
    """Supervised contrast in which every class has the same weight and is present (Zhu et al., CVPR 2022, section 4).

    Keys are all projections and the C centres; s_ik is the cosine similarity of anchor i and key k over T.

    loss_i = -mean over positives p of (s_ip - log sum_{k != i} exp(s_ik) / w_ik)

    Positives are the other keys of the anchor's class, its centre among them. w_ik is the number of keys of k's class
    (class averaging), one less for the anchor's own class, as the anchor is none of its keys; the centres bring in the
    classes that the batch lacks (class complement). The mean runs over all anchors.

    Args:
        projections: several views per sample, view by view, need not be normalised, (V, N, D).
        labels: int64 in [0, C), (N,).
        centres: one per class, need not be normalised, (C, D).
        temperature: T, positive.

    Returns:
        A scalar in float32 (float64 for such input), also under autocast.
    """
    with torch.autocast(projections.device.type, enabled=False):
        views = len(projections)
        anchors = F.normalize(at_least_float32(projections).flatten(0, 1), dim=1)
        keys = torch.cat([anchors, F.normalize(centres.to(anchors), dim=1)])
        own = labels.repeat(views)
        classes = torch.cat([own, torch.arange(len(centres), device=labels.device)])
        similarity = anchors @ keys.T / temperature
        itself = torch.eye(len(anchors), len(keys), dtype=torch.bool, device=labels.device)
        positive = (own[:, None] == classes) & ~itself
        ones = torch.ones_like(keys[:, 0])
        count = ones.new_zeros(len(centres)).index_add_(0, classes, ones)[classes]
        weighted = (similarity - (count - positive.to(keys.dtype)).log()).masked_fill(itself, -torch.inf)
        log_share = similarity - weighted.logsumexp(1, keepdim=True)
        return -((log_share * positive).sum(1) / positive.sum(1)).mean()


def parametric_contrastive(
    logits: Tensor,
    targets: Tensor,
    queries: Tensor,
    keys: Tensor,
    key_labels: Tensor,
    alpha: float,
    temperature: float,
) -> Tensor:
    """Supervised contrast with class centres among the keys (PaCo; Cui et al., ICCV 2021, section 3).

    s_i = [logits_i, q_i k_1 / T, q_i k_2 / T, ...] over the centres, the other queries and ``keys``

    loss_i = -sum_k w_ik log softmax(s_i)_k / sum_k w_ik,  w_ik = t_ic for centre c, alpha <t_i, t_k> for a sample

    t are labels as shares of each class: for hard ones w is 1 for the own centre and ``alpha`` for each sample of the
    class. The division by the weights is the released code's; the equation has none.

    Args:
        logits: of the classes, adjusted, (N, C).
        targets: of the queries, int64 (N,) or soft (N, C).
        queries: need not be normalised, (N, D).
        keys: of other samples, need not be normalised, (M, D).
        key_labels: int64, (M,); a key with a negative one is left out.
        alpha: at least 0.
        temperature: T, positive.

    Returns:
        A scalar, the mean over queries, in float32 (float64 for such input), also under autocast.
    """
    with torch.autocast(logits.device.type, enabled=False):
        logits = at_least_float32(logits)
        share = soft_labels_of(targets, logits.shape[1], logits.dtype)
        anchors, others = (F.normalize(x.to(logits.dtype), dim=1) for x in (queries, keys))
        present = key_labels >= 0
        alike = torch.cat([share @ share.T, share[:, key_labels.clamp_min(0)]], 1)
        itself = torch.eye(len(anchors), alike.shape[1], dtype=torch.bool, device=logits.device)
        left_out = itself | torch.cat([itself.new_zeros(len(anchors)), ~present])
        similarity = anchors @ torch.cat([anchors, others]).T / temperature
        scores = torch.cat([logits, similarity.masked_fill(left_out, -torch.inf)], 1)
        weights = torch.cat([share, alpha * alike.masked_fill(left_out, 0)], 1)
        log_share = scores.log_softmax(1).masked_fill(weights == 0, 0)  # 0 * -inf is not 0
        return -((weights * log_share).sum(1) / weights.sum(1)).mean()
