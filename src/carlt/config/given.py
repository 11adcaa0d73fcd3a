"""Modules that Python code gives to ``carlt.train`` and ``carlt.load_run`` as they are. A config only names them."""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

from carlt.errors import CarltError, first_line

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Given"]

_modules: ContextVar[Mapping[str, "nn.Module"]] = ContextVar("modules", default={})  # noqa: B039 (never changed)


@contextmanager
def given(modules: Mapping[str, "nn.Module"]) -> Iterator[None]:
    """Within this, :func:`Given` finds ``modules``, by the part of the run that each is: model, loss, reg."""
    token = _modules.set(modules)
    try:
        yield
    finally:
        _modules.reset(token)


def Given(
    part: str,
    name: str,
    state: str,
    num_classes: int | None = None,
    in_channels: int | None = None,
    image_size: int | None = None,
) -> "nn.Module":
    """The module that Python code gave for ``part``.

    Args:
        name: of its class.
        state: sha256 of the weights that it came with (:func:`state_digest`), so that the run's hash depends on them.
        num_classes, in_channels, image_size: what a network has to fit; it is run once to check that it does.

    Raises:
        CarltError: none was given, or the network does not fit the data.
    """
    module = _modules.get().get(part)
    if module is None:
        raise CarltError(
            f"this run was trained with a Python object, {name}, as its {part}: give one like it, as in "
            f"carlt.load_run(folder, {part}={name}(...))"
        )
    if part == "model":
        _check_network(module, num_classes, in_channels, image_size)
    return module


def node(part: str, module: "nn.Module") -> dict[str, str]:
    """The values of a config that name ``module``."""
    return {"part": part, "name": type(module).__name__, "state": state_digest(module)}


def state_digest(module: "nn.Module") -> str:
    """sha256 over names and values of the parameters and buffers of ``module``, 64 hexadecimal digits."""
    import torch

    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        value = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _check_network(
    network: "nn.Module", num_classes: int | None, in_channels: int | None, image_size: int | None
) -> None:
    import torch

    if num_classes is None or in_channels is None or image_size is None:
        return
    from carlt.models.modes import eval_mode

    device = next((each.device for each in network.parameters()), None)
    images = torch.zeros(2, in_channels, image_size, image_size, device=device)
    what = f"model: {type(network).__name__}, given {len(images)} images {tuple(images.shape)},"
    try:
        with torch.no_grad(), eval_mode(network):
            logits = network(images)
    except Exception as error:  # any network may refuse in any way
        raise CarltError(f"{what} raises {type(error).__name__}: {first_line(error)}") from error
    shape = tuple(getattr(logits, "shape", ()))
    if shape != (len(images), num_classes):
        found = f"a tensor {shape}" if shape else f"a {type(logits).__name__}"
        raise CarltError(
            f"{what} gives {found}; with {num_classes} classes it has to give {(len(images), num_classes)}"
        )
