"""What every loss promises, whatever its formula: found by itself, plain and with class weights."""

from importlib import import_module
from pkgutil import iter_modules
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from carlt import losses
from carlt.config.targets import parameters_of
from carlt.errors import CarltError
from carlt.losses.base import Loss

COUNTS = torch.tensor([500, 40, 7, 1])
N, C = 6, len(COUNTS)
EXPORTED = [getattr(losses, name) for name in losses.__all__]
ALL = [loss for loss in EXPORTED if issubclass(loss, Loss)]  # a loss that needs more than logits has tests of its own
REWEIGHTABLE = [loss for loss in ALL if loss not in (losses.InverseFrequency, losses.GeneralizedReweight)]
KINDS = [(loss, {}) for loss in ALL] + [(loss, {"effective_number_beta": 0.9}) for loss in REWEIGHTABLE]
every_loss = pytest.mark.parametrize(("loss", "options"), KINDS)


@pytest.fixture
def logits() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return (0.2 * torch.randn(N, C, generator=generator, dtype=torch.float64)).requires_grad_()


@pytest.fixture
def labels() -> Tensor:
    return torch.tensor([0, 1, 2, 3, 3, 0])


def gradient(loss: Loss, logits: Tensor, targets: Tensor) -> Tensor:
    return torch.autograd.grad(loss(logits, targets), logits)[0]


def test_every_loss_is_exported_and_says_where_it_is_from() -> None:
    modules = [import_module(f"carlt.losses.{module.name}") for module in iter_modules(losses.__path__)]
    found = {value for module in modules for value in vars(module).values() if isinstance(value, type)}
    assert {loss for loss in found if issubclass(loss, Loss)} == {Loss, *ALL}
    for loss in ALL:
        assert "paper" in vars(loss)
        assert {"class_counts", "drw_start"} <= parameters_of(f"carlt.losses.{loss.__name__}").keys()


@every_loss
def test_gradient_is_right_and_not_zero(loss: type[Loss], options: Any, logits: Tensor, labels: Tensor) -> None:
    if loss is losses.Seesaw:
        options = {**options, "q": 0}  # its compensation is a constant to the gradient: see test_formulas
    module = loss(COUNTS, **options)
    assert torch.autograd.gradcheck(lambda z: module(z, labels), logits)
    assert (gradient(module, logits, labels).abs().sum(1) > 1e-6).all()


@every_loss
def test_one_hot_labels_are_labels(loss: type[Loss], options: Any, logits: Tensor, labels: Tensor) -> None:
    module, hard = loss(COUNTS, **options), one_hot(labels, C).double()
    torch.testing.assert_close(module(logits, hard), module(logits, labels))
    torch.testing.assert_close(gradient(module, logits, hard), gradient(module, logits, labels))


