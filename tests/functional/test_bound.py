"""functional.bound against loops, and the inequalities that it states."""

import math

import pytest
import torch

from carlt.functional.bound import class_bound, margin_terms, row_weight, strongest_rival
from carlt.functional.confusion import contributions
from carlt.functional.prior import frequency_weights
from carlt.functional.spectral import sparse_norm

N, C = 300, 6
COUNTS = torch.tensor([500, 200, 90, 40, 12, 3])


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, C - 1, (N,), generator=generator)  # the last class has no image
    logits = torch.randn(N, C, generator=generator, dtype=torch.float64)
    logits[torch.arange(N), labels] += 1.0
    return logits, labels


def hard(logits, labels, margin):
    """C (C, C) from its definition, in a loop."""
    matrix, total = torch.zeros(C, C, dtype=torch.float64), [0] * C
    for z, y in zip(logits.tolist(), labels.tolist(), strict=True):
        total[y] += 1
        score, rival = max((z[i], i) for i in range(C) if i != y)
        if z[y] <= margin + score:
            matrix[y, rival] += 1
    return matrix / torch.tensor(total).clamp(min=1)[:, None], torch.tensor(total)


def cells(logits, labels, margin):
    rival, within = strongest_rival(logits, labels, margin)
    cell, count = (labels * C + rival)[within].unique(return_counts=True)
    return cell // C, cell % C, count


@pytest.mark.parametrize("margin", [0.0, 0.1, 2.0])
def test_the_terms_are_those_of_the_dense_matrix(batch, margin):
    matrix, total = hard(*batch, margin)
    weight = frequency_weights(COUNTS)
    found = margin_terms(*cells(*batch, margin), total, weight)
    error = matrix.sum(1)
    assert 0 < error.max() < 1
    assert found == pytest.approx({
        "worst_margin_error": float(error.max()),
        "weighted_worst_error": float((weight * error).max()),
        "spectral_norm": float(torch.linalg.matrix_norm(weight[:, None] * matrix, 2)),
    })  # fmt: skip


def test_without_a_margin_the_errors_are_the_wrong_answers(batch):
    logits, labels = batch
    rival, within = strongest_rival(logits, labels, margin=0.0)
    predicted = logits.argmax(1)
    assert torch.equal(within, predicted != labels)
    assert torch.equal(rival[within], predicted[within])
    assert (rival != labels).all()


def test_the_surrogate_becomes_the_hard_confusion_for_large_logits(batch):
    logits, labels = batch
    rival, within = strongest_rival(logits, labels, margin=0.1)
    expected = torch.nn.functional.one_hot(rival, C).double() * within[:, None]
    torch.testing.assert_close(contributions(1e5 * logits, labels, margin=1e5 * 0.1), expected)


def test_the_order_of_the_classes_does_not_matter(batch):
    logits, labels = batch
    order = torch.randperm(C, generator=torch.Generator().manual_seed(1))
    place = order.argsort()
    total, weight = labels.bincount(minlength=C), frequency_weights(COUNTS)
    found = margin_terms(*cells(logits, labels, 0.1), total, weight)
    permuted = margin_terms(*cells(logits[:, order], place[labels], 0.1), total[order], weight[order])
    assert permuted == pytest.approx(found)


def test_nu_covers_every_class_and_is_the_smallest_that_does(batch):
    matrix, total = hard(*batch, 0.1)
    weight = frequency_weights(COUNTS)
    terms = margin_terms(*cells(*batch, 0.1), total, weight)
    norms = terms["spectral_norm"], terms["weighted_worst_error"]
    first = [class_bound(*norms, float(w), error=0.5)["first_term"] for w in weight]
    slack = torch.tensor(first, dtype=torch.float64) - matrix.sum(1)
    assert slack.min() == pytest.approx(0, abs=1e-9)
    found = class_bound(*norms, float(weight[3]), error=0.5)
    assert found["first_term"] == pytest.approx(found["nu"] / found["lambda"] * found["spectral_norm"])
    assert found["remainder"] == 0.5 - found["first_term"]
    assert 0 < found["nu"] <= math.sqrt(C - 1)


