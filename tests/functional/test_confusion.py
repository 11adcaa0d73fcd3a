"""functional.confusion against a loop over samples and classes."""

import math

import pytest
import torch

from carlt.errors import CarltError
from carlt.functional import confusion as cf


def naive_contribution(z, y, margin, surrogate):
    """One sample's row by the formula, in Python floats."""
    rivals = [i for i in range(len(z)) if i != y]
    pool = rivals if surrogate == "paper" else range(len(z))
    total = sum(math.exp(z[i] - z[y]) for i in pool)
    row = [0.0] * len(z)
    for i in rivals:
        gate = 1 / (1 + math.exp(-(margin + z[i] - z[y])))
        row[i] = gate * math.exp(z[i] - z[y]) / total
    return row


def naive_confusion(logits, weights, margin, surrogate):
    """C~ by loops over true class, sample and competitor; weights (N, C)."""
    n, c = weights.shape
    out = torch.zeros(c, c, dtype=torch.float64)
    for j in range(c):
        mass = sum(float(weights[q, j]) for q in range(n))
        for q in range(n):
            if weights[q, j] > 0:
                row = naive_contribution(logits[q].tolist(), j, margin, surrogate)
                for i in range(c):
                    out[j, i] += float(weights[q, j]) * row[i] / mass
    return out


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(12, 5, generator=generator, dtype=torch.float64)
    return logits, torch.tensor([0, 0, 0, 1, 1, 3, 3, 3, 3, 3, 0, 1])  # classes 2 and 4 are absent


@pytest.mark.parametrize("surrogate", ["paper", "released"])
def test_batch_confusion_is_the_naive_loop(batch, surrogate):
    logits, targets = batch
    onehot = torch.nn.functional.one_hot(targets, 5).double()
    ours, mass = cf.batch_confusion(logits, targets, 0.1, surrogate)
    torch.testing.assert_close(ours, naive_confusion(logits, onehot, 0.1, surrogate))
    assert mass.tolist() == [4, 3, 0, 5, 0]
    assert not ours[2].any()
    assert not ours[4].any()
    assert not ours.diagonal().any()


@pytest.mark.parametrize("surrogate", ["paper", "released"])
def test_soft_targets_are_weighted_rows_and_counts(batch, surrogate):
    logits, targets = batch
    soft = 0.7 * torch.nn.functional.one_hot(targets, 5) + 0.3 * torch.nn.functional.one_hot(targets.flip(0), 5)
    soft = soft.double()
    ours, mass = cf.batch_confusion(logits, soft, 0.1, surrogate)
    torch.testing.assert_close(ours, naive_confusion(logits, soft, 0.1, surrogate))
    torch.testing.assert_close(mass, soft.sum(0))


def test_a_class_of_less_than_one_image_counts_with_that(batch):
    logits, targets = batch
    soft = 0.1 * torch.nn.functional.one_hot(targets, 5).double()  # of class 0 there are 0.4 images
    ours, mass = cf.batch_confusion(logits, soft)
    torch.testing.assert_close(ours, naive_confusion(logits, soft, 0.1, "paper") * mass[:, None])


def test_autocast_does_not_round_a_confusion(batch):
    logits, targets = batch[0].float(), batch[1]
    with torch.autocast("cpu", torch.bfloat16):
        found, _ = cf.batch_confusion(logits, targets)
    assert torch.equal(found, cf.batch_confusion(logits, targets)[0])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_counts_every_image(dtype):
    """bfloat16 ends counting at 256, float16 at 2,048."""
    logits = torch.randn(3000, 3, generator=torch.Generator().manual_seed(0)).to(dtype)
    targets = torch.zeros(3000, dtype=torch.int64)
    found, mass = cf.batch_confusion(logits, targets)
    expected, _ = cf.batch_confusion(logits.float(), targets)
    assert found.dtype == torch.float32
    assert mass.tolist() == [3000, 0, 0]
    torch.testing.assert_close(found, expected)


def test_contributions_have_the_gradient_of_the_formula(batch):
    logits, targets = batch
    assert torch.autograd.gradcheck(lambda z: cf.contributions(z, targets), logits.requires_grad_())


