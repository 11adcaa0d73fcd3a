"""Tables in a terminal: of one run, and of several."""

import shlex
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from carlt.reporting import formats
from carlt.reporting.summary import Table as Summary
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


def summary(table: Summary, console: Console | None = None) -> str:
    """A table of configurations: drawn for a terminal that is wide enough, otherwise Markdown."""
    console = console or Console()
    if not console.is_terminal:
        return formats.markdown(table)
    drawn = Table(box=box.SIMPLE_HEAD, title=f"{table.title}: {table.epoch}", title_justify="left")
    for k, heading in enumerate(formats.headings(table)):
        drawn.add_column(heading, justify="right" if k else "left", no_wrap=k > 0)
    part = "measured"
    for line in formats.lines(table):
        if line.part != part:
            part = line.part
            drawn.add_section()
        cells = [Text(cell, style="bold" if best else "") for cell, best in line.cells]
        drawn.add_row(Text(printable(line.label)), line.n, *cells)
    if console.measure(drawn, options=console.options.update(width=1000)).minimum > console.width:
        return formats.markdown(table)  # cut numbers would mislead
    with console.capture() as text:
        console.print(drawn)
        for sentence in [*table.verdicts, *formats.notes(table)]:
            console.print(Text(printable(sentence)))
    return text.get()


def percent(value: float | None) -> str:
    """An accuracy in [0, 1] as a percentage with one digit; a dash for None and NaN."""
    return "-" if value is None or value != value else f"{100 * value:.1f}"


def _title(result: dict[str, Any]) -> str:
    return f"{result['data']['name']}, last epoch ({result['epochs']}), seed {result['seed']}"
