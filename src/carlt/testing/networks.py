"""What every network promises."""

from typing import Any

import torch

from carlt.models.classifier import extract_features, feature_dim, get_classifier
from carlt.protocols import TimmNetwork, is_feature_network
from carlt.testing.part import Check, Part, require, run, same

CLASSES, CHANNELS = 5, 3


def check_model(model: Any, /, *, side: int = 32, device: str = "cpu", **options: Any) -> None:
    """Check a network: images (N, channels, H, W) to logits (N, C).

    Args:
        model: the class, or a function that builds the network.
        side: of the images, in pixels.
        device: ``"meta"`` follows shapes and gradients of a large network without numbers.
        options: values for its constructor; ``num_classes``, ``in_channels`` and ``image_size`` are filled in.

    Raises:
        AssertionError: names the first promise that it breaks.
    """
    run([TRAINS] if device == "meta" else CHECKS, Part(model, options | {"side": side, "device": device}))


def build(part: Part) -> Any:
    """The network, on its device, and images for it."""
    options = dict(part.options)
    side, device = options.pop("side", 32), options.pop("device", "cpu")
    with torch.device(device):
        network = Part(part.kind, options).build(num_classes=CLASSES, in_channels=CHANNELS, image_size=side)
        return network, torch.rand(2, CHANNELS, side, side)


def every_parameter_has_a_gradient(part: Part) -> None:
    """The logits are (N, C), and each parameter has a gradient."""
    network, images = build(part)
    logits = network(images)
    require(logits.shape == (2, CLASSES), f"the logits of 2 images of {CLASSES} classes are {tuple(logits.shape)}")
    logits.sum().backward()
    lacking = [name for name, value in network.named_parameters() if value.requires_grad and value.grad is None]
    require(not lacking, f"{', '.join(lacking)} has no gradient: DDP cannot train a parameter without one")


@torch.no_grad()
def evaluation_is_deterministic(part: Part) -> None:
    """In evaluation mode the logits of an image depend on it alone, and saved weights bring them back."""
    network, images = build(part)
    network.eval()
    expected = network(images)
    same(network(images), expected, "a second pass")
    same(network(images[:1]), expected[:1], "an image alone", rtol=1e-4, atol=1e-5)
    again, _ = build(part)
    again.load_state_dict(network.state_dict())
    same(again.eval()(images), expected, "a network with the same weights")


@torch.no_grad()
def classifier_of_features_is_the_network(part: Part) -> None:
    """Where a network has ``features`` and ``classifier``, its logits are ``classifier(features(images))``."""
    network, images = build(part)
    logits = network.eval()(images)
    if isinstance(network, TimmNetwork) or is_feature_network(network):
        features = extract_features(network, images)
        require(features.shape == (2, feature_dim(network)), f"the features are {tuple(features.shape)}")
        same(get_classifier(network)(features), logits, "the logits")


TRAINS = every_parameter_has_a_gradient
CHECKS: tuple[Check, ...] = (TRAINS, evaluation_is_deterministic, classifier_of_features_is_the_network)
