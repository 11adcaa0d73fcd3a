"""The table that is printed at the end of a run."""

import shlex
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from carlt.runs.text import format_duration, printable

GROUPS = ("accuracy", "many", "medium", "few", "worst_class", "worst_10pct")
HEADINGS = ("overall", "many", "medium", "few", "worst class", "worst 10 %")


def print_result(result: dict[str, Any], run_dir: Path, console: Console | None = None) -> None:
    """Overall, many / medium / few and worst-class accuracy of each split in %, and the run folder."""
    console = console or Console()
    metrics = result["metrics"]
    table = Table(box=box.SIMPLE_HEAD, title=_title(result), title_justify="left")
    table.add_column("accuracy (%)")
    for heading in HEADINGS:
        table.add_column(heading, justify="right")
    for split in ("test", "val", "train"):
        if f"{split}/accuracy" in metrics:
            table.add_row(split, *(percent(metrics[f"{split}/{name}"]) for name in GROUPS))
    console.print(table)
    worst = result["worst_class"]
    console.print(
        f"Worst test class: {printable(worst['name'])} ({worst['train_count']} training images), "
        f"{percent(worst['test_accuracy'])} % on test, {percent(worst['train_accuracy'])} % on train. "
        f"Classes never right: {metrics['test/classes_at_zero']:.0f} of {result['num_classes']}.",
        highlight=False,
        markup=False,
    )
    if best := result.get("best"):
        console.print(
            f"Best epoch ({best['epoch'] + 1}, by {best['chosen_by']}): "
            f"test {percent(best['metrics']['test/accuracy'])} %, "
            f"worst class {percent(best['metrics']['test/worst_class'])} %.",
            highlight=False,
            markup=False,
        )
    if seconds := (result.get("timings") or {}).get("fit_s"):
        console.print(f"Training took {format_duration(seconds)}.", highlight=False, markup=False)
    # markup=False: folders may have [brackets] in their names.
    console.print(printable(f"Run folder: {run_dir}"), highlight=False, markup=False, soft_wrap=True)
    command = f"Next: python -m carlt.report {shlex.quote(str(run_dir))}"
    console.print(printable(command), highlight=False, markup=False, soft_wrap=True)


def percent(value: float | None) -> str:
    """An accuracy in [0, 1] as a percentage with one digit; a dash for None and NaN."""
    return "-" if value is None or value != value else f"{100 * value:.1f}"


def _title(result: dict[str, Any]) -> str:
    return f"{result['data']['name']}, last epoch ({result['epochs']}), seed {result['seed']}"
