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


def smoothed(z: Row, y: int) -> float:
    amount = 0.1 + (0.4 - 0.1) * math.sin((COUNTS[y] - 2) * math.pi / (2 * (500 - 2)))
    share = [1 - amount if c == y else amount / (C - 1) for c in range(C)]
    return -sum(q * math.log(p) for q, p in zip(share, softmax(z), strict=True))


def seesaw(z: Row, y: int, p: float = 0.8, q: float = 2) -> float:
    chance, total = softmax(z), 0.0
    for j in range(C):
        mitigation = (COUNTS[j] / COUNTS[y]) ** p if COUNTS[j] < COUNTS[y] else 1
        compensation = (chance[j] / chance[y]) ** q if chance[j] > chance[y] else 1
        total += mitigation * compensation * math.exp(z[j])
    return -math.log(math.exp(z[y]) / total)


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
    (
        losses.LabelSmoothing(COUNTS, smoothing=0.98),
        lambda z, y: -sum((0.02 * (c == y) + 0.98 / C) * math.log(p) for c, p in enumerate(softmax(z))),
    ),
    (
        losses.VectorScaling(COUNTS, gamma=0.2, tau=1.2),
        lambda z, y: cross_entropy(
            [(n / 500) ** 0.2 * v + 1.2 * math.log(n / 549) for v, n in zip(z, COUNTS, strict=True)], y
        ),
    ),
    (losses.Seesaw(COUNTS), seesaw),
    (losses.Seesaw(COUNTS, p=0.5, q=1.0), lambda z, y: seesaw(z, y, 0.5, 1.0)),
]  # fmt: skip


@pytest.mark.parametrize(("loss", "formula"), CASES, ids=lambda case: type(case).__name__)
def test_against_loops(loss: Loss, formula: Callable[[Row, int], float], logits: Tensor, labels: Tensor) -> None:
    expected = [formula(z, y) for z, y in zip(logits.tolist(), labels.tolist(), strict=True)]
    # Constants of the data are float32.
    torch.testing.assert_close(loss.per_sample(logits, labels).tolist(), expected, rtol=3e-6, atol=1e-12)
    assert loss(logits, labels).item() == pytest.approx(sum(expected) / len(expected), rel=1e-6)


@pytest.mark.parametrize(
    ("loss", "weights"),
    [
        (losses.ClassBalanced(COUNTS), [(1 - 0.9999) / (1 - 0.9999**n) for n in COUNTS]),
        (
            losses.ClassBalancedFocal(COUNTS, effective_number_beta=0.99, gamma=1.0),
            [(1 - 0.99) / (1 - 0.99**n) for n in COUNTS],
        ),
        (losses.InverseFrequency(COUNTS), [1 / n for n in COUNTS]),
        (losses.GeneralizedReweight(COUNTS), [n**-1.2 for n in COUNTS]),
    ],
    ids=lambda case: type(case).__name__,
)
def test_weighted_against_loops(loss: Loss, weights: Row, logits: Tensor, labels: Tensor) -> None:
    lost = total = 0.0
    for z, y in zip(logits.tolist(), labels.tolist(), strict=True):
        wrong = 1 - softmax(z)[y] if isinstance(loss, losses.Focal) else 1.0
        lost += weights[y] * wrong * cross_entropy(z, y)
        total += weights[y]
    assert loss(logits, labels).item() == pytest.approx(lost / total, rel=1e-6)


@pytest.mark.parametrize("absent", [False, True])
def test_lade_against_loops(absent: bool, logits: Tensor, labels: Tensor) -> None:
    if absent:
        labels = labels.clamp(max=1)
    rows, classes = logits.tolist(), labels.tolist()
    expected = 0.0
    for c in range(C):
        own = [z[c] for z, y in zip(rows, classes, strict=True) if y == c]
        mean = sum(own) / len(own) if own else 0.0
        every = math.log(
            sum((1 / C) / PRIOR[y] * math.exp(z[c]) for z, y in zip(rows, classes, strict=True)) / len(rows)
        )
        expected += PRIOR[c] * (-mean + every + 0.2 * every**2)
    balanced = losses.BalancedSoftmax(COUNTS)(logits, labels).item()
    loss = losses.LADE(COUNTS, alpha=0.3, penalty=0.2)(logits, labels).item()
    assert loss == pytest.approx(balanced + 0.3 * expected, rel=1e-6)


def test_lade_is_least_at_the_likelihood_ratio() -> None:
    """On batches from known distributions, the second term alone finds log p(x | c) / p(x) under equal classes."""
    given = torch.tensor([[0.7, 0.2, 0.1], [0.2, 0.5, 0.3]], dtype=torch.float64)  # p(x | c) of 2 classes
    counts = torch.tensor([300, 100])
    # A batch that holds each (x, c) exactly as often as it is drawn.
    times = (given * counts[:, None] / 10).round().long()
    x = torch.cat([torch.arange(3).repeat_interleave(row) for row in times])
    y = torch.arange(2).repeat_interleave(times.sum(1))
    loss = losses.LADE(counts, penalty=1.0)
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
            factor[q, j] = min(1, counts[j] / counts[y]) ** 0.8 * max(1, chance[q, j] / chance[q, y]) ** 2
    own = logits.exp().gather(1, labels[:, None])
    expected = ((factor * logits.exp()).sum(1) / own.squeeze(1)).log().mean()
    ours = losses.Seesaw(COUNTS)(logits, labels)
    torch.testing.assert_close(
        torch.autograd.grad(ours, logits), torch.autograd.grad(expected, logits), rtol=1e-5, atol=0
    )


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
        (losses.ClassBalanced(COUNTS, effective_number_beta=1.0), losses.InverseFrequency(COUNTS)),
        (losses.ClassBalancedFocal(COUNTS, effective_number_beta=0.0), losses.Focal(COUNTS)),
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
    expected = F.cross_entropy(logits, labels, label_smoothing=0.4 * C / (C - 1))
    torch.testing.assert_close(losses.LabelAwareSmoothing(EQUAL)(logits, labels), expected, rtol=1e-6, atol=0)


def test_cross_entropy_is_torch_s(logits: Tensor, labels: Tensor) -> None:
    single = logits.detach().float().requires_grad_()
    ours, theirs = losses.CrossEntropy(COUNTS)(single, labels), F.cross_entropy(single, labels)
    torch.testing.assert_close(ours, theirs)
    assert torch.equal(*torch.autograd.grad(ours, single), *torch.autograd.grad(theirs, single))