def test_a_set_that_is_fitted_with_margin_has_no_first_term():
    labels = torch.tensor([0, 1])
    terms = margin_terms(*cells(9.0 * torch.eye(2, C), labels, 0.1), labels.bincount(minlength=C), torch.ones(C))
    assert set(terms.values()) == {0.0}
    found = class_bound(terms["spectral_norm"], terms["weighted_worst_error"], 2.0, error=0.7)
    assert (found["first_term"], found["remainder"]) == (0.0, 0.7)
    assert math.isnan(found["nu"])


def test_an_empty_split_has_no_errors_to_tell():
    none = torch.zeros(0, dtype=torch.int64)
    terms = margin_terms(none, none, none, torch.zeros(C, dtype=torch.int64), torch.ones(C))
    assert math.isnan(terms["worst_margin_error"])
    assert terms["spectral_norm"] == 0.0


def test_logits_that_are_not_numbers_count_as_errors():
    _, within = strongest_rival(torch.tensor([[math.nan, 0.0], [9.0, 0.0]]), torch.tensor([0, 0]))
    assert within.tolist() == [True, False]


@pytest.mark.parametrize(("margin", "counts"), [(0.0, [True, False]), (0.5, [True, True]), (0.25, [True, False])])
def test_a_sample_at_the_margin_counts(margin, counts):
    _, within = strongest_rival(torch.tensor([[1.0, 1.0], [1.5, 1.0]]), torch.tensor([0, 0]), margin)
    assert within.tolist() == counts


def test_lambda_is_that_of_car():
    torch.testing.assert_close(row_weight(COUNTS), frequency_weights(COUNTS))
    assert row_weight(torch.tensor([5, 0])).isfinite().all()
    assert row_weight(torch.tensor([5])).tolist() == [1.0]


@pytest.mark.parametrize(("size", "many"), [(1, 1), (3, 4), (40, 300), (700, 5000)])
def test_the_norm_of_cells_is_that_of_the_dense_matrix(size, many):
    generator = torch.Generator().manual_seed(size)
    cell = torch.randperm(size * size, generator=generator)[:many]
    value = torch.rand(many, generator=generator, dtype=torch.float64)
    matrix = torch.zeros(size * size, dtype=torch.float64).index_add_(0, cell, value).view(size, size)
    torch.testing.assert_close(sparse_norm(cell // size, cell % size, value), torch.linalg.matrix_norm(matrix, 2))


def test_the_norm_of_no_cells_is_zero():
    none = torch.zeros(0, dtype=torch.int64)
    assert sparse_norm(none, none, torch.zeros(0)) == 0
    assert sparse_norm(torch.tensor([1]), torch.tensor([2]), torch.zeros(1)) == 0


def test_the_norm_of_the_largest_data_set_takes_no_dense_matrix():
    """8,142 classes: a dense matrix would need half a gigabyte."""
    generator = torch.Generator().manual_seed(0)
    row, column = torch.randint(0, 8142, (2, 24_426), generator=generator)
    unit = torch.full((24_426,), 1e-3, dtype=torch.float64)
    pairs, place = torch.stack([row, column]).unique(dim=1, return_inverse=True)
    value = torch.zeros(pairs.shape[1], dtype=torch.float64).index_add_(0, place, unit)
    sigma = float(sparse_norm(*pairs, value))
    v = torch.ones(8142, dtype=torch.float64)
    for _ in range(300):  # power iterations, from below
        u = torch.zeros_like(v).index_add_(0, pairs[0], value * v[pairs[1]])
        v = torch.zeros_like(v).index_add_(0, pairs[1], value * u[pairs[0]])
        power = float(torch.linalg.vector_norm(v).sqrt())
        v = v / torch.linalg.vector_norm(v)
    assert power * (1 - 1e-9) <= sigma <= power * (1 + 1e-4)
