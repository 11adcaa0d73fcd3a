"""``python -m carlt.evaluate run=<run folder>``: the test metrics of a run, or of its adjusted classifier."""

import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from carlt.commands.arguments import Parser, command, strength
from carlt.errors import CarltError
from carlt.runs.faults import memory_errors, write_errors
from carlt.runs.heartbeat import heartbeat
from carlt.runs.text import printable

if TYPE_CHECKING:
    from carlt.evaluation.evaluate import AdjustedRun

NAME = "carlt.evaluate"
POSTHOC = ("none", "tau_norm", "logit_adjusted", "car")


def parser() -> Parser:
    """The options of the command."""
    found = Parser(
        NAME,
        usage="python -m carlt.evaluate run=<run folder> [key=value ...]",
        description="Rebuild the network of a run from its folder and report its test metrics.",
        epilog="data.<key>=<value> changes a value of the data set. Without posthoc=: data.root, the place of the\n"
        "images, or, for a run of data=image_folder, data.test_root=<folder>, other test images with one folder per\n"
        "class. With posthoc=: only the place of the images and the validation split, e.g. data.val_per_class=10.",
    )
    found.add_run("config.yaml")
    found.add_key("posthoc", choices=POSTHOC, default="none", help="tau_norm: divide the weights of each class by "
                  "their length to the power tau; logit_adjusted: subtract tau log prior from the logits; car: add "
                  "class offsets that balance the confusion of the training images. For the last epoch a record is "
                  "written to <run folder>/posthoc/, which carlt.report reads")  # fmt: skip
    found.add_key("tau", "<number>", type=strength, help="strength of the post-hoc method; by default the value of 0, "
                  "0.1, ... 2 with the best balanced accuracy on the validation split. Without a validation split "
                  "posthoc=car uses 1, and the other methods need tau=")  # fmt: skip
    return found


def main() -> None:
    """The command."""
    with command(NAME), heartbeat(), memory_errors("give data.eval_batch_size=<fewer images>"):
        options = parser()
        arguments = options.parse_words(sys.argv[1:])
        for word in arguments.words:
            if not word.startswith("data."):
                options.refuse(word)
        if not arguments.run:
            raise CarltError("run=<run folder> is missing; --help shows the usage")
        folder, trust, tau = Path(arguments.run), arguments.trust, arguments.tau
        if tau is not None and arguments.posthoc == "none":
            raise CarltError(f"tau={tau:g}: only with posthoc=; add posthoc=tau_norm, logit_adjusted or car")
        from carlt.evaluation.evaluate import evaluate, evaluate_posthoc

        if arguments.posthoc != "none":
            with write_errors(folder, "the record belongs in the run folder; copy that to where you may write"):
                found = evaluate_posthoc(folder, arguments.posthoc, tau, arguments.which, arguments.words, trust=trust)
            _print_posthoc(found, arguments.which)
            return
        outcome = evaluate(folder, arguments.which, arguments.words, trust=trust)
        label = ", the best epoch chosen on the TEST split" if outcome["chosen_on_test"] else ""
        print(f"{printable(outcome['checkpoint'])} (epoch {outcome['epoch'] + 1}{label})", file=sys.stderr)
        if not outcome["same_images"]:
            print("note: these are other images than those of the run's result.json", file=sys.stderr)
        _print_metrics(outcome["metrics"])


def _print_metrics(metrics: dict[str, float]) -> None:
    """A table in % in a terminal; JSON, with fractions, where a program reads."""
    from rich.console import Console

    from carlt.reporting import table

    console = Console()
    if console.is_terminal:
        table.print_metrics(metrics, console)
        return
    print(json.dumps({name: value if math.isfinite(value) else None for name, value in metrics.items()}, indent=2))


def _print_posthoc(adjusted: "AdjustedRun", which: str) -> None:
    """The curve over tau with the chosen one marked, and the table of the result."""
    from carlt.reporting import formats, table

    result, folder, before = adjusted
    posthoc = result["posthoc"]
    names = ("balanced_accuracy", "many", "medium", "few")
    if posthoc["curve"]:
        print("validation (%)\n  tau   balanced   many   medium    few")
    for row in posthoc["curve"]:
        cells = [formats.percent(row[name]).rjust(width) for name, width in zip(names, (11, 7, 9, 7), strict=True)]
        print(f"{row['tau']:5.2f}{''.join(cells)}{'  <- chosen' if row['tau'] == posthoc['tau'] else ''}")
    how = " (chosen on the validation split)" if posthoc["chosen_on"] else ""
    print(f"{posthoc['method']}, tau = {posthoc['tau']:g}{how}, of {printable(posthoc['checkpoint'])}")
    if found := posthoc["offsets"]:
        print(f"class offsets of {min(found['offset']):+.2f} to {max(found['offset']):+.2f} logits, before tau")
        if not found["converged"]:
            print(
                f"note: the offsets leave an imbalance of {found['imbalance']:.2g} (0 is balanced, 2 the most): check "
                "them on validation images before you use them",
                file=sys.stderr,
            )
    print()
    epoch = {"last": "last epoch", "best": "best epoch"}.get(which, "epoch of that checkpoint")
    if which == "best" and posthoc["chosen_on_test"]:
        epoch = "best epoch, chosen on the TEST split"
    table.print_result(result, folder, epoch=epoch, before=before)
    if folder is None:
        print("Not recorded: carlt.report shows which=last alone.")


if __name__ == "__main__":
    main()
