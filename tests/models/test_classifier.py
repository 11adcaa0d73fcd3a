"""Features and classifiers of every backbone, linear and cosine."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from carlt.errors import CarltError
from carlt.models import CifarResNet, CosineClassifier, SmallCNN, timm_model
from carlt.models.classifier import extract_features, feature_dim, get_classifier, set_classifier

NETWORKS = {
    "SmallCNN": lambda **options: SmallCNN(5, width=4, **options),
    "CifarResNet": lambda **options: CifarResNet(5, 8, width=4, **options),
    "ResNet": lambda **options: timm_model("test_resnet", 5, image_size=64, **options),
    "ViT": lambda **options: timm_model("test_vit", 5, image_size=160, **options),
    "Swin": lambda **options: timm_model("swin_tiny_patch4_window7_224", 5, image_size=224, **options),
}
SIDE = {"ResNet": 64, "ViT": 160, "Swin": 224}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("scale", [None, 30.0])
@torch.no_grad()
def test_classifier_of_features_is_the_network(name: str, scale: float | None) -> None:
    network = NETWORKS[name](cosine_scale=scale).eval()
    images = torch.randn(2, 3, SIDE.get(name, 16), SIDE.get(name, 16))
    seen = extract_features(network, images)
    assert seen.shape == (2, feature_dim(network))
    assert get_classifier(network).weight.shape == (5, feature_dim(network))
    torch.testing.assert_close(get_classifier(network)(seen), network(images))
    assert isinstance(get_classifier(network), CosineClassifier) == (scale is not None)


def test_cosine_by_hand() -> None:
    layer, inputs = CosineClassifier(4, 3, scale=2.0), torch.randn(5, 4)
    logits = layer(inputs)
    for q in range(5):
        for c in range(3):
            cosine = F.cosine_similarity(inputs[q], layer.weight[c], dim=0)
            torch.testing.assert_close(logits[q, c], 2 * cosine)
    torch.testing.assert_close(layer(7 * inputs), logits)
    assert logits.abs().max() <= 2


def test_a_network_without_features_says_so() -> None:
    with pytest.raises(CarltError, match=r"Linear does not tell features .* features\(images\)"):
        extract_features(nn.Linear(2, 2), torch.zeros(1, 2))
    with pytest.raises(CarltError, match="cosine_scale=0: expected a finite number, more than 0"):
        SmallCNN(5, cosine_scale=0)


def test_a_network_with_two_classifiers_says_so() -> None:
    network = timm_model("deit_tiny_distilled_patch16_224", 5, image_size=32)
    for ask in (get_classifier, feature_dim, lambda network: set_classifier(network, nn.Identity())):
        with pytest.raises(CarltError, match=r"has several classifiers: .* choose the model without distillation"):
            ask(network)
