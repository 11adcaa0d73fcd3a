"""``python -m carlt.evaluate run=<run folder>``: its test metrics once more, or with an adjusted classifier."""

import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from carlt import paths
from carlt.errors import CarltError

if TYPE_CHECKING:
    import lightning as L

    from carlt.data import LongTailDataModule
    from carlt.metrics import Evaluation
    from carlt.module import LongTailClassifier

USAGE = """usage: python -m carlt.evaluate run=<run folder> [which=last|best|<checkpoint>]
       python -m carlt.evaluate run=<run folder> posthoc=tau_norm|logit_adjusted [tau=<number>] [data.<key>=<value>]

Rebuild a run's network from its folder and report its test metrics, which are those of its result.json.
  run      the run folder (it holds config.yaml and checkpoints/)
  which    last (default): the last epoch; best: the best validation epoch; or the path of a checkpoint
  posthoc  tau_norm: divide each class's weights by their length to the tau; logit_adjusted: take tau log prior from the
           logits; none (default). Of the last epoch it leaves a record in <run folder>/posthoc/, for carlt.report
  tau      its strength; by default that of 0, 0.1, ... 2 with the best balanced accuracy on the validation split
  data.<key>=<value>  with posthoc: another validation split or place of the images, e.g. data.val_per_class=10
"""
OPTIONS = ("run", "which", "posthoc", "tau")


def evaluate_splits(
    trainer: "L.Trainer", module: "LongTailClassifier", data: "LongTailDataModule", names: tuple[str, ...]
) -> dict[str, "Evaluation"]:
    """One pass in eval mode over each named split (``test``, ``val``, ``train``) that the data has."""
    splits = {"test": data.splits.test, "val": data.splits.val, "train": data.splits.train}
    data.trainer = trainer
    found = {}
    for name in names:
        split = splits[name]
        if split is not None:
            trainer.test(module, data.evaluation_loader(split), verbose=False)
            assert module.evaluation is not None
            found[name] = module.evaluation
    return found


def summaries(evaluations: dict[str, "Evaluation"], module: "LongTailClassifier") -> dict[str, float]:
    """``test/accuracy``, ``train/worst_class`` and so on, of all evaluated splits."""
    return {
        f"{split}/{name}": value
        for split, evaluation in evaluations.items()
        for name, value in evaluation.summary(module.class_counts.cpu()).items()
    }


def evaluate(run_dir: Path, which: str = "last") -> dict[str, Any]:
    """The test metrics of a checkpoint of ``run_dir``, and what they are of."""
    config = load_config(run_dir)
    module, data, path, epoch = load(run_dir, config, which)
    from carlt import assembly

    trainer = assembly.evaluate_trainer(config, run_dir)
    metrics = summaries(evaluate_splits(trainer, module, data, ("test",)), module)
    chosen_on_test = which == "best" and data.validation == "test"
    return {"checkpoint": str(path), "epoch": epoch, "chosen_on_test": chosen_on_test, "metrics": metrics}


def evaluate_posthoc(
    run_dir: Path, method: str, tau: float | None = None, which: str = "last", overrides: Sequence[str] = ()
) -> tuple[dict[str, Any], Path | None]:
    """The result of a run under a post-hoc method (``carlt.posthoc``), and the folder of its record.

    Only the last epoch's is recorded. ``overrides`` change values of ``data``, but neither training nor test images.
    """
    from omegaconf import OmegaConf

    from carlt import assembly, command_line, posthoc
    from carlt.reporting import record

    if method not in posthoc.METHODS:
        raise CarltError(f"posthoc={method}: choose from {', '.join(posthoc.METHODS)}, none")
    config = load_config(run_dir)
    result = record.read_result(run_dir)
    with_values = config.copy()
    command_line.apply_values(with_values, overrides)
    module, data, path, epoch = load(run_dir, with_values, which)
    if data.checksum() != result["data"]["sha256"]:
        raise CarltError(f"{run_dir} was trained or tested on other images than {' '.join(overrides) or 'these'}")
    OmegaConf.update(with_values, "trainer.devices", 1)
    OmegaConf.update(with_values, "trainer.num_nodes", 1)
    with_values.trainer.pop("strategy", None)
    trainer = assembly.evaluate_trainer(with_values, run_dir)
    outcome = posthoc.adjusted(trainer, module, data, posthoc.METHODS[method](module), tau)
    result |= {
        "metrics": summaries(outcome.evaluations, module),
        "best": None,
        "worst_class": worst_class(outcome.evaluations, data),
        "calibration": {name: evaluation.calibration() for name, evaluation in outcome.evaluations.items()},
        "epochs": epoch + 1,
        "posthoc": {
            "method": method,
            "checkpoint": str(path),
            "tau": outcome.tau,
            "chosen_on": "validation" if tau is None else None,
            "curve": outcome.curve,
            "overrides": list(overrides),
        },
    }
    if which != "last":
        return result, None
    folder = run_dir / "posthoc" / (method if tau is None else f"{method}_{tau:g}")
    # Which tau a seed chose is a result; that it was chosen is the configuration.
    config.posthoc = {"method": method, "tau": "chosen on validation" if tau is None else tau}
    config.choices = {**(config.get("choices") or {}), "posthoc": method}
    paths.replace_text(folder / paths.CONFIG, OmegaConf.to_yaml(config))
    paths.replace_text(folder / paths.METRICS, (run_dir / paths.METRICS).read_text())  # the same training
    write_test(folder, outcome.evaluations["test"], data)
    record.write_result(folder, result)
    return result, folder


