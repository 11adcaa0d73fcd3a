"""The metrics of trained networks: of a finished fit, of a checkpoint, or with an adjusted classifier."""

import math
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

import lightning as L
import torch
from omegaconf import DictConfig, OmegaConf

from carlt.config.overrides import apply_values
from carlt.config.stored import load_config, without_initial_weights
from carlt.data import LongTailDataModule
from carlt.errors import CarltError
from carlt.evaluation import posthoc
from carlt.functional import ClassOffsets
from carlt.functional.accuracy import class_accuracy, worst_first
from carlt.functional.bound import MARGIN, class_bound, row_weight
from carlt.metrics import Evaluation
from carlt.ranges import Strength, value_problem
from carlt.runs import paths, record
from carlt.runs.reading import finished_run
from carlt.runs.text import printable
from carlt.training import build
from carlt.training.callbacks import read_checkpoint
from carlt.training.module import LongTailClassifier


def evaluate_splits(
    trainer: L.Trainer, module: LongTailClassifier, data: LongTailDataModule, names: tuple[str, ...]
) -> dict[str, Evaluation]:
    """One pass in eval mode over each named split (``test``, ``val``, ``train``) that the data has."""
    splits = data.splits.named()
    data.trainer = trainer
    found = {}
    for name in names:
        if name in splits:
            trainer.test(module, data.evaluation_loader(splits[name]), verbose=False)
            assert module.evaluation is not None
            found[name] = module.evaluation
    return found


def summaries(evaluations: dict[str, Evaluation], module: LongTailClassifier) -> dict[str, float]:
    """``test/accuracy``, ``train/worst_class``, ``train/spectral_norm`` and so on, of all evaluated splits."""
    counts = module.class_counts.cpu()
    return {
        f"{split}/{name}": value
        for split, evaluation in evaluations.items()
        for name, value in (evaluation.summary(counts) | evaluation.margin_summary(counts)).items()
    }


def bound(metrics: Mapping[str, float], worst: Mapping[str, Any], data: LongTailDataModule) -> dict[str, Any]:
    """The terms of the paper's bound for the test split's worst class (``carlt.functional.bound``)."""
    weight = float(row_weight(data.class_counts)[worst["class_id"]])
    norms = metrics["train/spectral_norm"], metrics["train/weighted_worst_error"]
    return {"margin": MARGIN, **class_bound(*norms, weight, 1 - worst["test_accuracy"])}


def evaluate(
    run_dir: Path, which: str = "last", overrides: Sequence[str] = (), *, trust: bool = False
) -> dict[str, Any]:
    """The test metrics of a checkpoint of ``run_dir``, and their origin; ``overrides`` change values of ``data``."""
    config = load_config(run_dir, trust=trust)
    chosen_on_test = _chosen_on_test(which, config)
    apply_values(config, overrides)
    module, data, path, epoch = load(run_dir, config, which)

    if recorded := _recorded_classes(run_dir):  # the groups are by the images that the network was trained on
        module.class_counts = torch.tensor([each.train_count for each in recorded])
    trainer = build.evaluate_trainer(_on_one_device(config), run_dir)
    metrics = summaries(evaluate_splits(trainer, module, data, ("test",)), module)
    images = record.read_result(run_dir).get("data", {}).get("sha256") if (run_dir / paths.RESULT).is_file() else None
    return {
        "checkpoint": str(path),
        "epoch": epoch,
        "chosen_on_test": chosen_on_test,
        "same_images": images in (None, data.checksum()),
        "metrics": metrics,
    }


class AdjustedRun(NamedTuple):
    """What :func:`evaluate_posthoc` found."""

    result: dict[str, Any]
    """As in ``result.json``."""
    folder: Path | None
    """Of the record, if there is one."""
    before: dict[str, Any] | None
    """The metrics that the run recorded of the same checkpoint without the method, if it did."""


def evaluate_posthoc(
    run_dir: Path,
    method: str,
    tau: float | None = None,
    which: str = "last",
    overrides: Sequence[str] = (),
    *,
    trust: bool = False,
) -> AdjustedRun:
    """The result of a run under a post-hoc method (``carlt.evaluation.posthoc``).

    Only the last epoch's is recorded. ``overrides`` change values of ``data``, but neither training nor test images.
    """
    if method not in posthoc.METHODS:
        raise CarltError(f"posthoc={method}: choose from {', '.join(posthoc.METHODS)}, none")
    if tau is not None and (problem := value_problem("tau", tau, Strength)):
        raise CarltError(problem)
    config = load_config(run_dir, trust=trust)
    result = finished_run(run_dir).result
    with_values = config.copy()
    apply_values(with_values, overrides)
    module, data, path, epoch = load(run_dir, with_values, which)
    if data.checksum() != result["data"].get("sha256"):
        raise CarltError(
            f"{run_dir} was trained or tested on other images than {' '.join(overrides) or 'these'}; put its own "
            "images back, or leave out what changes them"
        )
    trainer = build.evaluate_trainer(_on_one_device(with_values), run_dir)
    outcome = posthoc.adjusted(trainer, module, data, posthoc.METHODS[method](module), tau)
    before = {"last": result["metrics"], "best": (result.get("best") or {}).get("metrics")}.get(which)
    result |= {
        "metrics": summaries(outcome.evaluations, module),
        "best": None,
        "worst_class": worst_class(outcome.evaluations, data),
        "bound": None,  # an adjusted classifier is not evaluated on the training split
        "calibration": {name: evaluation.calibration() for name, evaluation in outcome.evaluations.items()},
        "epochs": epoch + 1,
        "posthoc": {
            "method": method,
            "checkpoint": str(path),
            "tau": outcome.tau,
            "chosen_on": "validation" if outcome.curve else None,
            "chosen_on_test": _chosen_on_test(which, config),
            "curve": outcome.curve,
            "offsets": _plain(outcome.offsets),
            "overrides": list(overrides),
        },
    }
    if which != "last":
        return AdjustedRun(result, None, before)
    folder = run_dir / "posthoc" / (method if tau is None else f"{method}_{tau:g}")
    # Which tau a seed chose is a result; that it was chosen is the configuration.
    config.posthoc = {"method": method, "tau": "chosen on validation" if outcome.curve else outcome.tau}
    if outcome.offsets is not None:
        config.posthoc.class_margin = outcome.offsets.class_margin
    config.choices = {**(config.get("choices") or {}), "posthoc": method}
    (folder / paths.RESULT).unlink(missing_ok=True)  # an interrupted record is none, not a mixture with an earlier one
    paths.write_text_atomic(folder / paths.CONFIG, OmegaConf.to_yaml(config))
    paths.write_text_atomic(folder / paths.METRICS, paths.read_text(run_dir / paths.METRICS))  # the same training
    write_confusions(folder, outcome.evaluations, data)
    record.write_result(folder, result)
    return AdjustedRun(result, folder, before)


