"""The network of a run as one file for other programs, with its normalisation and what its numbers mean."""

import contextlib
import copy
import importlib
import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from carlt.config.instantiate import part_class, plain_values
from carlt.errors import CarltError, first_line
from carlt.evaluation.load import TrainedRun
from carlt.runs.paths import file_digest, written_whole
from carlt.runs.text import command_line, printable

KEY = "carlt"
"""The entry of a file's metadata that holds the facts, as JSON."""
TOLERANCE = 1e-4
"""Largest difference of a logit between file and network, relative to the largest logit where that is above 1."""
CHECKED = 3
"""Images that an exported file is checked with."""


class NormalisedNetwork(nn.Module):
    """uint8 images (N, channels, S, S) to logits (N, C): a trained network that normalises by itself.

    ``adjustment``: what is added to the logits, (C,), or None.
    """

    mean: Tensor
    std: Tensor
    adjustment: Tensor | None

    def __init__(self, model: nn.Module, mean: Tensor, std: Tensor, adjustment: Tensor | None = None):
        super().__init__()
        self.model = model
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        self.register_buffer("adjustment", adjustment)

    def forward(self, images: Tensor) -> Tensor:
        logits = self.model((images.to(torch.float32) / 255 - self.mean) / self.std)
        return logits if self.adjustment is None else logits + self.adjustment


def network_of(run: TrainedRun, adjusted: bool = False) -> NormalisedNetwork:
    """A copy of the network of ``run`` in eval mode on the CPU, without loss, regularizer and optimizer.

    ``adjusted``: its logits have the adjustment that the run recorded (``TrainedRun.adjustment``).

    Raises:
        CarltError: ``adjusted``, and there is no such record.
    """
    adjustment = run.adjustment() if adjusted else None
    if adjusted and adjustment is None:
        remedy = command_line("carlt.evaluate", f"run={run.folder}", "posthoc=car")
        raise CarltError(
            f"adjusted=true: {run.folder} has no adjustment on record for {run.checkpoint.name}; leave out which=, as "
            f"only the last epoch can have one, and run first: {remedy}"
        )
    module = run.model
    network = NormalisedNetwork(copy.deepcopy(module.model), module.mean.clone(), module.std.clone(), adjustment)
    return network.cpu().eval().requires_grad_(False)


def facts_of(run: TrainedRun, adjusted: bool = False) -> dict[str, Any]:
    """What a program needs to use the network: input, output, class names, and where it comes from.

    ``adjusted``: as in :func:`network_of`; nothing is left to add to the logits then.
    """
    offsets = None if adjusted else run.class_offsets
    data: Any = part_class(run.config, "data")
    size = run.config.data.image_size
    view = plain_values(run.config.aug.eval_view)
    shorter = round(size * view.get("ratio", 1.0)) if view["_target_"] == "carlt.aug.Resize" else None
    return {
        "input": {
            "name": "images",
            "dtype": "uint8",
            "shape": ["N", data.channels, size, size],
            "colours": "grey" if data.channels == 1 else "RGB",
            "shorter_side": shorter,  # scaled to this, antialiased; then the centre is cut out
            "view": view,
        },
        "output": {"name": "logits", "shape": ["N", len(run.class_names)], "adjusted": adjusted},
        "image_size": size,
        "mean": run.model.mean.flatten().tolist(),  # of images in [0, 1]; the network applies both itself
        "std": run.model.std.flatten().tolist(),
        "class_names": run.class_names,
        "class_counts": run.class_counts.tolist(),
        "tau": None if adjusted or offsets is not None else run.tau,  # of logit adjustment; the offsets come first
        "class_offsets": None if offsets is None else offsets.tolist(),
        "model": plain_values(run.config.model),
        "stage": plain_values(run.config.stage) if run.config.get("stage") else None,
        "run_hash": run.result.get("run_hash"),
        "checkpoint": run.checkpoint.name,
        "checkpoint_sha256": file_digest(run.checkpoint),
        "carlt": version("carlt"),
    }


def network_file(folder: Path, form: str) -> Path:
    """Where ``folder`` holds the network in this form."""
    return folder / f"network{FORMATS[form].suffix}"


