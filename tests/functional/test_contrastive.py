"""Balanced contrast against a naive double loop."""

import math

import pytest
import torch
from torch.nn import functional as F

from carlt.functional.contrastive import balanced_contrastive

LABELS = torch.tensor([0, 0, 0, 1, 2])  # class 3 is absent


def given(seed=0, classes=4):
    generator = torch.Generator().manual_seed(seed)
    views = torch.randn(2, len(LABELS), 6, generator=generator, dtype=torch.float64)
    return views, torch.randn(classes, 6, generator=generator, dtype=torch.float64)


def naive(views, labels, centres, temperature):
    samples = [(F.normalize(view[q], dim=0), int(labels[q])) for view in views for q in range(len(labels))]
    keys = samples + [(F.normalize(centre, dim=0), c) for c, centre in enumerate(centres)]
    losses = []
    for i, (anchor, own) in enumerate(samples):
        total = 0.0
        for c in range(len(centres)):
            members = [key for k, (key, label) in enumerate(keys) if label == c and k != i]
            total = total + sum(torch.exp(anchor @ key / temperature) for key in members) / len(members)
        positives = [key for k, (key, label) in enumerate(keys) if label == own and k != i]
        # The positive's own sum in the denominator is over one key fewer: the anchor is no key of its own.
        losses.append(-sum(anchor @ key / temperature - torch.log(total) for key in positives) / len(positives))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("temperature", [0.07, 0.5])
def test_against_a_double_loop(temperature):
    views, centres = given()
    ours = balanced_contrastive(views, LABELS, centres, temperature)
    torch.testing.assert_close(ours, naive(views, LABELS, centres, temperature))


def test_gradcheck_and_a_gradient():
    views, centres = given()
    inputs = (views.requires_grad_(), centres.requires_grad_())
    assert torch.autograd.gradcheck(lambda v, c: balanced_contrastive(v, LABELS, c, 0.3), inputs)
    balanced_contrastive(views, LABELS, centres, 0.3).backward()
    assert (views.grad.abs().sum(2) > 0).all()
    assert (centres.grad.abs().sum(1) > 0).all()  # also that of the absent class


def test_properties():
    views, centres = given()
    loss = balanced_contrastive(views, LABELS, centres, 0.2)
    order = torch.tensor([2, 0, 3, 1])  # class c is called order.argsort()[c] now
    torch.testing.assert_close(balanced_contrastive(views, order.argsort()[LABELS], centres[order], 0.2), loss)
    torch.testing.assert_close(balanced_contrastive(3 * views, LABELS, centres / 7, 0.2), loss)
    samples = torch.tensor([4, 2, 0, 1, 3])
    torch.testing.assert_close(balanced_contrastive(views[:, samples], LABELS[samples], centres, 0.2), loss)
    torch.testing.assert_close(balanced_contrastive(views.flip(0), LABELS, centres, 0.2), loss)


@pytest.mark.parametrize("copies", [1, 2, 9])
def test_more_images_of_a_class_weigh_no_more(copies):
    """One image of class 0, several of class 1, each on its axis: every anchor sees e^(1 / T) once, and e^0 twice."""
    axis = torch.eye(3, dtype=torch.float64)
    views = torch.stack([axis[0]] + [axis[1]] * copies)[None]
    loss = balanced_contrastive(views, torch.tensor([0] + [1] * copies), axis, 0.5)
    assert float(loss) == pytest.approx(math.log(math.exp(2) + 2) - 2)


def test_half_precision_is_computed_in_float32():
    views, centres = given()
    with torch.autocast("cpu", torch.bfloat16):
        loss = balanced_contrastive(views.bfloat16(), LABELS, centres.bfloat16(), 0.1)
    assert loss.dtype == torch.float32
    assert loss.isfinite()
