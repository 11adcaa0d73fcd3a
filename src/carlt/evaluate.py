"""``python -m carlt.evaluate run=<run folder> [which=last|best|<path>]``: a finished run's test metrics, once more."""

import sys
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

Rebuild a run's network from its folder and report its test metrics, which are those of its result.json.
  run    the run folder (it holds config.yaml and checkpoints/)
  which  last (default): the last epoch; best: the best validation epoch; or the path of a checkpoint
"""


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
    from carlt import assembly
    from carlt.callbacks import read_checkpoint

    assembly.quiet_libraries()
    config = load_config(run_dir)
    path = paths.checkpoint(run_dir, which) if which in ("last", "best") else Path(which)
    checkpoint = read_checkpoint(path)
    data = assembly.build_data(config)
    module = assembly.build_module(config, data)
    try:
        module.load_state_dict(checkpoint["state_dict"])
    except (KeyError, RuntimeError) as error:
        raise CarltError(f"{path} does not fit the network of {run_dir}: {str(error).splitlines()[0]}") from None
    trainer = assembly.evaluate_trainer(config, run_dir)
    metrics = summaries(evaluate_splits(trainer, module, data, ("test",)), module)
    chosen_on_test = which == "best" and data.validation == "test"
    return {"checkpoint": str(path), "epoch": checkpoint["epoch"], "chosen_on_test": chosen_on_test, "metrics": metrics}


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
        unknown = [argument for argument in arguments if argument.split("=", 1)[0] not in ("run", "which")]
        if unknown or "run" not in given:
            raise CarltError(f"{unknown[0]!r} is not run= or which=" if unknown else "run=<run folder> is missing")
        import json

        outcome = evaluate(Path(given["run"]), given.get("which", "last"))
        label = ", the best epoch chosen on the TEST split" if outcome["chosen_on_test"] else ""
        print(f"{outcome['checkpoint']} (epoch {outcome['epoch'] + 1}{label})")
        print(json.dumps(outcome["metrics"], indent=2))
    except CarltError as error:
        exit_with("carlt.evaluate", error)


if __name__ == "__main__":
    main()
