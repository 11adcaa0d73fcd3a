"""What every loss promises, whatever its formula: found by itself, plain and with class weights."""

from importlib import import_module
from pkgutil import iter_modules

import pytest
import torch

from carlt import losses
from carlt.config.targets import parameters_of
from carlt.errors import CarltError
from carlt.losses.base import Loss
from carlt.testing import losses as checks
from carlt.testing.part import Check, Part

COUNTS = (500, 40, 7, 1)
EXPORTED = [getattr(losses, name) for name in losses.__all__]
ALL = [loss for loss in EXPORTED if issubclass(loss, Loss)]  # a loss that needs more than logits has tests of its own
PLAIN = [Part(loss) for loss in ALL]
PARTS = PLAIN + [part.having(effective_number_beta=0.9) for part in PLAIN if checks.is_reweightable(part)]


def test_every_loss_is_exported_and_says_where_it_is_from() -> None:
    modules = [import_module(f"carlt.losses.{module.name}") for module in iter_modules(losses.__path__)]
    found = {value for module in modules for value in vars(module).values() if isinstance(value, type)}
    assert {loss for loss in found if issubclass(loss, Loss)} == {Loss, *ALL}
    for loss in ALL:
        assert "paper" in vars(loss)
        assert {"class_counts", "drw_start"} <= parameters_of(f"carlt.losses.{loss.__name__}").keys()


@pytest.mark.parametrize("check", checks.CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("part", PARTS, ids=str)
def test_every_loss(part: Part, check: Check) -> None:
    """The checks of ``carlt.testing.check_loss``, each by itself."""
    check(part)


@pytest.mark.parametrize("part", [part for part in PARTS if part.options], ids=str)
def test_weights_are_those_of_the_labels(part: Part) -> None:
    checks.weights_are_those_of_the_labels(part)


@pytest.mark.parametrize(
    ("loss", "options"),
    [
        (losses.CrossEntropy, {"effective_number_beta": -0.1}),
        (losses.CrossEntropy, {"effective_number_beta": 1.1}),
        (losses.CrossEntropy, {"drw_start": 160}),
        (losses.Focal, {"gamma": -1.0}),
        (losses.LDAM, {"scale": 0.0}),
        (losses.LDAM, {"max_margin": -0.5}),
        (losses.LabelAwareSmoothing, {"head": 1.5}),
        (losses.LabelAwareSmoothing, {"tail": torch.nan}),
        (losses.VectorScaling, {"gamma": -0.1}),
        (losses.LADE, {"alpha": -1.0}),
        (losses.LADE, {"penalty": torch.inf}),
        (losses.Seesaw, {"p": -0.8}),
        (losses.Seesaw, {"q": torch.nan}),
        (losses.Seesaw, {"eps": -0.01}),
        (losses.LADE, {"ratio": "image"}),
        (losses.ClassBalanced, {"divide_by": "images"}),
        (losses.ClassBalancedFocal, {"gamma": -1.0}),
    ],
)
def test_impossible_options_are_named(loss: type[Loss], options: dict[str, float]) -> None:
    (name,) = options
    with pytest.raises(CarltError, match=f"^{name}="):
        loss(COUNTS, **options)


@pytest.mark.parametrize("loss", [*ALL, losses.GMLNOLB])
def test_a_batch_of_another_shape_or_type_is_named(loss: type[Loss]) -> None:
    made, logits, labels = loss(COUNTS), torch.randn(4, 4), torch.tensor([0, 1, 2, 3])
    with pytest.raises(CarltError, match=r"targets: expected whole numbers .*, got torch\.float32 \(4,\)"):
        made(logits, labels.float())
    with pytest.raises(CarltError, match=r"logits: expected floating \(N, 4\), got torch\.float32 \(4, 1\)"):
        made(logits[:, :1], labels)
    assert torch.equal(made(logits, labels.to(torch.uint8)), made(logits, labels))
