"""Each loss against its formula written as loops, and what it becomes at the ends of its options."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from carlt import losses
from carlt.losses.base import Loss

COUNTS = [500, 40, 7, 2]
PRIOR = [n / 549 for n in COUNTS]
C = len(COUNTS)

Row = list[float]


@pytest.fixture
def logits() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(8, C, generator=generator, dtype=torch.float64).tanh().requires_grad_()


@pytest.fixture
def labels() -> Tensor:
    return torch.tensor([0, 1, 2, 3, 3, 0, 0, 0])


def softmax(z: Row) -> Row:
    return [math.exp(value) / sum(map(math.exp, z)) for value in z]


def cross_entropy(z: Row, y: int) -> float:
    return -math.log(softmax(z)[y])


def ldam(z: Row, y: int, scale: float = 30, largest: float = 0.5) -> float:
    margin = largest * (2 / COUNTS[y]) ** 0.25  # the rarest class has 2 images
    return cross_entropy([value - scale * margin * (c == y) for c, value in enumerate(z)], y)


def smoothed(z: Row, y: int, over: str = "all") -> float:
    amount = 0.1 + (0.4 - 0.1) * math.sin((COUNTS[y] - 2) * math.pi / (2 * (500 - 2)))
    of_label, of_other = (amount / C, amount / C) if over == "all" else (0, amount / (C - 1))
    share = [1 - amount + of_label if c == y else of_other for c in range(C)]
    return -sum(q * math.log(p) for q, p in zip(share, softmax(z), strict=True))


def seesaw(z: Row, y: int, p: float = 0.8, q: float = 2, eps: float = 0.01) -> float:
    chance, total = softmax(z), 0.0
    for j in range(C):
        mitigation = (COUNTS[j] / COUNTS[y]) ** p if COUNTS[j] < COUNTS[y] else 1
        compensation = max(1, chance[j] / max(chance[y], eps)) ** q
        total += mitigation * compensation * math.exp(z[j])
    return -math.log(math.exp(z[y]) / total)


def sigmoid_focal(z: Row, y: int, gamma: float = 1) -> float:
    total = 0.0
    for c in range(C):
        p = 1 / (1 + math.exp(-z[c] if c == y else z[c]))
        total -= (1 - p) ** gamma * math.log(p)
    return total


def softmax_bce(z: Row, y: int) -> float:
    return -sum(math.log(p if c == y else 1 - p) for c, p in enumerate(softmax(z))) / C


def vs(z: Row, y: int, gamma: float = 0.3, tau: float = 1.0) -> float:
    return cross_entropy([(n / 500) ** gamma * v + tau * math.log(n / 549) for v, n in zip(z, COUNTS, strict=True)], y)


CASES: list[tuple[Loss, Callable[[Row, int], float]]] = [
    (losses.CrossEntropy(COUNTS), cross_entropy),
    (
        losses.BalancedSoftmax(COUNTS),
        lambda z, y: cross_entropy([v + math.log(n) for v, n in zip(z, COUNTS, strict=True)], y),
    ),
    (
        losses.LogitAdjusted(COUNTS, tau=1.5),
        lambda z, y: cross_entropy([v + 1.5 * math.log(m) for v, m in zip(z, PRIOR, strict=True)], y),
    ),
    (losses.Focal(COUNTS), lambda z, y: (1 - softmax(z)[y]) ** 2 * cross_entropy(z, y)),
    (losses.Focal(COUNTS, gamma=0.5), lambda z, y: (1 - softmax(z)[y]) ** 0.5 * cross_entropy(z, y)),
    (losses.LDAM(COUNTS), ldam),
    (losses.LDAM(COUNTS, scale=5, max_margin=0.2), lambda z, y: ldam(z, y, 5, 0.2)),
    (losses.LabelAwareSmoothing(COUNTS), smoothed),
    (losses.LabelAwareSmoothing(COUNTS, over="others"), lambda z, y: smoothed(z, y, "others")),
    (
        losses.LabelSmoothing(COUNTS, smoothing=0.98),
        lambda z, y: -sum((0.02 * (c == y) + 0.98 / C) * math.log(p) for c, p in enumerate(softmax(z))),
    ),
    (losses.VectorScaling(COUNTS), vs),
    (losses.VectorScaling(COUNTS, gamma=0.2, tau=1.2), lambda z, y: vs(z, y, 0.2, 1.2)),
    (losses.Seesaw(COUNTS), seesaw),
    (losses.Seesaw(COUNTS, p=0.5, q=1.0, eps=0.2), lambda z, y: seesaw(z, y, 0.5, 1.0, 0.2)),
    (losses.Seesaw(COUNTS, eps=0.0), lambda z, y: seesaw(z, y, eps=1e-12)),
]  # fmt: skip


def shares(labels: Tensor, soft: bool) -> Tensor:
    """Labels as shares of each class: one each, or two."""
    hard = F.one_hot(labels, C).double()
    return 0.3 * hard + 0.7 * hard.roll(1, 0) if soft else hard


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize(("loss", "formula"), CASES, ids=lambda case: type(case).__name__)
def test_against_loops(
    soft: bool, loss: Loss, formula: Callable[[Row, int], float], logits: Tensor, labels: Tensor
) -> None:
    expected = [
        sum(t * formula(z, c) for c, t in enumerate(share))
        for z, share in zip(logits.tolist(), shares(labels, soft).tolist(), strict=True)
    ]
    targets = shares(labels, soft) if soft else labels
    # Constants of the data are float32.
    torch.testing.assert_close(loss.per_sample(logits, targets).tolist(), expected, rtol=3e-6, atol=1e-12)
    assert loss(logits, targets).item() == pytest.approx(sum(expected) / len(expected), rel=1e-6)


def effective(beta: float) -> Row:
    return [(1 - beta) / (1 - beta**n) for n in COUNTS]


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize(
    ("loss", "weights", "formula", "by_weights"),
    [
        (losses.ClassBalanced(COUNTS), effective(0.9999), cross_entropy, False),
        (losses.ClassBalanced(COUNTS, 0.999, divide_by="weights"), effective(0.999), cross_entropy, True),
        (losses.ClassBalancedFocal(COUNTS), effective(0.9999), sigmoid_focal, False),
        (
            losses.ClassBalancedFocal(COUNTS, 2.0, 0.99, divide_by="weights"),
            effective(0.99),
            lambda z, y: sigmoid_focal(z, y, 2),
            True,
        ),
        (losses.SoftmaxBCE(COUNTS), effective(0.9999), softmax_bce, False),
        (
            losses.Focal(COUNTS, effective_number_beta=0.9999),
            effective(0.9999),
            lambda z, y: (1 - softmax(z)[y]) ** 2 * cross_entropy(z, y),
            True,
        ),
        (losses.InverseFrequency(COUNTS), [1 / n for n in COUNTS], cross_entropy, True),
        (losses.GeneralizedReweight(COUNTS), [n**-1.2 for n in COUNTS], cross_entropy, True),
        (losses.LDAM(COUNTS, effective_number_beta=0.9999), effective(0.9999), ldam, True),
        (losses.VectorScaling(COUNTS, effective_number_beta=0.99, divide_by="samples"), effective(0.99), vs, False),
    ],
    ids=lambda case: type(case).__name__,
)
def test_weighted_against_loops(
    soft: bool, loss: Loss, weights: Row, formula: Callable[[Row, int], float], by_weights: bool, logits, labels
) -> None:
    lost = total = 0.0
    scaled = [weight * C / sum(weights) for weight in weights]  # of mean 1
    for z, share in zip(logits.tolist(), shares(labels, soft).tolist(), strict=True):
        lost += sum(t * scaled[c] * formula(z, c) for c, t in enumerate(share))
        total += sum(t * scaled[c] for c, t in enumerate(share)) if by_weights else 1
    targets = shares(labels, soft) if soft else labels
    assert loss(logits, targets).item() == pytest.approx(lost / total, rel=3e-6)


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("absent", [False, True])
@pytest.mark.parametrize("ratio", ["class", "sample"])
def test_lade_against_loops(soft: bool, absent: bool, ratio: str, logits: Tensor, labels: Tensor) -> None:
    if absent:
        labels = labels.clamp(max=1)
    rows, given = logits.tolist(), shares(labels, soft).tolist()
    expected = 0.0
    for c in range(C):
        mass = sum(share[c] for share in given)
        mean = sum(share[c] * z[c] for z, share in zip(rows, given, strict=True)) / mass if mass else 0.0
        total = 0.0
        for z, share in zip(rows, given, strict=True):
            inverse = 1 / PRIOR[c] if ratio == "class" else sum(t / PRIOR[y] for y, t in enumerate(share))
            total += (1 / C) * inverse * math.exp(z[c])
        every = math.log(total / len(rows))
        expected += PRIOR[c] * (-mean + every + 0.01 * every**2)
    targets = shares(labels, soft) if soft else labels
    balanced = losses.BalancedSoftmax(COUNTS)(logits, targets).item()
    loss = losses.LADE(COUNTS, ratio=ratio)(logits, targets).item()
    assert loss == pytest.approx(balanced + 0.1 * expected, rel=1e-6)


def test_the_loss_of_weight_balancing_is_torch_s_bce_and_faint(logits: Tensor, labels: Tensor) -> None:
    weight = torch.tensor(effective(0.9999)).double()
    rows = (weight / weight.mean())[labels][:, None].expand(-1, C)
    theirs = F.binary_cross_entropy(logits.softmax(1), F.one_hot(labels, C).double(), weight=rows)
    ours = losses.SoftmaxBCE(COUNTS)(logits, labels)
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=0)
    (faint,), (strong,) = (
        torch.autograd.grad(loss, logits, retain_graph=True)
        for loss in (ours, losses.ClassBalanced(COUNTS)(logits, labels))
    )
    torch.testing.assert_close(faint, torch.autograd.grad(theirs, logits)[0], rtol=1e-5, atol=1e-9)
    assert faint.norm() < strong.norm() / 2  # at 100 classes hundreds of times
    # A sure mistake keeps its gradient, where 1 - p rounds to 0.
    sure = torch.tensor([[60.0, 0.0, 0.0, 0.0]], requires_grad=True)
    losses.SoftmaxBCE(COUNTS, 0.0)(sure, torch.tensor([1])).backward()
    torch.testing.assert_close(sure.grad[0, :2], torch.tensor([2.0, -4 / 3]) / C, rtol=1e-5, atol=0)


def test_lade_is_least_at_the_likelihood_ratio() -> None:
    """On batches from known distributions, the second term alone finds log p(x | c) / p(x) under equal classes."""
    given = torch.tensor([[0.7, 0.2, 0.1], [0.2, 0.5, 0.3]], dtype=torch.float64)  # p(x | c) of 2 classes
    counts = torch.tensor([300, 100])
    # A batch that holds each (x, c) exactly as often as it is drawn.
    times = (given * counts[:, None] / 10).round().long()
    x = torch.cat([torch.arange(3).repeat_interleave(row) for row in times])
    y = torch.arange(2).repeat_interleave(times.sum(1))
    loss = losses.LADE(counts, penalty=1.0, ratio="sample")
    table = torch.zeros(3, 2, dtype=torch.float64, requires_grad=True)
    descent = torch.optim.LBFGS([table], max_iter=200, tolerance_change=1e-14, tolerance_grad=1e-10)

    def closure() -> Tensor:
        descent.zero_grad()
        value = loss.normaliser(table[x], y)
        value.backward()
        return value

    descent.step(closure)
    torch.testing.assert_close(table.detach(), (given / given.mean(0)).log().T, atol=1e-3, rtol=0)


def test_seesaw_s_gradient_takes_compensation_for_a_constant(logits: Tensor, labels: Tensor) -> None:
    counts, chance = torch.tensor(COUNTS).double(), logits.detach().softmax(1)
    factor = torch.ones(len(logits), C, dtype=torch.float64)
    for q, y in enumerate(labels.tolist()):
        for j in range(C):
            rival = chance[q, j] / max(chance[q, y], 0.01)
            factor[q, j] = min(1, counts[j] / counts[y]) ** 0.8 * max(1, rival) ** 2
    own = logits.exp().gather(1, labels[:, None])
    expected = ((factor * logits.exp()).sum(1) / own.squeeze(1)).log().mean()
    ours = losses.Seesaw(COUNTS)(logits, labels)
    torch.testing.assert_close(
        torch.autograd.grad(ours, logits), torch.autograd.grad(expected, logits), rtol=1e-5, atol=0
    )


def test_seesaw_without_a_bound_compensates_as_far_as_in_the_paper() -> None:
    z = [0.0, 8.0, 5.0]  # p_y is about 0.0003
    loss = losses.Seesaw([5, 5, 5], eps=0.0)(torch.tensor([z], dtype=torch.float64), torch.tensor([0]))
    p = softmax(z)
    total = sum(max(1, p[j] / p[0]) ** 2 * math.exp(z[j]) for j in range(3))
    assert loss.item() == pytest.approx(math.log(total))


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
def test_focal_has_a_gradient_at_certainty(gamma: float) -> None:
    logits = torch.tensor([[200.0, 0.0], [0.0, 200.0]], requires_grad=True)
    losses.Focal([2, 1], gamma)(logits, torch.tensor([0, 0])).backward()
    assert logits.grad.isfinite().all()
    assert logits.grad[0].abs().max() < 1e-6 < logits.grad[1].abs().max()


EQUAL = [7] * C


@pytest.mark.parametrize(
    ("loss", "same"),
    [
        (losses.Focal(COUNTS, gamma=0.0), losses.CrossEntropy(COUNTS)),
        (losses.ClassBalanced(COUNTS, effective_number_beta=0.0), losses.CrossEntropy(COUNTS)),
        (losses.ClassBalanced(COUNTS, effective_number_beta=1.0, divide_by="weights"), losses.InverseFrequency(COUNTS)),
        (losses.LDAM(COUNTS, max_margin=0.0), losses.CrossEntropy(COUNTS)),
        (losses.LabelAwareSmoothing(COUNTS, head=0.0, tail=0.0), losses.CrossEntropy(COUNTS)),
        (losses.VectorScaling(COUNTS, gamma=0.0), losses.LogitAdjusted(COUNTS)),
        (losses.LogitAdjusted(COUNTS, tau=0.0), losses.CrossEntropy(COUNTS)),
        (losses.LogitAdjusted(COUNTS), losses.BalancedSoftmax(COUNTS)),
        (losses.LabelSmoothing(COUNTS, smoothing=0.0), losses.CrossEntropy(COUNTS)),
        (losses.GeneralizedReweight(COUNTS, power=1.0), losses.InverseFrequency(COUNTS)),
        (losses.LADE(COUNTS, alpha=0.0), losses.BalancedSoftmax(COUNTS)),
        (losses.Seesaw(COUNTS, p=0.0, q=0.0), losses.CrossEntropy(COUNTS)),
        (losses.Seesaw(EQUAL, q=0.0), losses.CrossEntropy(EQUAL)),
        *((loss(EQUAL), losses.CrossEntropy(EQUAL)) for loss in (
            losses.BalancedSoftmax, losses.ClassBalanced, losses.InverseFrequency, losses.VectorScaling,
        )),
    ],
    ids=lambda case: type(case).__name__,
)  # fmt: skip
def test_ends_of_the_options(loss: Loss, same: Loss, logits: Tensor, labels: Tensor) -> None:
    torch.testing.assert_close(loss(logits, labels), same(logits, labels), rtol=1e-6, atol=0)


def test_smoothing_of_equal_classes_is_that_of_the_largest(logits: Tensor, labels: Tensor) -> None:
    expected = F.cross_entropy(logits, labels, label_smoothing=0.4)
    torch.testing.assert_close(losses.LabelAwareSmoothing(EQUAL)(logits, labels), expected, rtol=1e-6, atol=0)


def test_cross_entropy_is_torch_s(logits: Tensor, labels: Tensor) -> None:
    single = logits.detach().float().requires_grad_()
    ours, theirs = losses.CrossEntropy(COUNTS)(single, labels), F.cross_entropy(single, labels)
    torch.testing.assert_close(ours, theirs)
    assert torch.equal(*torch.autograd.grad(ours, single), *torch.autograd.grad(theirs, single))