def test_released_differs_from_the_paper_as_stated(batch):
    logits, targets = batch
    rows = torch.arange(len(targets))
    paper, released = (cf.contributions(logits, targets, 0.0, s) for s in ("paper", "released"))
    # The softmax counts the true class before it is masked out ...
    torch.testing.assert_close(released, paper * (1 - logits.softmax(1)[rows, targets])[:, None])
    # ... and the gate is a constant: the gradient is that of the softmax factor alone.
    weight = torch.randn(logits.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    z = logits.clone().requires_grad_()
    (cf.contributions(z, targets, 0.0, "released") * weight).sum().backward()
    w = logits.clone().requires_grad_()
    gate = torch.sigmoid(logits - logits[rows, targets][:, None])
    gate[rows, targets] = 0
    (gate * w.softmax(1) * weight).sum().backward()
    torch.testing.assert_close(z.grad, w.grad)


def test_two_classes_leave_one_rival():
    logits = torch.tensor([[2.0, -1.0]])
    torch.testing.assert_close(
        cf.contributions(logits, torch.tensor([0])), torch.tensor([[0.0, 1 / (1 + math.exp(2.9))]])
    )


def test_large_logits_stay_finite():
    logits = torch.tensor([[1e30, -1e30, 3.0], [-1e30, 1e30, 3.0]], requires_grad=True)
    rows = cf.contributions(logits, torch.tensor([0, 0]))
    rows.sum().backward()
    assert rows.isfinite().all()
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("soft", [False, True])
def test_accumulation_over_batches_is_one_large_batch(batch, soft):
    logits, targets = batch
    targets = torch.nn.functional.one_hot(targets, 5).double() if soft else targets
    sums, mass = torch.zeros(5, 5, dtype=torch.float64), torch.zeros(5, dtype=torch.float64)
    if soft:
        targets = 0.75 * targets + 0.25 * targets.roll(1, 1)
    for part in (slice(0, 5), slice(5, 12)):
        cf.accumulate_confusion_(sums, mass, logits[part], targets[part])
    torch.testing.assert_close(cf.mean_confusion(sums, mass), cf.batch_confusion(logits, targets)[0])


def test_accumulation_is_in_the_precision_of_the_sums(batch):
    logits, targets = batch[0].bfloat16(), batch[1]
    sums, mass = torch.zeros(5, 5, dtype=torch.float64), torch.zeros(5, dtype=torch.float64)
    cf.accumulate_confusion_(sums, mass, logits, targets)
    torch.testing.assert_close(cf.mean_confusion(sums, mass), cf.batch_confusion(logits.double(), targets)[0])


@pytest.mark.parametrize("live", [3, 150])
def test_scaling_live_rows_is_scaling_all(live):
    matrix, keep = torch.zeros(200, 7), torch.tensor(0.5)
    matrix[:live] = torch.rand(live, 7)
    matrix[0], matrix[1] = 1e-9, 1e-5
    norm = torch.linalg.vector_norm(matrix, dim=1)
    expected = 0.5 * matrix
    expected[0] = 0  # faded below what float32 can tell beside the others
    cf.scale_rows_(matrix, keep, norm)
    torch.testing.assert_close(matrix, expected, rtol=1e-5, atol=0)
    torch.testing.assert_close(norm, torch.linalg.vector_norm(expected, dim=1))


def test_relative_gap():
    truth = torch.eye(2)
    assert cf.relative_gap(truth, truth) == 0
    torch.testing.assert_close(cf.relative_gap(torch.zeros(2, 2), truth), torch.tensor(1.0))
    assert cf.relative_gap(truth, torch.zeros(2, 2)).isnan()


def test_mistakes_are_named():
    with pytest.raises(CarltError, match=r"floating \(N, 3\)"):
        cf.check_batch(torch.zeros(2, 4), torch.zeros(2, dtype=torch.int64), 3)
    with pytest.raises(CarltError, match="targets"):
        cf.check_batch(torch.zeros(2, 3), torch.zeros(3, dtype=torch.int64), 3)
    with pytest.raises(CarltError, match=r"targets: expected whole numbers .* got torch\.bool"):
        cf.check_batch(torch.zeros(2, 3), torch.zeros(2, dtype=torch.bool), 3)
    with pytest.raises(CarltError, match="empty"):
        cf.check_batch(torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64), 3)
    with pytest.raises(CarltError, match="all zero"):
        cf.expand_soft_labels(torch.zeros(2, 3), torch.float32)
