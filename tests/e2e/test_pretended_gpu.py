"""A training step of every method on tensors that say they are on a GPU and hold no numbers. A tensor that was made on
another device is an error, and so is a number that the host would wait for."""

from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torchmetrics import Metric

from carlt.commands.run import compose_run
from carlt.config.compose import options
from carlt.data.batch import Batch
from carlt.protocols import FollowsProgress
from carlt.training import build

METHODS = [
    *(f"loss={name} reg=none" for name in options("loss")),
    *(f"reg={name}" for name in options("reg") if name not in ("none", "several")),
    *(f"aug={name} reg=none" for name in ("cutmix", "mixup", "remix", "cmo", "concutmix")),
    "loss=ce reg=[car,confidence_penalty]",
    "optim.ema_decay=0.9",
    "model=resnet32 data.image_size=32",
    *(
        pytest.param(f"model={name} data.image_size=32", marks=pytest.mark.slow)
        for name in ("resnet50", "vit_tiny", "swin_tiny")
    ),
]
MIXED = [
    "loss=glmc",
    "aug=mixup",
    "aug=cmo aug.paste.first=0",
    "aug=concutmix",
    "aug=mixup reg=car_held",
    "aug=mixup reg=car_offsets",
    "loss=bcl aug=[autoaugment,concutmix]",
    "loss=ldam_drw aug=mixup reg=none",
    "loss=ride aug=mixup reg=none",
]
"""CAR, or a loss that treats each label by itself, asks for the places of the labels, once per step."""

PROGRESS = (0.5, 0.9)
"""Shares of the training that are done: before and after what sets in late."""


class Host(TorchDispatchMode):
    """What the host has in place of numbers: 1/2 or 1 for what it draws and uses as a number. It counts how often it
    waits: for a copy of its own tensors or of those on the GPU, and for the places of values that are not 0, of which
    it is given two in each row."""

    def __init__(self):
        super().__init__()
        self.waits = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function is torch.ops.aten._local_scalar_dense.default and args[0].device.type == "cpu":
            return 0.5 if args[0].is_floating_point() else 1
        if function is torch.ops.aten._to_copy.default and not kwargs.get("non_blocking"):
            source = args[0].device
            self.waits += torch.device(kwargs.get("device") or source).type != source.type
        if function is torch.ops.aten.nonzero.default and args[0].device.type == "cuda":
            self.waits += 1
            return torch.empty(2 * len(args[0]), args[0].ndim, dtype=torch.int64, device="cuda")
        return function(*args, **(kwargs or {}))


def pretended(value: Any) -> Any:
    """A tensor like ``value`` on a pretended GPU; also each of a batch."""
    if isinstance(value, tuple):
        return tuple(map(pretended, value))
    return torch.empty(value.shape, dtype=value.dtype, device="cuda") if isinstance(value, torch.Tensor) else value


def move(module: nn.Module) -> None:
    """As ``module.cuda()``."""
    for part in module.modules():
        for name, weight in part._parameters.items():
            if weight is not None:
                part._parameters[name] = nn.Parameter(pretended(weight.detach()), weight.requires_grad)
        for name, buffer in part._buffers.items():
            part._buffers[name] = pretended(buffer)
        if isinstance(part, Metric):
            for name in part._defaults:
                setattr(part, name, pretended(getattr(part, name)))


def waits_of_a_step(words: list[str], monkeypatch: pytest.MonkeyPatch) -> float:
    """How often the host waits, a mean over steps; each of them also evaluates its images."""
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    config, *_ = compose_run([*words, "trainer.accelerator=cpu"])
    data = build.build_data(config)
    module = build.build_module(config, data, build.initial_weights(config) if config.get("stage") else None)
    monkeypatch.setattr(module, "log", lambda *_, **__: None)
    data.setup("fit")
    batches = list(data.train_dataloader())[: 4 if module.paste else 2]  # with and without a foreground
    module.train()
    with FakeTensorMode(allow_non_fake_inputs=True), Host() as host:
        move(module)
        for progress, batch in product(PROGRESS, batches):
            for part in (module.loss, module.reg, module.mix, module.paste, module.relabel):
                if isinstance(part, FollowsProgress):
                    part.set_progress(progress)
            loss = module.training_step(Batch(*pretended(tuple(batch))), 0)["loss"]
            assert loss.device.type == "cuda"
            assert loss.shape == ()
            assert loss.requires_grad
            if module.average is not None:
                module.average.update_parameters(module.model)
            with torch.no_grad():
                module.validation_step(pretended((batch.images, batch.labels)), 0)
    return host.waits / (len(PROGRESS) * len(batches))


@pytest.mark.parametrize("method", METHODS)
def test_a_step_stays_on_the_gpu(method: str, pretended_gpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert waits_of_a_step(method.split(), monkeypatch) == 0


@pytest.mark.parametrize("method", MIXED)
def test_car_with_soft_labels_waits_once(method: str, pretended_gpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert 0 < waits_of_a_step(method.split(), monkeypatch) <= 1


@pytest.mark.parametrize("stage", options("stage"))
def test_a_step_of_a_stage_stays_there(
    stage: str, finished: Path, pretended_gpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert waits_of_a_step([f"stage={stage}", f"init_run={finished}"], monkeypatch) == 0


@pytest.mark.parametrize(
    ("forward", "error"),
    [
        (lambda _, logits, targets: (logits * torch.ones(10)).sum(), r"on the same device"),
        (lambda _, logits, targets: logits.sum() / float(targets.sum()), r"_local_scalar_dense"),
    ],
)
def test_a_tensor_elsewhere_or_a_number_is_an_error(
    forward: Any, error: str, pretended_gpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("carlt.losses.CrossEntropy.forward", forward)
    with pytest.raises(Exception, match=error):
        waits_of_a_step(["loss=ce", "reg=none"], monkeypatch)
