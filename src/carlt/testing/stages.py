"""What every second stage promises."""

from typing import Any

import torch
from torch import Tensor, nn

from carlt.models import SmallCNN
from carlt.reg import CAR
from carlt.testing.part import Check, Part, require, run

COUNTS = (50, 20, 6, 2)
C = len(COUNTS)
LABELS = torch.tensor([0, 1, 2, 3, 0, 1, 2, 0])


def check_stage(stage: Any, /, **options: Any) -> None:
    """Check a second stage: a subclass of ``carlt.stages.Stage``.

    Args:
        stage: the class.
        options: values for its constructor.

    Raises:
        AssertionError: names the first promise that it breaks.
    """
    run(CHECKS, Part(stage, options))


def images() -> Tensor:
    """(8, 3, 32, 32)."""
    return torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def retrained(part: Part, **options: Any) -> Any:
    """The network that the stage trains."""
    return part.having(**options).build().build_network(SmallCNN(C, width=4))


def the_classifier_trains_and_nothing_else_moves(part: Part) -> None:
    """Every trainable parameter is the classifier's and moves; of the features nothing but running statistics does."""
    for statistics in (True, False) if part.takes("updates_statistics") else (None,):
        network = retrained(part, **({} if statistics is None else {"updates_statistics": statistics}))
        trained = {name for name, value in network.named_parameters() if value.requires_grad}
        require(trained, "nothing is trained")
        wrong = [name for name in trained if not name.startswith("classifier.")]
        require(not wrong, f"{', '.join(wrong)} of the features is trained")
        before = {name: value.clone() for name, value in network.state_dict().items()}
        moved = step(network)
        allowed = {name for name in before if name.rpartition(".")[2].startswith(("running_", "num_batches"))}
        require(trained <= moved, f"{', '.join(sorted(trained - moved))} does not move")
        unwanted = moved - trained - (set() if statistics is False else allowed)
        require(not unwanted, f"{', '.join(sorted(unwanted))} moves")


def step(network: Any) -> set[str]:
    """Three optimizer steps with CAR; returns the names of what has changed."""
    before = {name: value.clone() for name, value in network.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=0.1, weight_decay=0.1)
    car = CAR(COUNTS)
    for _ in range(3):
        network.eval()
        network.train()  # as a validation pass leaves it
        logits = network(images())
        optimizer.zero_grad()
        (nn.functional.cross_entropy(logits, LABELS) + car(logits, LABELS)).backward()
        optimizer.step()
        network.after_step(last_of_epoch=True)
    after = network.state_dict()
    return {name for name in before if not torch.equal(before[name], after[name])}


def the_features_keep_no_graph(part: Part) -> None:
    """Features are computed without a graph, and in evaluation mode everything is."""
    network = retrained(part)
    require(network.features(images()).grad_fn is None, "the features have a gradient")
    require(not any(module.training for module in network.eval().modules()), "a module stays in training mode")


def the_logits_are_of_all_classes(part: Part) -> None:
    """The logits are (N, C) and finite, and their regularizer reaches the classifier."""
    network = retrained(part)
    logits = network(images())
    require(logits.shape == (8, C) and logits.isfinite().all(), f"the logits are {tuple(logits.shape)}")
    CAR(COUNTS)(logits, LABELS).backward()
    require(any(p.grad is not None and p.grad.any() for p in network.classifier.parameters()), "CAR has no gradient")
    require(all(p.grad is None for p in network.backbone.parameters()), "the features have a gradient")


CHECKS: tuple[Check, ...] = (
    the_classifier_trains_and_nothing_else_moves,
    the_features_keep_no_graph,
    the_logits_are_of_all_classes,
)