def worst_class(evaluations: Mapping[str, "Evaluation"], data: "LongTailDataModule") -> dict[str, Any]:
    """The test split's worst class by name, the rarest one where several are equally bad."""
    from carlt.functional.accuracy import class_accuracy

    accuracy = {name: class_accuracy(e.correct, e.total) for name, e in evaluations.items()}
    test, counts = accuracy["test"], data.class_counts
    worst = (test == test[~test.isnan()].min()).nonzero().flatten()
    label = int(worst[counts[worst].argmin()])
    return {
        "class_id": label,
        "name": data.class_names[label],
        "train_count": int(counts[label]),
        "test_accuracy": float(test[label]),
        "train_accuracy": float(accuracy["train"][label]) if "train" in accuracy else math.nan,
    }


def write_test(folder: Path, test: "Evaluation", data: "LongTailDataModule") -> None:
    """``per_class.csv`` and ``confusion.npz`` of the test split."""
    from carlt.reporting import record

    record.write_per_class(
        folder, data.class_names, data.class_counts.tolist(), test.total.tolist(), test.correct.tolist()
    )
    record.write_confusion(
        folder, test.true.numpy(), test.predicted.numpy(), test.count.numpy(), num_classes=data.num_classes
    )


def load(run_dir: Path, config: Any, which: str) -> "tuple[LongTailClassifier, LongTailDataModule, Path, int]":
    """The network of a checkpoint, its data, the checkpoint's path and its epoch."""
    from carlt import assembly
    from carlt.callbacks import read_checkpoint

    assembly.quiet_libraries()
    path = paths.checkpoint(run_dir, which) if which in ("last", "best") else Path(which)
    checkpoint = read_checkpoint(path)
    data = assembly.build_data(config)
    module = assembly.build_module(config, data)
    try:
        module.load_state_dict(checkpoint["state_dict"])
    except (KeyError, RuntimeError) as error:
        raise CarltError(f"{path} does not fit the network of {run_dir}: {str(error).splitlines()[0]}") from None
    return module, data, path, checkpoint["epoch"]


def load_config(run_dir: Path) -> Any:
    """The resolved config a run was made with; CarltError if the folder is no run folder."""
    from omegaconf import OmegaConf

    path = run_dir / paths.CONFIG
    if not path.is_file():
        raise CarltError(f"{run_dir} is no run folder: it has no {paths.CONFIG}")
    return OmegaConf.load(path)


def main() -> None:
    """The command."""
    from carlt.command_line import exit_with

    arguments = sys.argv[1:]
    if not arguments or {"-h", "--help"} & set(arguments):
        print(USAGE)
        return
    try:
        given = dict(argument.split("=", 1) for argument in arguments if "=" in argument)
        overrides = [argument for argument in arguments if argument.startswith("data.")]
        known = {name: value for name, value in given.items() if name in OPTIONS}
        unknown = [a for a in arguments if a.split("=", 1)[0] not in OPTIONS and a not in overrides]
        if unknown or "run" not in given:
            names = ", ".join(f"{name}=" for name in OPTIONS)
            raise CarltError(f"{unknown[0]!r} is none of {names}" if unknown else "run=<run folder> is missing")
        run_dir, which, method = Path(given["run"]), given.get("which", "last"), given.get("posthoc", "none")
        if method != "none":
            return _print_posthoc(*evaluate_posthoc(run_dir, method, _tau(known), which, overrides))
        if overrides or "tau" in given:
            raise CarltError(f"{(overrides or ['tau=' + given['tau']])[0]}: only with posthoc=")
        import json

        outcome = evaluate(run_dir, which)
        label = ", the best epoch chosen on the TEST split" if outcome["chosen_on_test"] else ""
        print(f"{outcome['checkpoint']} (epoch {outcome['epoch'] + 1}{label})")
        print(json.dumps(outcome["metrics"], indent=2))
    except CarltError as error:
        exit_with("carlt.evaluate", error)


def _tau(given: Mapping[str, str]) -> float | None:
    if "tau" not in given:
        return None
    try:
        tau = float(given["tau"])
    except ValueError:
        tau = math.nan
    if not 0 <= tau < math.inf:
        raise CarltError(f"tau={given['tau']}: expected a number, at least 0")
    return tau


def _print_posthoc(result: dict[str, Any], folder: Path | None) -> None:
    """The curve over tau, the chosen one marked, and the table of the result."""
    from carlt.reporting import table

    posthoc = result["posthoc"]
    names = ("balanced_accuracy", "many", "medium", "few")
    if posthoc["curve"]:
        print("validation (%)\n  tau   balanced   many   medium    few")
    for row in posthoc["curve"]:
        cells = [table.percent(row[name]).rjust(width) for name, width in zip(names, (11, 7, 9, 7), strict=True)]
        print(f"{row['tau']:5.2f}{''.join(cells)}{'  <- chosen' if row['tau'] == posthoc['tau'] else ''}")
    how = "chosen on the validation split" if posthoc["chosen_on"] else "given"
    print(f"{posthoc['method']}, tau = {posthoc['tau']:g} ({how}), of {posthoc['checkpoint']}\n")
    table.print_result(result, folder or Path("no record: posthoc is recorded of which=last alone"))


if __name__ == "__main__":
    main()
