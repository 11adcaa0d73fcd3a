"""What every loss promises, whatever its formula: without class weights and with them."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from carlt.errors import CarltError
from carlt.losses.base import Augmentation, Loss, NetworkLoss
from carlt.losses.step import StepInput
from carlt.models import SmallCNN
from carlt.models.classifier import feature_dim
from carlt.testing.part import COUNTS, C, Check, N, Part, gradient, labels, logits, one_hot_labels, require, run, same


def check_loss(loss: Any, /, *, beside: nn.Module | None = None, **options: Any) -> None:
    """Check a loss: a subclass of ``Loss`` or ``NetworkLoss``, or any module with ``forward(logits, targets)``.

    Args:
        loss: the class.
        beside: a network for images (N, 1, 8, 8) of 3 classes, where the loss needs one of a kind, e.g. with experts.
        options: values for its constructor; ``class_counts`` and the like are filled in.

    Raises:
        AssertionError: names the first promise that it breaks.
    """
    part = Part(loss, options)
    if not part.is_a(NetworkLoss):
        run(CHECKS, part)
    run([trains_a_network], part, beside)
    if part.is_a(Loss) and is_reweightable(part):
        run([*CHECKS, weights_are_those_of_the_labels], part.having(effective_number_beta=0.9))


def build(part: Part, counts: Sequence[int] = COUNTS) -> Any:
    """The loss for classes of these numbers of training images."""
    return part.build(class_counts=torch.tensor(counts), num_classes=len(counts))


def is_reweightable(part: Part) -> bool:
    """Whether it has class weights that can be chosen."""
    return part.takes("effective_number_beta") and "effective_number_beta" not in part.options


def takes_soft_labels(part: Part) -> bool:
    """Whether it does not refuse mixed images."""
    try:
        getattr(part.kind, "check_augmentation", lambda _: None)(Augmentation(mixes=True))
    except CarltError:
        return False
    return True


def gradient_is_right_and_not_zero(part: Part) -> None:
    """The gradient is that of the value, and no sample's is zero."""
    module, z = build(part), logits()
    require(module(z, labels()).shape == (), "the loss of a batch is a scalar")
    if getattr(part.kind, "exact_gradient", True):
        torch.autograd.gradcheck(lambda z: module(z, labels()), z)
    require((gradient(module, z, labels()).abs().sum(1) > 1e-6).all(), "a sample's gradient is zero")


def one_hot_labels_are_labels(part: Part) -> None:
    """One-hot labels and labels give the same; a loss that cannot have soft labels has a ``check_augmentation``."""
    if takes_soft_labels(part):
        module, z, hard = build(part), logits(), one_hot_labels()
        same(module(z, hard), module(z, labels()), "the value")
        same(gradient(module, z, hard), gradient(module, z, labels()), "the gradient")


def soft_labels_mix_what_their_classes_lose(part: Part) -> None:
    """``per_sample`` is linear in soft labels."""
    if part.is_a(Loss) and takes_soft_labels(part):
        module, z, others = build(part), logits(), labels().roll(1)
        mixed = 0.3 * one_hot_labels() + 0.7 * one_hot(others, C).double()
        expected = 0.3 * module.per_sample(z, labels()) + 0.7 * module.per_sample(z, others)
        same(module.per_sample(z, mixed), expected, "the losses", rtol=1e-6, atol=0)


def weights_are_those_of_the_labels(part: Part) -> None:
    """With ``effective_number_beta`` b class c has the weight (1 - b) / (1 - b^n_c)."""
    beta = part.options["effective_number_beta"]
    divided = {"divide_by": "weights"} if part.takes("divide_by") else {}
    plain, weighted = (build(part.having(effective_number_beta=b, **divided)) for b in (0.0, beta))
    z = logits()
    alone = torch.stack([plain(z[q : q + 1], labels()[q : q + 1]) for q in range(N)])
    if not torch.allclose(alone.mean(), plain(z, labels())):
        return  # a loss of the batch: it has a term beside those of the samples
    for share in (one_hot_labels(), 0.3 * one_hot_labels() + 0.7 * one_hot_labels().roll(1, 0)):
        lost = total = 0.0
        for q in range(N):
            for c in range(C):
                weight = share[q, c].item() * (1 - beta) / (1 - beta ** COUNTS[c])
                lost += weight * plain(z[q : q + 1], torch.tensor([c])).item()
                total += weight
        is_hard = bool((share.max(1).values == 1).all())
        found = weighted(z, labels() if is_hard else share)
        same(found.item(), lost / total, "the weighted mean", rtol=1e-6, atol=0)


def weights_set_in_when_told(part: Part) -> None:
    """With ``drw_start`` the class weights hold from that share of the training on, and not before."""
    if not (part.is_a(Loss) and part.takes("drw_start")):
        return
    part = part.having(effective_number_beta=0.99) if part.takes("effective_number_beta") else part
    plain, always, deferred = (build(part.having(drw_start=start)) for start in (1.0, 0.0, 0.8))
    z, y = logits(), labels()
    for progress in (None, 0.0, 159 / 200, 160 / 200, 199 / 200, 0.1):
        if progress is not None:
            deferred.set_progress(progress)
        holds = progress is not None and progress >= 0.8
        require(deferred(z, y) == (always if holds else plain)(z, y), f"drw_start=0.8 at progress {progress}")
    require(always(z, y) != plain(z, y), "the class weights change nothing")


