"""Weights from a local file. The file is data: nothing in it is ever executed."""

import math
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn

from carlt.errors import CarltError
from carlt.runs.archives import unpacked_size
from carlt.runs.pickles import check_pickle
from carlt.runs.text import get_logger

log = get_logger(__name__)

Weights = dict[str, Tensor]
Normalisation = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and standard deviation of each channel, for images in [0, 1]."""
AVERAGE = "average.module."
"""Prefix of the names of the EMA's weights in a checkpoint."""


def load_weights(
    network: nn.Module, weights: str | None, convert: Callable[[Weights, nn.Module], Weights] | None = None
) -> None:
    """Copy the weights in the file ``weights`` into ``network``; None leaves it as it is.

    A ``.safetensors`` file or a weights-only ``.pt``, ``.pth`` or ``.ckpt``. A classifier of another number of classes
    is left out; anything else that is missing or of another shape is an error, and tensors of no use are warned of, as
    those of a deeper network are. A checkpoint of carlt also gives the normalisation that it was trained with
    (``set_normalisation``).

    Args:
        convert: adapts weights of another image size or library to ``network``; tried where names or shapes differ.

    Raises:
        CarltError: no such file, no plain weights in it, weights that do not fill the network, or a normalisation that
            is none.
    """
    if weights is None:
        return
    path = Path(weights)
    if not path.is_file():
        raise CarltError(
            f"model.weights={path} is not a file: put the weights at {path.absolute()}, or give the path where they lie"
        )
    content = _read(path)
    given = _strip(content)
    wanted = network.state_dict()
    classifier = tuple(f"{name}." for name in _classifier_names(network))
    misfit, bad, missing = _differences(wanted, given, classifier)
    if (bad or missing) and convert is not None:
        given = convert(given, network)
        misfit, bad, missing = _differences(wanted, given, classifier)
    if bad or missing:
        shapes = [f"{key} {tuple(given[key].shape)} where {tuple(wanted[key].shape)} is wanted" for key in bad[:3]]
        raise CarltError(
            f"model.weights={path} does not fit {type(network).__name__}: "
            + "; ".join(shapes + [f"{key} is missing" for key in missing[:3]])
            + ". Choose the model that the file is of, or another file"
        )
    if unused := [key for key in given if key not in wanted and not key.startswith(classifier)]:
        log.warning(
            "model.weights=%s: %d of its %d tensors are of no use to %s, the first: %s; are they of another network?",
            path, len(unused), len(given), type(network).__name__, unused[0],
        )  # fmt: skip
    network.load_state_dict({key: given[key] for key in wanted if key in given and key not in misfit}, strict=False)
    take_normalisation(network, content, f"model.weights={path}")


