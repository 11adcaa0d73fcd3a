"""What every regularizer promises."""

import copy
from typing import Any

import torch

from carlt.testing.part import COUNTS, C, Check, N, Part, gradient, labels, logits, one_hot_labels, require, run, same


def check_regularizer(regularizer: Any, /, **options: Any) -> None:
    """Check a regularizer: any module with ``forward(logits, targets)`` that returns a scalar.

    Args:
        regularizer: the class.
        options: values for its constructor; ``class_counts`` and the like are filled in.

    Raises:
        AssertionError: names the first promise that it breaks.
    """
    run(CHECKS, Part(regularizer, options))


def build(part: Part, counts: Any = COUNTS) -> Any:
    """The regularizer for classes of these numbers of training images."""
    return part.build(class_counts=torch.tensor(counts), num_classes=len(counts)).double()


def penalty_is_a_finite_scalar_with_a_gradient(part: Part) -> None:
    """The penalty is a finite scalar with a finite gradient, zero only with ``has_gradient`` False or ``weight`` 0."""
    module, z = build(part), logits()
    for _ in range(2):  # released CAR has none in the first step
        value = module(z, labels())
        require(value.shape == () and value.isfinite(), f"the penalty is {value}")
        (found,) = torch.autograd.grad(value, z)
        require(found.isfinite().all(), "the gradient is not finite")
    if getattr(part.kind, "has_gradient", True) and getattr(module, "weight", 1):
        require(found.any(), "the gradient is zero")


def one_hot_labels_are_labels(part: Part) -> None:
    """One-hot labels and labels give the same: mixed images have soft labels."""
    one, other, z = build(part), build(part), logits()
    same(other(z, one_hot_labels()), one(z, labels()), "the penalty")


def numbering_the_classes_otherwise_changes_nothing(part: Part) -> None:
    """Classes in another order have the same penalty and gradient."""
    order = torch.tensor([2, 0, 3, 1])
    one, other = build(part), build(part, [COUNTS[c] for c in order])
    z = logits()
    renumbered, place = z.detach()[:, order].requires_grad_(), order.argsort()[labels()]
    same(gradient(other, renumbered, place), gradient(one, z, labels())[:, order], "the gradient")


def order_of_the_batch_does_not_matter(part: Part) -> None:
    """Samples in another order have the same penalty."""
    one, other, z, order = build(part), build(part), logits(), torch.randperm(N)
    same(other(z[order], labels()[order]), one(z, labels()), "the penalty")


def large_logits_stay_finite(part: Part) -> None:
    """Logits of 20,000 have a finite penalty and gradient, in half precision too."""
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        z = torch.full((N, C), 1e4).index_fill(1, torch.tensor([2]), 2e4).to(dtype).requires_grad_()
        value = build(part).float()(z, torch.arange(N) % C)
        require(value.isfinite(), f"the penalty is {value} in {dtype}")
        require(torch.autograd.grad(value, z)[0].isfinite().all(), f"the gradient is not finite in {dtype}")


def evaluation_leaves_its_state_alone(part: Part) -> None:
    """In evaluation mode no buffer changes."""
    module = build(part)
    module(logits(), labels())
    before = copy.deepcopy(module.state_dict())
    module.eval()
    module(logits().flip(0), labels())
    for name, value in module.state_dict().items():
        require(torch.equal(value, before[name]), f"{name} changed")


def resumed_is_uninterrupted(part: Part) -> None:
    """A regularizer that is restored from its state goes on as the one that was saved."""
    through, resumed = build(part), build(part)
    through(logits(), labels())
    resumed.load_state_dict(through.state_dict())
    z = logits().flip(0)
    if hasattr(through, "set_progress"):
        through.set_progress(0.5)
        resumed.set_progress(0.5)
    require(resumed(z, labels()) == through(z, labels()), "the next penalty differs: a value is no registered buffer")


CHECKS: tuple[Check, ...] = (
    penalty_is_a_finite_scalar_with_a_gradient,
    one_hot_labels_are_labels,
    numbering_the_classes_otherwise_changes_nothing,
    order_of_the_batch_does_not_matter,
    large_logits_stay_finite,
    evaluation_leaves_its_state_alone,
    resumed_is_uninterrupted,
)