def numbering_the_classes_otherwise_changes_nothing(part: Part) -> None:
    """Classes in another order have the same loss and gradient."""
    order = torch.tensor([2, 0, 3, 1])
    one, other = build(part), build(part, [COUNTS[c] for c in order])
    z = logits()
    renumbered, place = z.detach()[:, order].requires_grad_(), order.argsort()[labels()]
    same(other(renumbered, place), one(z, labels()), "the value")
    same(gradient(other, renumbered, place), gradient(one, z, labels())[:, order], "the gradient")


def order_of_the_batch_does_not_matter(part: Part) -> None:
    """Samples in another order have the same loss."""
    module, z, order = build(part), logits(), torch.randperm(N, generator=torch.Generator().manual_seed(1))
    same(module(z[order], labels()[order]), module(z, labels()), "the value")


def large_logits_stay_finite(part: Part) -> None:
    """Logits of 20,000 have a finite loss and gradient, in half precision too; a ``Loss`` computes in float32."""
    hard = torch.arange(N) % C
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        for targets in (hard, one_hot(hard, C) * 0.5 + 0.125)[: 2 if takes_soft_labels(part) else 1]:
            z = torch.full((N, C), 1e4).index_fill(1, torch.tensor([1]), -1e4).to(dtype).requires_grad_()
            z.data[:, 2] = 2e4
            value = build(part)(z, targets)
            require(value.isfinite(), f"the value is {value} in {dtype}")
            require(not part.is_a(Loss) or value.dtype == torch.float32, f"the value is {value.dtype}")
            require(torch.autograd.grad(value, z)[0].isfinite().all(), f"the gradient is not finite in {dtype}")


def autocast_leaves_it_in_float32(part: Part) -> None:
    """``torch.autocast`` does not change the value."""
    module, z = build(part), logits().float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = module(z, labels())
    same(value, module(z, labels()).float(), "the value")


def one_image_and_two_classes(part: Part) -> None:
    """A batch of one image, and two classes, work."""
    for counts in ([5, 3], [5, 3, 1]):
        z = torch.randn(1, len(counts), requires_grad=True)
        build(part, counts)(z, torch.tensor([1])).backward()
        require(z.grad is not None and z.grad.isfinite().all(), f"the gradient at {counts} images per class")


def a_checkpoint_needs_nothing_of_it(part: Part) -> None:
    """A ``Loss`` has no state: constants of the data are registered with ``register_constant``."""
    if part.is_a(Loss) and not list(build(part).parameters()):
        require(build(part).state_dict() == {}, f"its state has {', '.join(build(part).state_dict())}")


def a_class_without_images_is_named_or_harmless(part: Part) -> None:
    """A class without training images is a ``CarltError`` that names it, or the loss stays finite."""
    try:
        value = build(part, [3, 0, 2])(logits()[:, :3], torch.tensor([0, 2, 0, 0, 2, 2]))
    except CarltError as error:
        require("class 1: 0" in str(error), f"the message does not name the class: {error}")
    else:
        require(value.isfinite(), f"the loss is {value.item()} where class 1 has no image")


def trains_a_network(part: Part, network: nn.Module | None = None) -> None:
    """Beside a network for 3 classes every gradient is finite, and no parameter's is zero."""
    counts, network = (9, 4, 2), network or SmallCNN(3, in_channels=1, width=8)
    context: dict[str, Any] = {"feature_dim": feature_dim(network), "network": network}
    module = part.build(class_counts=torch.tensor(counts), num_classes=len(counts), **context)
    require(_step(module, network).isfinite(), "the loss is not finite")
    for name, parameter in network.named_parameters():
        found = parameter.grad
        require(found is not None and found.isfinite().all(), f"the gradient of {name} is not finite")
        require(found is not None and found.any(), f"the gradient of {name} is zero")


def _step(module: nn.Module, network: nn.Module) -> Tensor:
    """A training step on four images without an optimizer; returns the value."""
    images, targets = torch.randn(4, 1, 8, 8), torch.tensor([0, 1, 2, 0])
    if isinstance(module, NetworkLoss):
        views = module.contrast_views
        contrast, second = torch.randn(views, 4, 1, 8, 8) if views else None, (images.flip(0), targets.roll(1))
        getattr(module, "set_progress", lambda _: None)(0.5)  # some parts learn from later on
        value = module.compute_loss(network, StepInput(images, targets, targets, contrast, second=second)).loss
    else:
        module(network(images).detach(), targets)  # a part with a memory may begin without a gradient
        value = module(network(images), targets)
    value.backward()
    return value


CHECKS: tuple[Check, ...] = (
    gradient_is_right_and_not_zero,
    one_hot_labels_are_labels,
    soft_labels_mix_what_their_classes_lose,
    weights_set_in_when_told,
    numbering_the_classes_otherwise_changes_nothing,
    order_of_the_batch_does_not_matter,
    large_logits_stay_finite,
    autocast_leaves_it_in_float32,
    one_image_and_two_classes,
    a_checkpoint_needs_nothing_of_it,
    a_class_without_images_is_named_or_harmless,
)
