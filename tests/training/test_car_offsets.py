"""Class offsets of CAR on their way to the loss."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from carlt.config.overrides import compose_checked
from carlt.errors import CarltError
from carlt.losses.base import NetworkLoss
from carlt.losses.step import StepInput
from carlt.models.classifier import get_classifier
from carlt.runs import paths
from carlt.training import build, checks


def parts(*overrides: str) -> tuple[SimpleNamespace, torch.nn.Module]:
    """A network and its loss for the digits, and a batch of them."""
    config = compose_checked("train", ["reg=car_offsets", *overrides])
    data = build.build_data(config)
    module = build.build_module(config, data)
    images, labels = torch.randn(8, 1, 8, 8), torch.arange(8)
    contrast = torch.randn(2, 8, 1, 8, 8)
    return SimpleNamespace(module=module, step=StepInput(images, labels, labels, contrast)), module.loss


@pytest.mark.parametrize("loss", ["ride", "bcl"])
def test_a_loss_that_runs_the_network_takes_its_classification_logits_through_them(loss: str) -> None:
    given, criterion = parts(f"loss={loss}")
    network = given.module.model.eval()  # no dropout, and running statistics
    offset = torch.linspace(-1, 1, 10)
    plain = criterion.eval().compute_loss(network, given.step)
    moved = criterion.compute_loss(network, given.step._replace(adjust=lambda z: z - offset))
    assert torch.equal(moved.logits, plain.logits)  # those that are tested stay
    assert moved.loss != plain.loss
    head = get_classifier(network)
    bias = getattr(head, "bias", None)
    if bias is not None:  # the loss is that of a network whose bias has the offsets
        with torch.no_grad():
            bias -= offset
        torch.testing.assert_close(criterion.compute_loss(network, given.step).loss, moved.loss)


@pytest.mark.parametrize("loss", ["glmc", "paco"])
def test_a_loss_that_would_not_see_them_is_an_error(loss: str) -> None:
    given, criterion = parts(f"loss={loss}")
    assert isinstance(criterion, NetworkLoss)
    with pytest.raises(CarltError, match=r"step\.adjust"):
        checks.check_offsets(criterion, given.module.reg)


def test_a_run_moves_them_and_its_checkpoint_has_them(run, tmp_path: Path) -> None:
    run(tmp_path, "reg=car_offsets")
    state = torch.load(paths.checkpoint(tmp_path, "last"), weights_only=True)["state_dict"]
    offset = state["reg.offset"]
    assert offset.abs().max() > 0.01
    assert offset[-1] > offset[0]  # the rarest class is raised
