"""Tables in a terminal: of one run, and of several."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from carlt.reporting import formats
from carlt.reporting.formats import percent
from carlt.reporting.summary import COLUMNS, Column
from carlt.reporting.summary import Table as Summary
from carlt.runs.text import command_line, counted, format_duration, printable

OF_A_RUN = ("accuracy", "many", "medium", "few", "worst_class", "worst_10pct")
"""The metrics of each split in the table of one run."""
IMPORTANT = ("accuracy", "few", "worst_class", "worst_10pct", "many", "medium")
"""Columns that a narrow terminal keeps, the first ones longest."""
LABEL = 22
"""Letters of a configuration's name in a line, at least."""


def print_result(
    result: dict[str, Any],
    run_dir: Path | None,
    console: Console | None = None,
    epoch: str = "last epoch",
    before: Mapping[str, Any] | None = None,
    advise: bool = True,
) -> None:
    """Overall, many / medium / few and worst-class accuracy of each split in %, and the run folder if there is one.

    Args:
        before: the metrics of the same checkpoint without its post-hoc method.
        advise: end with the command that reports the run.
    """
    console = console or Console()
    with console:  # one block, also where several jobs print
        _print_result(result, run_dir, console, epoch, before)
        if advise and run_dir is not None:
            run = run_dir.parents[1] if "posthoc" in result else run_dir  # its report shows both
            following = f"Next: {command_line('carlt.report', str(run))}"
            console.print(printable(following), highlight=False, markup=False, soft_wrap=True)


def _print_result(
    result: dict[str, Any], run_dir: Path | None, console: Console, epoch: str, before: Mapping[str, Any] | None
) -> None:
    metrics = result["metrics"]
    table = Table(box=box.SIMPLE_HEAD, title=Text(printable(_title(result, epoch))), title_justify="left")
    table.add_column("accuracy (%)")
    headings = {column.metric: column.heading for column in COLUMNS}
    for name in OF_A_RUN:
        table.add_column(headings[f"test/{name}"], justify="right")
    if before:
        table.add_row("test, before", *(percent(before.get(f"test/{name}")) for name in OF_A_RUN))
    for split in ("test", "val", "train"):
        if f"{split}/accuracy" in metrics:
            table.add_row(split, *(percent(metrics[f"{split}/{name}"]) for name in OF_A_RUN))
    console.print(table)
    worst = result["worst_class"]
    of_train = percent(worst["train_accuracy"])
    on_train = "" if of_train == formats.NONE else f", {of_train} % on train"
    console.print(
        f"Worst test class: {printable(worst['name'])} ({counted(worst['train_count'], 'training image')}), "
        f"{percent(worst['test_accuracy'])} % on test{on_train}. "
        f"Classes never right: {metrics['test/classes_at_zero']:.0f} of {_tested(result)}.",
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
    if run_dir is None:
        return
    timings = result.get("timings") or {}
    if seconds := timings.get("fit_s"):
        more = timings.get("evaluation_s", 0)
        rest = f", its evaluation {format_duration(more)}; {format_duration(seconds + more)} in all" if more else ""
        console.print(f"Training took {format_duration(seconds)}{rest}.", highlight=False, markup=False)
    # markup=False: folders may have [brackets] in their names.
    console.print(printable(f"Run folder: {run_dir}"), highlight=False, markup=False, soft_wrap=True)


def _tested(result: Mapping[str, Any]) -> str:
    """The number of classes, and of those with test images if they are fewer (earlier versions did not note it)."""
    tested, classes = result["data"].get("tested_classes"), result["num_classes"]
    return str(classes) if tested in (None, classes) else f"{tested} with test images ({classes} in all)"


def print_metrics(metrics: Mapping[str, float], console: Console) -> None:
    """All metrics of an evaluation, shares in %."""
    known = {column.metric: column for column in COLUMNS}
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("metric")
    table.add_column("value", justify="right")
    for name, value in metrics.items():
        column = known.get(name, Column(name, name))
        text = f"{column.scale * value:.{column.digits}f}{' %' if column.scale == 100 else ''}"
        table.add_row(column.heading, text if value == value else formats.NONE)
    console.print(table)


def summary(table: Summary, console: Console | None = None) -> str:
    """A table of configurations: in a terminal as many columns as fit, the most important ones; otherwise Markdown."""
    console = console or Console()
    if not console.is_terminal:
        return formats.markdown(table)
    shown = list(table.shown())
    left_out: list[str] = []
    while _width(drawn := _drawn(table, shown), console) > console.width and len(shown) > 1:
        last = max(shown, key=lambda i: (_importance(table.columns[i].metric), i))
        shown.remove(last)
        left_out.insert(0, table.columns[last].heading)
    said = [f"The terminal is too narrow for: {', '.join(left_out)}."] * bool(left_out)
    with console.capture() as text:
        console.print(drawn)
        for sentence in [*said, *table.verdicts, *formats.notes(table)]:
            console.print(Text(printable(sentence)))
    return text.get()


def _drawn(table: Summary, shown: Sequence[int]) -> Table:
    title = Text(printable(f"{table.title}: {table.epoch}"))  # no markup: a run's own words
    drawn = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left")
    lines = list(formats.lines(table, shown))
    texts = zip(*([line.n, *(cell for cell, _ in line.cells)] for line in lines), strict=True)
    label, *headings = formats.headings(table, shown)
    drawn.add_column(label, min_width=LABEL, overflow="fold")
    for heading, column in zip(headings, texts, strict=True):
        drawn.add_column(heading, justify="right", min_width=max(map(len, [heading, *column])))
    part = "measured"
    for line in lines:
        if line.part != part:
            part = line.part
            drawn.add_section()
            if part == "difference":
                drawn.add_row(Text(f"difference to {printable(table.baseline)}", style="italic"))
        cells = [Text(cell, style="bold" if best else "") for cell, best in line.cells]
        label = line.label.removesuffix(f" minus {table.baseline}") if part == "difference" else line.label
        drawn.add_row(Text(printable(label)), line.n, *cells)
    return drawn


def _width(drawn: Table, console: Console) -> int:
    """The least width at which no number is cut."""
    return console.measure(drawn, options=console.options.update(width=1000)).minimum


def _importance(metric: str) -> int:
    name = metric.removeprefix("test/")
    return IMPORTANT.index(name) if name in IMPORTANT else len(IMPORTANT)


def _title(result: dict[str, Any], epoch: str) -> str:
    return f"{result['data'].get('name', '?')}, {epoch} ({result['epochs']}), seed {result['seed']}"
