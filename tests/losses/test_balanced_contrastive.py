"""BCL: its parts add up, everything in it learns, and its draws follow nothing but the weights."""

import pytest
import torch

from carlt.errors import CarltError
from carlt.functional.contrastive import balanced_contrastive
from carlt.losses import BalancedContrastive, LogitAdjusted
from carlt.losses.balanced_contrastive import Embedding
from carlt.losses.step import StepInput
from carlt.models import SmallCNN

COUNTS = torch.tensor([50, 9, 2])
LABELS = torch.tensor([0, 0, 1, 2])


@pytest.fixture
def loss():
    torch.manual_seed(0)
    return BalancedContrastive(COUNTS, feature_dim=5, tau=0.9, hidden=8, dim=4)


@pytest.fixture
def parts():
    generator = torch.Generator().manual_seed(1)
    features, weight, logits = (torch.randn(*shape, generator=generator) for shape in ((3, 4, 5), (3, 5), (4, 3)))
    return features.requires_grad_(), weight.requires_grad_(), logits.requires_grad_()


def test_it_is_the_weighted_sum(loss, parts):
    features, weight, logits = parts
    embedding = loss.embed(features, weight)
    assert embedding.views.shape == (3, 4, 4)
    assert embedding.centres.shape == (3, 4)
    contrast = balanced_contrastive(embedding.views[1:], LABELS, embedding.centres, 0.1)
    expected = 2 * LogitAdjusted(COUNTS, 0.9)(logits, LABELS) + 0.6 * contrast
    torch.testing.assert_close(loss(logits, LABELS, embedding, LABELS), expected)


def test_everything_learns(loss, parts):
    features, weight, logits = parts
    loss(logits, LABELS, loss.embed(features, weight), LABELS).backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in loss.parameters())
    assert logits.grad.any()
    assert weight.grad.any()
    assert (features.grad[1:].abs().sum(2) > 0).all()


def test_soft_targets_touch_the_cross_entropy_alone(loss, parts):
    features, weight, logits = parts
    embedding = loss.embed(features, weight)
    soft = torch.nn.functional.one_hot(LABELS, 3).float()
    torch.testing.assert_close(loss(logits, soft, embedding, LABELS), loss(logits, LABELS, embedding, LABELS))
    other = soft.roll(1, 0)
    change = loss(logits, other, embedding, LABELS) - loss(logits, soft, embedding, LABELS)
    expected = 2 * (LogitAdjusted(COUNTS, 0.9)(logits, other) - LogitAdjusted(COUNTS, 0.9)(logits, soft))
    torch.testing.assert_close(change, expected)


def test_the_hidden_width_is_that_of_the_features_unless_given():
    loss = BalancedContrastive(COUNTS, feature_dim=5, hidden=None, dim=4)
    assert loss.projector[0].out_features == loss.centre_projector[0].out_features == 5


@pytest.mark.parametrize(("name", "value"), [("temperature", 0), ("ce_weight", -1), ("hidden", 0)])
def test_mistakes(name, value):
    with pytest.raises(CarltError, match=f"{name}"):
        BalancedContrastive(COUNTS, feature_dim=5, **{name: value})


def test_each_view_goes_where_it_belongs() -> None:
    """The classified view alone gives logits and features to relabel; the further views alone are contrasted."""
    torch.manual_seed(0)
    network = SmallCNN(3, in_channels=1, width=3).eval()
    loss = BalancedContrastive(COUNTS, feature_dim=6, hidden=8, dim=4).eval()
    images, contrast = torch.randn(4, 1, 8, 8), torch.randn(2, 4, 1, 8, 8)
    soft, given = torch.tensor([[0.5, 0.3, 0.2]]).repeat(4, 1), []

    def relabel(features, centres):
        given.append((features, centres))
        return soft

    output = loss.compute_loss(network, StepInput(images, LABELS, LABELS, contrast, relabel))
    torch.testing.assert_close(output.logits, network(images))
    assert output.targets is soft
    (features, centres), embed = given[0], lambda x: loss.projector(network.features(x))
    torch.testing.assert_close(features, embed(images))
    torch.testing.assert_close(centres, loss.centre_projector(network.classifier.weight))
    views = torch.stack([embed(images), embed(contrast[0]), embed(contrast[1])])
    torch.testing.assert_close(output.loss, loss(network(images), soft, Embedding(views, centres), LABELS))