def _chosen_on_test(which: str, config: DictConfig) -> bool:
    """Whether the training, which ``config`` is of without later overrides, chose this epoch on the test split."""
    return which == "best" and config.data.get("validation") == "test"


def _on_one_device(config: DictConfig) -> DictConfig:
    """``config`` for an evaluation: one process, which prints once, on what there is if the run's GPU is not here."""
    config = config.copy()
    OmegaConf.update(config, "trainer.devices", 1)
    OmegaConf.update(config, "trainer.num_nodes", 1)
    config.trainer.pop("strategy", None)
    if config.trainer.get("accelerator") in (None, "auto", "gpu", "cuda") and not torch.cuda.is_available():
        config.trainer.accelerator = "cpu"
    return config


def _plain(offsets: ClassOffsets | None) -> dict[str, Any] | None:
    return None if offsets is None else offsets._asdict() | {"offset": offsets.offset.tolist()}


def worst_class(evaluations: Mapping[str, Evaluation], data: LongTailDataModule) -> dict[str, Any]:
    """The test split's worst class by name, the rarest one where several are equally bad."""
    accuracy = {name: class_accuracy(e.correct, e.total) for name, e in evaluations.items()}
    test, counts = accuracy["test"], data.class_counts
    label = worst_first(test, counts)[0]
    return {
        "class_id": label,
        "name": data.class_names[label],
        "train_count": int(counts[label]),
        "test_accuracy": float(test[label]),
        "train_accuracy": float(accuracy["train"][label]) if "train" in accuracy else math.nan,
    }


def write_confusions(folder: Path, evaluations: Mapping[str, Evaluation], data: LongTailDataModule) -> None:
    """``per_class.csv`` and ``confusion.npz`` of the test split, ``margin_confusion.npz`` of test and training."""
    test = evaluations["test"]
    record.write_per_class(
        folder, data.class_names, data.class_counts.tolist(), test.total.tolist(), test.correct.tolist()
    )
    record.write_confusion(
        folder, test.true.numpy(), test.predicted.numpy(), test.count.numpy(), num_classes=data.num_classes
    )
    record.write_margin_confusions(
        folder,
        {
            split: (e.margin_true.numpy(), e.margin_rival.numpy(), e.margin_count.numpy())
            for split, e in evaluations.items()
        },
        num_classes=data.num_classes,
    )


def _recorded_classes(run_dir: Path) -> list[record.ClassResult]:
    """The classes of a finished run; empty for one that is not finished."""
    try:
        return record.read_per_class(run_dir)
    except FileNotFoundError:
        return []
    except Exception as error:  # whatever a damaged file raises
        raise CarltError(f"{run_dir / paths.PER_CLASS} is damaged ({str(error)[:200]!r})") from None


def _check_classes(run_dir: Path, data: LongTailDataModule) -> None:
    """CarltError unless ``data`` has the classes that the network of ``run_dir`` was trained on, in their order."""
    trained = [each.class_name for each in _recorded_classes(run_dir)]
    given = [printable(name) for name in data.class_names]
    if not trained or trained == given:
        return
    pairs = enumerate(zip_longest(trained, given, fillvalue="missing"))
    differing = [(label, pair) for label, pair in pairs if pair[0] != pair[1]]
    (label, (there, here)), *rest = differing
    raise CarltError(
        f"the network of {run_dir} was trained on other classes than {data.name} has here: class {label} is "
        f"{there} in the run and {here} here ({len(rest)} more differ). For other test images of the same classes give "
        "data.test_root=<folder> with one folder per class, beside data.root with all classes"
    )


def load(run_dir: Path, config: DictConfig, which: str) -> tuple[LongTailClassifier, LongTailDataModule, Path, int]:
    """The network of a checkpoint, its data, the checkpoint's path and its epoch."""
    build.quiet_libraries()
    path = paths.chosen_checkpoint(run_dir, which)
    checkpoint = read_checkpoint(path)
    data = build.build_data(config)
    _check_classes(run_dir, data)
    module = build.build_module(without_initial_weights(config), data)
    build.load_weights(module, checkpoint, path, run_dir)
    module.drop_last_weights()
    return module, data, path, checkpoint["epoch"]
