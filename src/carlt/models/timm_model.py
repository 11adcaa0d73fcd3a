"""Any timm backbone, with pretrained or local weights."""

from typing import Any

from torch import nn

from carlt.errors import CarltError
from carlt.models.weights import load_weights


def timm_model(
    name: str,
    num_classes: int,
    in_channels: int = 3,
    image_size: int = 224,
    pretrained: bool = False,
    weights: str | None = None,
    drop_path_rate: float = 0.0,
) -> nn.Module:
    """A timm network: images (N, in_channels, H, W) to logits (N, C).

    Args:
        name: a timm model name.
        image_size: given to networks that are built for one size (ViT, Swin).
        pretrained: download timm's default weights.
        weights: a local file to start from (``carlt.models.weights``).

    Raises:
        CarltError: unknown name (with the nearest ones), weights that cannot be had, read or fitted.
    """
    import timm  # imported here: it takes a second that other networks need not pay

    if not timm.is_model(name):
        near = timm.list_models(f"*{name.split('_')[0]}*")[:8] or timm.list_models("resnet*")[:8]
        raise CarltError(f"model.name={name!r} is no timm model; near it: {', '.join(near)}")
    options: dict[str, Any] = {"num_classes": num_classes, "in_chans": in_channels, "drop_path_rate": drop_path_rate}
    if any(part in name for part in ("vit", "swin", "deit")):
        options["img_size"] = image_size
    try:
        network = timm.create_model(name, pretrained=pretrained, **options)
    except (RuntimeError, OSError, ValueError) as error:
        if not pretrained:
            raise
        raise CarltError(
            f"timm's weights for model.name={name!r} cannot be had ({error}); "
            "download them elsewhere and give model.weights=<file>"
        ) from None
    load_weights(network, weights)
    return network