def export(run: TrainedRun, form: str, folder: Path, facts: Mapping[str, Any]) -> tuple[Path, float]:
    """Write the network of ``run`` into ``folder`` as ``onnx``, ``torch_export`` or ``safetensors``, read it again and
    run it beside the network. The file's metadata holds ``facts``, see :func:`facts_of`, which also say whether its
    logits are adjusted.

    Returns:
        The file, and the largest difference of their logits.

    Raises:
        CarltError: an optional package is missing, the network cannot be written in this form, they differ, or see
            :func:`network_of`.
    """
    how, adjusted = FORMATS[form], facts["output"]["adjusted"]
    if adjusted and how.only_weights:
        raise CarltError(f"adjusted=true: format={form} holds only weights; add class_offsets of network.json yourself")
    for package in how.packages:
        _require(package, form)
    path = network_file(folder, form)
    network = network_of(run, adjusted)
    images = _random_images(facts["input"]["shape"][1:])
    expected = network(images).numpy()
    with written_whole(path) as part:
        try:
            with _quiet():
                how.write(network, images, json.dumps(facts), part)
                logits = how.read(part, network)
                found = np.concatenate([logits(images[:1]), logits(images)])  # an exporter may fix the number of images
        except (CarltError, OSError):
            raise
        except Exception as error:  # exporters and runtimes have many kinds of error
            reason = printable(first_line(error))
            raise CarltError(
                f"format={form}: {type(run.model.model).__name__} cannot be exported for any number of images "
                f"({reason[:200]}); its forward may depend neither on the number of images nor on their values: write "
                "x.flatten(1), not x.reshape(len(x), -1)"
            ) from error
        difference = float(np.abs(found - np.concatenate([expected[:1], expected])).max())
        if not difference <= TOLERANCE * max(1.0, float(np.abs(expected).max())):
            raise CarltError(
                f"format={form}: the file's logits differ from the network's by {difference:.2g}, so it was not "
                f"written; choose another format= ({', '.join(FORMATS)})"
            )
    return path, difference


def _write_onnx(network: nn.Module, images: Tensor, facts: str, path: Path) -> None:
    if torch.__version__ < "2.7":  # its exporter fails on batch norm
        raise CarltError(
            f"format=onnx needs torch 2.7 or newer, and this is {torch.__version__}: pip install 'torch>=2.7'"
        )
    shapes = {"images": {0: torch.export.Dim("batch")}}
    names: dict[str, Any] = {"input_names": ["images"], "output_names": ["logits"]}
    program: Any = torch.onnx.export(network, (images,), dynamic_shapes=shapes, dynamo=True, verbose=False, **names)
    program.model.metadata_props[KEY] = facts
    program.save(path)


def _read_onnx(path: Path, network: nn.Module) -> Callable[[Tensor], np.ndarray]:
    import onnxruntime

    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    return lambda images: session.run(["logits"], {"images": images.numpy()})[0]


def _write_torch_export(network: nn.Module, images: Tensor, facts: str, path: Path) -> None:
    shapes = {"images": {0: torch.export.Dim("batch")}}
    program = torch.export.export(network, (images,), dynamic_shapes=shapes)
    whole = io.BytesIO()
    torch.export.save(program, whole, extra_files={KEY: facts})
    path.write_bytes(whole.getbuffer())


def _read_torch_export(path: Path, network: nn.Module) -> Callable[[Tensor], np.ndarray]:
    program = torch.export.load(io.BytesIO(path.read_bytes()))
    return lambda images: program.module()(images).numpy()


def _write_safetensors(network: nn.Module, images: Tensor, facts: str, path: Path) -> None:
    from safetensors.torch import save

    tensors = {name: tensor.contiguous().clone() for name, tensor in network.state_dict().items()}
    path.write_bytes(save(tensors, metadata={KEY: facts}))


def _read_safetensors(path: Path, network: nn.Module) -> Callable[[Tensor], np.ndarray]:
    from safetensors.torch import load_file

    state = load_file(path)

    def run(images: Tensor) -> np.ndarray:
        return torch.func.functional_call(network, state, (images,), strict=True).numpy()

    return run


class Form(NamedTuple):
    """How a network is written and read again, the extension of the file, and the packages that it takes."""

    write: Callable[[nn.Module, Tensor, str, Path], None]
    """Network, images of its size, facts as JSON, and the place."""
    read: Callable[[Path, nn.Module], Callable[[Tensor], np.ndarray]]
    """The file as a function of images; the network gives the architecture where the file has only weights."""
    suffix: str
    packages: tuple[str, ...] = ()
    only_weights: bool = False


FORMATS = {
    "onnx": Form(_write_onnx, _read_onnx, ".onnx", ("onnx", "onnxscript", "onnxruntime")),
    "torch_export": Form(_write_torch_export, _read_torch_export, ".pt2"),
    "safetensors": Form(_write_safetensors, _read_safetensors, ".safetensors", ("safetensors",), only_weights=True),
}


def _require(package: str, form: str) -> None:
    try:
        importlib.import_module(package)
    except ImportError:
        remedy = f"pip install {package}, or pip install 'carlt[export]'"
        raise CarltError(f"format={form} needs the package {package}: {remedy}") from None


def _random_images(shape: list[int]) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (CHECKED, *shape), generator=generator, dtype=torch.uint8)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporters' warnings about their own internals."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
