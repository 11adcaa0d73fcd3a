"""Any timm backbone, with pretrained or local weights."""

import logging
import sys
import warnings
from typing import Any

import torch
from torch import nn

from carlt.errors import CarltError, first_line
from carlt.models.adapters import Adapter, add_adapter
from carlt.models.classifier import get_classifier, make_classifier, set_classifier
from carlt.models.experts import Branches, expert_channels
from carlt.models.weights import Weights, load_weights, set_normalisation
from carlt.ranges import Count, Positive, PositiveShare, ShareBelowOne, checked

SCHEMES = ("hf-hub:", "hf_hub:", "local-dir:")
"""Beginnings of names by which timm loads a model's config and weights from elsewhere."""


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
    expert_width: PositiveShare = 1.0,
    adapter: Adapter | None = None,
    adapter_dim: Count | None = None,
) -> nn.Module:
    """A timm network: images (N, in_channels, H, W) to logits (N, C).

    With ``pretrained`` or ``weights`` images are normalised as the weights expect (timm's ``pretrained_cfg``), not as
    the data set is by itself.

    Args:
        name: a timm model name, with a tag where it has several weights (``vit_base_patch16_clip_224.openai``), or
            ``hf-hub:<repository>`` or ``local-dir:<folder>``, which hold timm's config beside the weights.
        image_size: given to networks that are built for one size (ViT, Swin).
        pretrained: download timm's default weights.
        weights: a local file to start from (``carlt.models.weights``). timm resamples that of a transformer for another
            image size, and converts those of other libraries that it knows, e.g. the image tower of OpenCLIP.
        cosine_scale: makes the classifier a cosine one with this scale.
        experts: number of copies of layer3, layer4 and the classifier; only ResNets can be divided so.
        expert_width: share of the channels that several experts' own layers keep, in (0, 1]; 0.75 in RIDE's code.
        adapter: train few weights and the classifier only (``carlt.models.adapters``); ``adapter_dim``: their rank.

    Raises:
        CarltError: unknown name (with the nearest ones), a network for another image size, weights that cannot be
            had, read or fitted.
    """
    import timm  # imported here, because it takes a second to import

    if not (timm.is_model(name) or name.startswith(SCHEMES)):
        near = timm.list_models(f"*{name.split('_')[0]}*")[:8] or timm.list_models("resnet*")[:8]
        raise CarltError(f"model.name={name!r} is no timm model; near it: {', '.join(near)}")
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # its retries are reported below, in one line
    options: dict[str, Any] = {"num_classes": num_classes, "in_chans": in_channels}
    if drop_path_rate:
        options["drop_path_rate"] = drop_path_rate
    if experts > 1:
        options |= _reduced_channels(name, experts, expert_width, pretrained)
    try:
        network, *others = (_create(name, pretrained, image_size, options) for _ in range(experts))
    except (RuntimeError, OSError, ValueError, TypeError, AssertionError, LookupError, AttributeError) as error:
        reason = first_line(error)
        raise CarltError(
            _where_to_get(name, reason)
            if pretrained
            else f"model.name={name!r} cannot be built with {options} ({reason})"
        ) from None
    if others:
        _divide(network, [network, *others], name)
    if others or cosine_scale is not None:
        linear = get_classifier(network)
        if not isinstance(linear, nn.Linear):
            option = "model.experts" if others else "model.cosine_scale"
            raise CarltError(f"{option} needs a linear classifier to replace, not {type(linear).__name__}")
        set_classifier(network, make_classifier(linear.in_features, linear.out_features, cosine_scale, experts))
    _check_size(network, name, in_channels, image_size)
    if pretrained or weights is not None:
        config: Any = network.pretrained_cfg
        set_normalisation(network, config["mean"], config["std"])
    load_weights(network, weights, _convert)
    if adapter is not None:
        at = next(network.parameters()).device
        probe = torch.randn(1, in_channels, image_size, image_size, generator=torch.Generator().manual_seed(0))
        add_adapter(network, adapter, adapter_dim, probe.to(at))
    elif adapter_dim is not None:
        raise CarltError("model.adapter_dim is of an adapter: add model.adapter=lora or model.adapter=adaptformer")
    return network


