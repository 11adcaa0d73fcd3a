"""Boxes, soft labels and their corrections, against hand-worked cases."""

import math

import pytest
import torch

from carlt.functional.mixing import area_outside, random_box, remix_lam, semantic_labels, soft_labels


def test_boxes_are_cut_off_at_the_border():
    torch.manual_seed(0)
    areas, clipped = [], 0
    for _ in range(300):
        box = random_box(10, 20, torch.tensor(0.75))
        marked = torch.zeros(10, 20)
        marked[box] = 1
        area = int(marked.sum())
        assert area_outside(box, 10, 20) == pytest.approx(1 - area / 200)
        areas.append(area)
        clipped += area < 50
    assert max(areas) == 50  # half of each side
    assert 100 < clipped < 250


def test_extreme_boxes():
    """Share 1 leaves the image as it is; share 0 replaces it all, or a quarter for a centre in a corner."""
    torch.manual_seed(0)
    assert {area_outside(random_box(8, 8, torch.tensor(1.0)), 8, 8) for _ in range(20)} == {1.0}
    outside = [area_outside(random_box(8, 8, torch.tensor(0.0)), 8, 8) for _ in range(200)]
    assert (min(outside), max(outside)) == (0.0, 0.75)


def test_soft_labels():
    labels, others = torch.tensor([0, 1, 2]), torch.tensor([1, 1, 0])
    expected = torch.tensor([[0.25, 0.75, 0], [0, 1, 0], [0.75, 0, 0.25]])
    torch.testing.assert_close(soft_labels(labels, others, 0.25, 3), expected)
    each = soft_labels(labels, others, torch.tensor([1.0, 0.5, 0.0]), 3)
    torch.testing.assert_close(each, torch.tensor([[1.0, 0, 0], [0, 1, 0], [1, 0, 0]]))


def test_remix_by_hand():
    counts, others = torch.tensor([90, 90, 30, 10, 10]), torch.tensor([30, 31, 90, 90, 10])
    torch.testing.assert_close(
        remix_lam(torch.tensor(0.4), counts, others, 3, 0.5), torch.tensor([0.0, 0.4, 0.4, 0.4, 0.4])
    )
    torch.testing.assert_close(
        remix_lam(torch.tensor(0.6), counts, others, 3, 0.5), torch.tensor([0.6, 0.6, 1.0, 1.0, 0.6])
    )
    for share, expected in ((0.4, [0.4, 0.4]), (0.6, [0.6, 0.6]), (0.2, [0.0, 0.2]), (0.8, [0.8, 1.0])):
        ratios = torch.tensor([60, 20]), torch.tensor([20, 60])
        torch.testing.assert_close(remix_lam(torch.tensor(share), *ratios, 3, 0.3), torch.tensor(expected))
        halves = torch.tensor([40, 20]), torch.tensor([20, 40])
        torch.testing.assert_close(remix_lam(torch.tensor(share), *halves, 3, 0.3), torch.tensor([share, share]))


def test_semantic_labels_by_hand():
    """Distances 1, 4 and 2, so similarities 2/3 and 1/3 of the two nearest; sum_c log n_c = log(100 * 20 * 5)."""
    features, centres = torch.zeros(1, 1).double(), torch.tensor([[1.0], [4.0], [-2.0]]).double()
    area, counts = torch.tensor([[0.5, 0.5, 0.0]]).double(), torch.tensor([100, 20, 5])
    rho = 0.5 * math.log(60) / math.log(10_000)
    expected = rho * torch.tensor([[2 / 3, 0, 1 / 3]]).double() + (1 - rho) * area
    torch.testing.assert_close(semantic_labels(features, centres, area, counts, 0.5, 2), expected)


def test_semantic_labels_replace_no_more_than_the_whole_label():
    features, centres = torch.zeros(1, 1), torch.tensor([[1.0], [4.0], [-2.0]])
    labels = semantic_labels(features, centres, torch.tensor([[0.5, 0.5, 0.0]]), torch.tensor([100, 20, 5]), 50.0, 2)
    torch.testing.assert_close(labels, torch.tensor([[2 / 3, 0, 1 / 3]]))  # rho is 1


def test_semantic_labels_keep_their_mass_and_follow_the_classes():
    generator = torch.Generator().manual_seed(0)
    features, centres = torch.randn(7, 4, generator=generator), torch.randn(5, 4, generator=generator)
    area = torch.rand(7, 5, generator=generator).softmax(1)
    counts, order = torch.tensor([50, 20, 9, 4, 1]), torch.tensor([3, 0, 4, 1, 2])
    labels = semantic_labels(features.requires_grad_(), centres, area, counts, 0.9, 3)
    assert not labels.requires_grad
    torch.testing.assert_close(labels.sum(1), torch.ones(7))
    permuted = semantic_labels(features, centres[order], area[:, order], counts[order], 0.9, 3)
    torch.testing.assert_close(permuted, labels[:, order])


def test_semantic_labels_at_a_centre_and_with_single_images():
    centres, area = torch.eye(3), torch.full((1, 3), 1 / 3)
    on_it = semantic_labels(centres[:1], centres, area, torch.tensor([9, 9, 9]), 1.0, 3)
    assert on_it.isfinite().all()
    torch.testing.assert_close(semantic_labels(centres[:1], centres, area, torch.ones(3), 1.0, 3), area)


def test_a_class_without_a_centre_is_never_near():
    features, area = torch.zeros(1, 2), torch.tensor([[0.5, 0.5, 0.0]])
    centres = torch.tensor([[3.0, 0.0], [torch.nan, torch.nan], [1.0, 0.0]])
    labels = semantic_labels(features, centres, area, torch.tensor([9, 9, 9]), 1.0, 3)  # rho is 1 / 3
    torch.testing.assert_close(labels, torch.tensor([[1 / 12 + 1 / 3, 1 / 3, 1 / 4]]))
    nowhere = semantic_labels(features, torch.full((3, 2), torch.nan), area, torch.tensor([9, 9, 9]), 1.0, 3)
    torch.testing.assert_close(nowhere, area)