@every_loss
def test_soft_labels_mix_what_their_classes_lose(
    loss: type[Loss], options: Any, logits: Tensor, labels: Tensor
) -> None:
    module, others = loss(COUNTS, **options), labels.roll(1)
    mixed = 0.3 * one_hot(labels, C).double() + 0.7 * one_hot(others, C).double()
    expected = 0.3 * module.per_sample(logits, labels) + 0.7 * module.per_sample(logits, others)
    torch.testing.assert_close(module.per_sample(logits, mixed), expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("loss", [loss for loss in REWEIGHTABLE if loss is not losses.LADE])
def test_weights_are_those_of_the_labels(loss: type[Loss], soft: bool, logits: Tensor, labels: Tensor) -> None:
    share = one_hot(labels, C).double()
    if soft:
        share = 0.3 * share + 0.7 * share.roll(1, 0)
    plain, weighted = (loss(COUNTS, effective_number_beta=beta, divide_by="weights") for beta in (0.0, 0.9))
    lost = total = 0.0
    for q in range(N):
        for c in range(C):
            weight = share[q, c].item() * (1 - 0.9) / (1 - 0.9 ** COUNTS[c].item())
            lost += weight * plain(logits[q : q + 1], torch.tensor([c])).item()
            total += weight
    assert weighted(logits, share if soft else labels).item() == pytest.approx(lost / total, rel=1e-6)


@pytest.mark.parametrize("loss", ALL)
def test_weights_set_in_when_told(loss: type[Loss], logits: Tensor, labels: Tensor) -> None:
    more = {"effective_number_beta": 0.99} if loss in REWEIGHTABLE else {}
    plain, always, deferred = (
        loss(COUNTS, drw_start=1.0, **more), loss(COUNTS, **more), loss(COUNTS, drw_start=0.8, **more)
    )  # fmt: skip
    for progress in (None, 0.0, 159 / 200):
        if progress is not None:
            deferred.set_progress(progress)
        assert deferred(logits, labels) == plain(logits, labels)
    for epoch in (160, 199):
        deferred.set_progress(epoch / 200)
        assert deferred(logits, labels) == always(logits, labels) != plain(logits, labels)
    deferred.set_progress(0.1)
    assert deferred(logits, labels) == plain(logits, labels)


@every_loss
def test_numbering_the_classes_otherwise_changes_nothing(
    loss: type[Loss], options: Any, logits: Tensor, labels: Tensor
) -> None:
    order = torch.tensor([2, 0, 3, 1])
    one, other = loss(COUNTS, **options), loss(COUNTS[order], **options)
    renumbered, place = logits.detach()[:, order].requires_grad_(), order.argsort()[labels]
    torch.testing.assert_close(other(renumbered, place), one(logits, labels))
    torch.testing.assert_close(gradient(other, renumbered, place), gradient(one, logits, labels)[:, order])


@every_loss
def test_the_order_of_the_batch_does_not_matter(loss: type[Loss], options: Any, logits: Tensor, labels: Tensor) -> None:
    module, order = loss(COUNTS, **options), torch.randperm(N, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(module(logits[order], labels[order]), module(logits, labels))


@every_loss
def test_large_logits_stay_finite(loss: type[Loss], options: Any) -> None:
    labels = torch.arange(N) % C
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        for targets in (labels, one_hot(labels, C) * 0.5 + 0.125):
            logits = torch.full((N, C), 1e4).index_fill(1, torch.tensor([1]), -1e4).to(dtype).requires_grad_()
            logits.data[:, 2] = 2e4
            value = loss(COUNTS, **options)(logits, targets)
            assert value.isfinite(), dtype
            assert value.dtype == torch.float32
            assert torch.autograd.grad(value, logits)[0].isfinite().all(), dtype


@every_loss
def test_autocast_leaves_it_in_float32(loss: type[Loss], options: Any, logits: Tensor, labels: Tensor) -> None:
    module, single = loss(COUNTS, **options), logits.float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(module(single, labels), module(logits, labels).float())


@every_loss
def test_one_image_and_two_classes(loss: type[Loss], options: Any) -> None:
    for counts in ([5, 3], [5, 3, 1]):
        logits = torch.randn(1, len(counts), requires_grad=True)
        loss(counts, **options)(logits, torch.tensor([1])).backward()
        assert logits.grad.isfinite().all(), counts


@every_loss
def test_a_checkpoint_needs_nothing_of_it(loss: type[Loss], options: Any) -> None:
    assert loss(COUNTS, **options).state_dict() == {}


@pytest.mark.parametrize("loss", ALL)
def test_a_class_without_images_has_no_prior(loss: type[Loss]) -> None:
    if loss in (losses.CrossEntropy, losses.Focal, losses.LabelSmoothing):  # these ask for no counts unless they weigh
        loss([3, 0, 2])
        with pytest.raises(CarltError, match="class 1: 0"):
            loss([3, 0, 2], effective_number_beta=0.9)
    else:
        with pytest.raises(CarltError, match="class 1: 0"):
            loss([3, 0, 2])


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