def _create(name: str, pretrained: bool, image_size: int, options: dict[str, Any]) -> nn.Module:
    import timm

    try:  # transformers are built for one size; most other networks have no such argument
        return timm.create_model(name, pretrained=pretrained, img_size=image_size, **options)
    except TypeError:
        return timm.create_model(name, pretrained=pretrained, **options)


def _where_to_get(name: str, reason: str) -> str:
    """The error message for weights that cannot be downloaded: which file, and where to put it."""
    import timm

    config: Any = timm.get_pretrained_cfg(name, allow_unregistered=True) if timm.is_model(name) else None
    hub = f"{getattr(config, 'hf_hub_id', None) or ''}"
    if hub.endswith("/"):
        hub += f"{config.architecture}.{config.tag}" if config.tag else config.architecture
    source = f"model.safetensors of {hub} on the Hugging Face hub" if hub else getattr(config, "url", "") or name
    return (
        f"timm's weights for model.name={name!r} cannot be had ({reason}). Where there is a network, fetch {source}; "
        "put that file anywhere on this machine, and give its path as model.weights=<file>"
    )


def _convert(weights: Weights, network: nn.Module) -> Weights:
    """Weights of another image size, library or number of channels for ``network``, by the functions that timm has."""
    from timm.models import adapt_input_conv

    adapt = getattr(sys.modules[type(network).__module__], "checkpoint_filter_fn", None)
    config: Any = network.pretrained_cfg
    first = config["first_conv"] or ()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # timm's own, about its indexing
            given = dict(weights) if adapt is None else adapt(dict(weights), network)
        for name in (first,) if isinstance(first, str) else first:
            channels = network.get_parameter(f"{name}.weight").shape[1]
            given[f"{name}.weight"] = adapt_input_conv(channels, given[f"{name}.weight"])
        return given
    except (RuntimeError, KeyError, ValueError, TypeError, AttributeError, AssertionError):
        return weights  # the caller names the shapes that differ


def _divide(network: Any, owners: list[Any], name: str) -> None:
    """Give each expert the late stages of one of ``owners``, of which ``network`` is the first."""
    if not all(hasattr(network, layer) for layer in ("layer3", "layer4")):
        raise CarltError(
            f"model.experts={len(owners)} needs a ResNet, because each expert has a layer3 and a layer4 of its own; "
            f"model.name={name!r} has no such layers"
        )
    branches = Branches(nn.Sequential(owner.layer3, owner.layer4) for owner in owners)
    network.layer3, network.layer4 = nn.Identity(), branches


def _reduced_channels(name: str, experts: int, share: float, pretrained: bool) -> dict[str, Any]:
    """timm's ``channels`` of a ResNet whose layer3 and layer4 keep a share of theirs; nothing for other networks."""
    import timm

    if share == 1:
        return {}
    with torch.device("meta"):
        whole: Any = timm.create_model(name)
    if not all(hasattr(whole, layer) for layer in ("layer3", "layer4")):
        return {}
    if pretrained:
        raise CarltError(
            f"model.pretrained=true: timm's weights are for whole experts, not for model.expert_width={share}; give "
            "model.expert_width=1"
        )
    expansion = whole.layer1[0].expansion
    width = {info["module"]: info["num_chs"] // expansion for info in whole.feature_info}
    late = (expert_channels(width[layer], experts, share) for layer in ("layer3", "layer4"))
    return {"channels": (width["layer1"], width["layer2"], *late)}


@torch.no_grad()
def _check_size(network: nn.Module, name: str, in_channels: int, image_size: int) -> None:
    """One pass, so that a wrong image size is an error now and not in the first step."""
    weight = next(network.parameters())
    try:
        network.eval()(torch.zeros(1, in_channels, image_size, image_size, device=weight.device))
    except (RuntimeError, AssertionError, ValueError) as error:
        raise CarltError(
            f"model.name={name!r} cannot take images of {image_size} pixels ({first_line(error)}); "
            "choose another data.image_size"
        ) from None
    network.train()
