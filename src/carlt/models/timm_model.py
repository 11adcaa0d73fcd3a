"""Any timm backbone, with pretrained or local weights."""

import logging
import sys
import warnings
from typing import Any

import torch
from torch import nn

from carlt.errors import CarltError
from carlt.models.classifier import get_classifier, make_classifier
from carlt.models.experts import Branches
from carlt.models.weights import Weights, load_weights, set_normalisation
from carlt.ranges import Count, Positive, ShareBelowOne, checked


@checked
def timm_model(
    name: str,
    num_classes: int,
    in_channels: int = 3,
    image_size: int = 224,
    pretrained: bool = False,
    weights: str | None = None,
    drop_path_rate: ShareBelowOne = 0.0,
    cosine_scale: Positive | None = None,
    experts: Count = 1,
) -> nn.Module:
    """A timm network: images (N, in_channels, H, W) to logits (N, C).

    With ``pretrained`` or ``weights`` images are normalised as the weights expect (timm's ``pretrained_cfg``), not as
    the data set is by itself.

    Args:
        name: a timm model name.
        image_size: given to networks that are built for one size (ViT, Swin).
        pretrained: download timm's default weights.
        weights: a local file to start from (``carlt.models.weights``); that of a transformer for another image size is
            resampled by timm.
        cosine_scale: makes the classifier a cosine one with this scale.
        experts: number of copies of layer3, layer4 and the classifier; only ResNets can be divided so.

    Raises:
        CarltError: unknown name (with the nearest ones), a network for another image size, weights that cannot be
            had, read or fitted.
    """
    import timm  # imported here, because it takes a second to import

    if not timm.is_model(name):
        near = timm.list_models(f"*{name.split('_')[0]}*")[:8] or timm.list_models("resnet*")[:8]
        raise CarltError(f"model.name={name!r} is no timm model; near it: {', '.join(near)}")
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # its retries are reported below, in one line
    options: dict[str, Any] = {"num_classes": num_classes, "in_chans": in_channels}
    if drop_path_rate:
        options["drop_path_rate"] = drop_path_rate
    try:
        network, *others = (_create(name, pretrained, image_size, options) for _ in range(experts))
    except (RuntimeError, OSError, ValueError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise CarltError(
            f"timm's weights for model.name={name!r} cannot be had ({reason}); "
            "download them elsewhere and give model.weights=<file>"
            if pretrained
            else f"model.name={name!r} cannot be built with {options} ({reason})"
        ) from None
    if others:
        _divide(network, [network, *others], name)
    if others or cosine_scale is not None:
        _replace(network, get_classifier(network), cosine_scale, experts)
    _check_size(network, name, in_channels, image_size)
    if pretrained or weights is not None:
        config: Any = network.pretrained_cfg
        set_normalisation(network, config["mean"], config["std"])
    load_weights(network, weights, _resample)
    return network


def _create(name: str, pretrained: bool, image_size: int, options: dict[str, Any]) -> nn.Module:
    import timm

    try:  # transformers are built for one size; most other networks have no such argument
        return timm.create_model(name, pretrained=pretrained, img_size=image_size, **options)
    except TypeError:
        return timm.create_model(name, pretrained=pretrained, **options)


def _resample(weights: Weights, network: nn.Module) -> Weights:
    """Weights of another image size for ``network``, by the function that timm has for its family, if there is one."""
    adapt = getattr(sys.modules[type(network).__module__], "checkpoint_filter_fn", None)
    try:
        with warnings.catch_warnings(action="ignore"):  # timm's own, about its indexing
            return weights if adapt is None else adapt(dict(weights), network)
    except (RuntimeError, KeyError, ValueError, TypeError, AttributeError, AssertionError):
        return weights  # the caller names the shapes that differ


def _divide(network: Any, owners: list[Any], name: str) -> None:
    """Give each expert the late stages of one of ``owners``, of which ``network`` is the first."""
    if not all(hasattr(network, layer) for layer in ("layer3", "layer4")):
        raise CarltError(
            f"model.experts={len(owners)} needs a ResNet, whose layer3 and layer4 each expert has for its own; "
            f"model.name={name!r} has none"
        )
    branches = Branches(nn.Sequential(owner.layer3, owner.layer4) for owner in owners)
    network.layer3, network.layer4 = nn.Identity(), branches


def _replace(network: nn.Module, linear: nn.Module, scale: float | None, experts: int) -> None:
    """Put another classifier where ``linear`` is."""
    if not isinstance(linear, nn.Linear):
        raise CarltError(f"model.cosine_scale needs a linear classifier to replace, not {type(linear).__name__}")
    path = next(name for name, module in network.named_modules() if module is linear)
    parent, _, name = path.rpartition(".")
    head = make_classifier(linear.in_features, linear.out_features, scale, experts)
    setattr(network.get_submodule(parent), name, head)


@torch.no_grad()
def _check_size(network: nn.Module, name: str, in_channels: int, image_size: int) -> None:
    """One pass, so that a wrong image size is an error now and not in the first step."""
    weight = next(network.parameters())
    try:
        network.eval()(torch.zeros(1, in_channels, image_size, image_size, device=weight.device))
    except (RuntimeError, AssertionError, ValueError) as error:
        raise CarltError(
            f"model.name={name!r} cannot take images of {image_size} pixels ({str(error).splitlines()[0]}); "
            "choose another data.image_size"
        ) from None
    network.train()