def set_normalisation(network: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
    """Record the normalisation that the weights of ``network`` were trained with."""
    network.__dict__["normalisation"] = (tuple(mean), tuple(std))


def take_normalisation(network: nn.Module, state: Mapping[str, Any], where: str) -> None:
    """Record ``mean`` and ``std`` of the ``state`` in the file ``where`` for ``network``, if both are there.

    Raises:
        CarltError: they are not real numbers of 1 or 3 channels, finite, with ``std`` above 0.
    """
    if "mean" not in state or "std" not in state:
        return
    values = []
    for name in ("mean", "std"):
        value = state[name]
        # The size first: a tensor that is one number in memory may stand for billions.
        plain = is_plain(value) and value.is_floating_point() and value.numel() in (1, 3)
        values.append(value.flatten().tolist() if plain else [])
    mean, std = values
    if not mean or len(mean) != len(std) or not all(map(math.isfinite, mean + std)) or min(std) <= 0:
        raise CarltError(
            f"{where}: mean and std are no normalisation of 1 or 3 channels with finite numbers and std above 0; take "
            "another file"
        )
    set_normalisation(network, mean, std)


def normalisation(network: nn.Module, channels: int) -> Normalisation | None:
    """The normalisation that the weights of ``network`` were trained with, for ``channels`` channels; None for initial
    weights at random. A network of colours that is given grey images has the mean over the colours."""
    found: Normalisation | None = network.__dict__.get("normalisation")
    if found is None or len(found[0]) == channels:
        return found
    mean, std = (sum(values) / len(values) for values in found)
    return (mean,) * channels, (std,) * channels


def _differences(
    wanted: Weights, given: Weights, classifier: tuple[str, ...]
) -> tuple[list[str], list[str], list[str]]:
    """Names whose shapes differ, those of them that are not the classifier's, and names that ``given`` lacks."""
    misfit = [key for key in wanted if key in given and given[key].shape != wanted[key].shape]
    # Files of PyTorch before 0.4.1 or converted from Caffe lack this counter, which nothing reads.
    optional = [key for key in wanted if key.endswith("num_batches_tracked")]
    missing = [key for key in wanted if key not in given and not key.startswith(classifier) and key not in optional]
    return misfit, [key for key in misfit if not key.startswith(classifier)], missing


def _read(path: Path) -> Weights:
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            content: Any = load_file(path)
        else:
            content = load_data(path)
    except Exception as error:  # every reader has its own errors for a damaged or hostile file
        reason = str(error) if isinstance(error, CarltError) else type(error).__name__
        raise CarltError(
            f"model.weights={path} holds no plain weights ({reason}); nothing was run; save the "
            "network's state_dict() with torch.save, or as .safetensors"
        ) from None
    for key in ("state_dict", "model"):
        content = content.get(key, content) if isinstance(content, dict) else content
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise CarltError(f"model.weights={path} holds no dictionary of tensors; save the network's state_dict() in it")
    if odd := [name for name, value in content.items() if not (isinstance(name, str) and is_plain(value))]:
        raise CarltError(
            f"model.weights={path}: {str(odd[0])[:80]!r} is no plain tensor of real numbers under a name; save the "
            "network's state_dict() in it, dense and not quantized"
        )
    return content


PICKLES = 5
"""In a file of PyTorch before 1.6: a number, a version, the system, the content and the keys of the storages."""


def load_data(path: Path) -> Any:
    """The content of a file of ``torch.save``, on the CPU; nothing in it is executed.

    Raises:
        CarltError: it unpacks to more than it holds, or see :func:`check_pickle`.
        Exception: whatever the readers raise on a damaged file.
    """
    with open(path, "rb") as file:
        if file.read(4) == b"PK\x03\x04":  # as torch recognises its zip files
            with zipfile.ZipFile(file) as parts:
                if (unpacked := unpacked_size(parts)) > 2 * path.stat().st_size:  # torch compresses nothing
                    raise CarltError(f"it unpacks to {unpacked >> 20} MiB")
                for name in parts.namelist():
                    if name.endswith(".pkl"):
                        check_pickle(parts.read(name))
        else:
            file.seek(0)
            for _ in range(PICKLES):
                check_pickle(file)
    return torch.load(path, map_location="cpu", weights_only=True)


def is_plain(value: Any) -> TypeGuard[Tensor]:
    """Whether ``value`` is a tensor of real numbers, one beside the other."""
    return (
        isinstance(value, Tensor)
        and value.layout == torch.strided
        and not (value.is_complex() or value.is_meta or value.is_quantized)
    )


def _strip(state: Weights) -> Weights:
    """Names without the prefixes that wrappers add; of a carlt or Lightning checkpoint only the network's, and of a run
    with an EMA of the weights (``optim.ema_decay``) the EMA's."""
    if any(key.startswith(AVERAGE) for key in state):
        state = {"model." + key.removeprefix(AVERAGE): v for key, v in state.items() if key.startswith(AVERAGE)}
    if any(key.startswith("model.") for key in state):
        state = {key: value for key, value in state.items() if key.startswith("model.")}
    return {
        key.removeprefix("model.").removeprefix("module.").removeprefix("_orig_mod."): v for key, v in state.items()
    }


def _classifier_names(network: nn.Module) -> tuple[str, ...]:
    name = getattr(network, "default_cfg", {}).get("classifier", "classifier")
    return (name,) if isinstance(name, str) else tuple(name)
