"""Classifiers changed after training: tau-normalisation, logit adjustment and CAR's class offsets, with tau chosen on
the validation split."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from carlt.data import LongTailDataModule
from carlt.data.batch import Pair
from carlt.data.images import Split
from carlt.errors import CarltError
from carlt.functional import ClassOffsets, class_offsets, tau_normalized, without_prior
from carlt.metrics import ConfusionCounts, Evaluation
from carlt.models.classifier import CosineClassifier, extract_features, get_classifier
from carlt.training.module import LongTailClassifier

GRID = tuple(step / 10 for step in range(21))


@dataclass(frozen=True)
class Method:
    """The features that are computed once per image, and the logits for a tau.

    ``find_offsets``, if there is one, finds class offsets from the features and labels of the training split, and tau
    times them is added to the logits. tau is then 1 where there are no validation images to choose it on.
    """

    outputs: Callable[[Tensor], Tensor]
    logits: Callable[[Tensor, float], Tensor]
    find_offsets: Callable[[Tensor, Tensor], ClassOffsets] | None = None


@dataclass(frozen=True)
class Outcome:
    """The strength ``tau``, the evaluations with it, the validation metrics of each tau tried (none if given), and the
    class offsets of a method that finds some."""

    tau: float
    evaluations: dict[str, Evaluation]
    curve: list[dict[str, float]]
    offsets: ClassOffsets | None = None


def tau_norm(module: LongTailClassifier) -> Method:
    """w_c / ||w_c||^tau without a bias (Kang et al., ICLR 2020, section 4); CarltError if it can do nothing.

    tau = 0 is the trained classifier as it is, with its bias.
    """
    head = get_classifier(module.evaluated)
    if isinstance(head, CosineClassifier):
        raise CarltError(
            "posthoc=tau_norm has no effect here: a cosine classifier normalises its weights; choose posthoc=car or "
            "posthoc=logit_adjusted"
        )
    if not isinstance(head, nn.Linear):
        raise CarltError(
            f"posthoc=tau_norm needs a linear classifier, not {type(head).__name__}; choose posthoc=car or "
            "posthoc=logit_adjusted"
        )
    weight = head.weight.detach().float().cpu()
    bias = None if head.bias is None else head.bias.detach().float().cpu()
    return Method(
        lambda images: extract_features(module.evaluated, images),
        lambda outputs, tau: F.linear(outputs, tau_normalized(weight, tau), None if tau else bias),
    )


def logit_adjusted(module: LongTailClassifier) -> Method:
    """z - tau log pi (Menon et al., ICLR 2021, eq. 9)."""
    return Method(module.evaluated, lambda outputs, tau: without_prior(outputs, module.class_counts.cpu(), tau))


def car(module: LongTailClassifier) -> Method:
    """z + b, b balances the confusion of the training split (``carlt.functional.class_offsets``)."""
    counts = module.class_counts.cpu()
    return Method(
        module.evaluated, lambda outputs, tau: outputs, lambda logits, labels: class_offsets(logits, labels, counts)
    )


METHODS: dict[str, Callable[[LongTailClassifier], Method]] = {
    "car": car,
    "logit_adjusted": logit_adjusted,
    "tau_norm": tau_norm,
}
PAPERS = {
    "car": "CAR over class offsets after training (ours, after arXiv 2603.16732)",
    "tau_norm": "tau-normalisation, post hoc (Kang et al., ICLR 2020)",
    "logit_adjusted": "Logit adjustment, post hoc (Menon et al., ICLR 2021)",
}


def adjusted(
    trainer: L.Trainer,
    module: LongTailClassifier,
    data: LongTailDataModule,
    method: Method,
    tau: float | None = None,
    grid: Sequence[float] = GRID,
) -> Outcome:
    """Evaluate the test split with ``tau``, or with the one of ``grid`` that has the best balanced accuracy on the
    validation split, the smallest of equals. The test split is evaluated once, after tau is chosen.

    Raises:
        CarltError: tau has to be chosen, and there is no validation split, for a method without offsets.
    """
    counts = module.class_counts.cpu()
    val = data.splits.val if data.validation == "split" else None
    found = method.find_offsets and method.find_offsets(*_outputs(trainer, module, data, method, data.splits.train))
    if found is not None:
        offset = found.offset
        tau = 1.0 if tau is None and val is None else tau
        method = replace(method, logits=lambda outputs, tau: outputs + tau * offset)
    if tau is None and val is None:
        where = "validates on its test split" if data.validation == "test" else "has no validation split"
        raise CarltError(
            f"tau is chosen on validation images, and this run {where} (data.validation={data.validation}): "
            "add data.validation=split data.val_per_class=<images> if the data set has some left, or tau=<number>"
        )
    evaluations, curve = {}, []
    if val is not None:
        outputs, labels = _outputs(trainer, module, data, method, val)
        if tau is None:
            tried = [(each, _evaluate(method.logits(outputs, each), labels, len(counts))) for each in grid]
            curve = [{"tau": each, **evaluation.summary(counts)} for each, evaluation in tried]
            tau = max(curve, key=lambda row: row["balanced_accuracy"])["tau"]
        assert tau is not None
        evaluations["val"] = _evaluate(method.logits(outputs, tau), labels, len(counts))
    assert tau is not None
    outputs, labels = _outputs(trainer, module, data, method, data.splits.test)
    evaluations["test"] = _evaluate(method.logits(outputs, tau), labels, len(counts))
    return Outcome(tau, evaluations, curve, found)


def _evaluate(logits: Tensor, labels: Tensor, num_classes: int) -> Evaluation:
    confusion = ConfusionCounts(num_classes)
    confusion.update(logits, labels)
    return confusion.evaluation()


def _outputs(
    trainer: L.Trainer, module: LongTailClassifier, data: LongTailDataModule, method: Method, split: Split
) -> tuple[Tensor, Tensor]:
    """The features of every image of a split, and the labels, on the CPU."""
    data.trainer = trainer
    batches: Any = trainer.predict(_OutputCollector(module, method), data.evaluation_loader(split))
    outputs, labels = zip(*batches, strict=True)
    return torch.cat(outputs), torch.cat(labels)


class _OutputCollector(L.LightningModule):
    def __init__(self, module: LongTailClassifier, method: Method):
        super().__init__()
        self.module, self.method = module, method

    def predict_step(self, batch: Pair, batch_idx: int) -> tuple[Tensor, Tensor]:
        images, labels = batch
        return self.method.outputs(self.module.normalise(images)).float().cpu(), labels.cpu()
