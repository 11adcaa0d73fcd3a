"""``python -m carlt.evaluate run=<run folder>``: its test metrics once more, or with an adjusted classifier."""

import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from carlt.errors import CarltError, exit_with

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


def main() -> None:
    """The command."""
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
        from carlt.evaluation.evaluate import evaluate, evaluate_posthoc

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
