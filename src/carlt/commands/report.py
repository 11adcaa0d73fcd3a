"""``python -m carlt.report <run or sweep folders...>``: finished runs as tables over seeds and one page of plots."""

import argparse
import os
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from carlt.commands.arguments import Parser, command
from carlt.errors import CarltError
from carlt.reporting import csv_files, formats, plots, table, wandb_workspace
from carlt.reporting.figures import drawings
from carlt.reporting.figures.style import choose
from carlt.reporting.groups import DataSet, Group, drop_repeats, group_by_data_set
from carlt.reporting.page import Section, page
from carlt.reporting.published import published
from carlt.reporting.summary import Table, summarize
from carlt.runs.faults import check_place, write_errors
from carlt.runs.heartbeat import heartbeat
from carlt.runs.locks import claim_folder
from carlt.runs.paths import read_text, write_text_atomic
from carlt.runs.reading import read_runs
from carlt.runs.text import counted, printable

NAME = "carlt.report"
FIGURES = (".png", ".pdf", ".svg")


def parser() -> Parser:
    """The options of the command; all other words are folders."""
    found = Parser(
        NAME,
        usage="python -m carlt.report <run or sweep folder> ... [key=value ...]\n"
        "       python -m carlt.report dashboard <entity>/<project>    (a W&B workspace; --help says more)",
        description="""Tables and one HTML page from the records of all finished runs in the folders.

Runs that differ by their seed alone form one row: mean, standard deviation, n. The first row is the baseline. The
others are compared with it, paired by seed, with the 95 % confidence interval of the difference; by default only rows
with the baseline's epochs and batch size. Each data set has its own tables. Numbers are of
the last epoch on the test split; the best epoch has a table of its own that names the split on which it was chosen.
Folders without a finished, sound run are named and left out, and of a run done twice the older one is left out. The
page is one file: it opens without a network and prints.""",
        epilog="""Examples:
  python -m carlt.train -m reg=none,car seed=0,1,2 hydra.sweep.dir=runs/car
  python -m carlt.report runs/car
  python -m carlt.report runs/car runs/other out=paper baseline=reg=none published=true""",
    )
    found.add_key("out", "<folder>", type=Path, default=Path("report"), help="where report.html, tables.md, "
                  "tables.tex, and tables.csv, seeds.csv and classes.csv go; default: report")  # fmt: skip
    found.add_key("baseline", "<label>", help="the row that others are compared with, as the table names it, or a part "
                  "of its name that no other has; default: the first of those closest to loss=ce reg=none without a "
                  "second stage. A named baseline is compared with rows of any number of epochs and any batch size"
                  )  # fmt: skip
    found.add_flag("published", "also show the numbers that others published for the data set and imbalance factor of "
                   "the runs, labelled as such")  # fmt: skip
    found.add_key("metrics", "<metric>,...", type=_names, default=formats.PAPER, help="the columns of tables.tex, of "
                  "the test split; default: " + ",".join(formats.PAPER))  # fmt: skip
    found.add_flag("differences", "whether tables.tex also has the differences to the baseline")
    found.add_key("figure", "<file.png>", type=Path, help="also draw the accuracy of each class under every "
                  "configuration, for one data set of few classes")  # fmt: skip
    return found


def main() -> None:
    """The command."""
    with command(NAME), heartbeat():
        if sys.argv[1:2] == ["dashboard"]:
            wandb_workspace.main(sys.argv[2:])
            return
        options = parser()
        arguments = options.parse_words(sys.argv[1:])
        for word in arguments.words:
            if "=" in word and not os.path.exists(word):  # folders of a sweep may have = in their names
                if os.path.isdir(folder := word.partition("=")[2]):
                    raise CarltError(f"{word}: give the folder alone, as in python -m carlt.report {folder}")
                options.refuse(word)
        if not arguments.words:
            raise CarltError("no folder given; python -m carlt.report --help shows the usage")
        check_place("out", arguments.out)
        if arguments.figure:
            check_figure(arguments.figure)
        report(arguments)


def check_figure(path: Path) -> None:
    """CarltError if ``figure=path`` cannot be a picture."""
    if path.suffix.lower() not in FIGURES:
        raise CarltError(f"figure={path}: choose a file name that ends in {', '.join(FIGURES)}")
    check_place("figure", path.parent)
    if path.is_dir():
        raise CarltError(f"figure={path} is a folder; choose another file name")


def report(arguments: argparse.Namespace) -> None:
    """Read and compare the runs, write tables and page, and print the tables."""
    folders = list(map(Path, arguments.words))
    runs, left_out = read_runs(folders)
    runs, repeats = drop_repeats(runs)
    left_out += repeats
    for folder, reason in left_out:
        print(printable(f"left out: {folder} ({reason})"), file=sys.stderr)
    data = group_by_data_set(runs)
    if arguments.figure and len(data) > 1:
        titles = "; ".join(each.title for each in data)
        raise CarltError(f"figure= draws one data set, not {len(data)}: {titles}; give the folders of one")
    baselines = _baselines(data, arguments.baseline)
    data = [each.led_by(baseline) for each, baseline in zip(data, baselines, strict=True)]
    known = [published(each) if arguments.published else () for each in data]
    found = [
        summarize(each, baseline, of_set, any_budget=arguments.baseline is not None)
        for each, baseline, of_set in zip(data, baselines, known, strict=True)
    ]
    tables = [each for tables_of in found for each in tables_of]
    if arguments.published:
        for each, of_set in zip(data, known, strict=True):
            if not of_set:
                print(f"published=true: carlt has no published numbers for {each.title}", file=sys.stderr)
    # Written before anything is printed, which nobody may read to its end.
    texts = _texts(data, tables, arguments)
    if arguments.figure:
        with write_errors(arguments.figure, "choose another figure=<file>"):
            plots.compare_classes(data[0].groups, choose(data[0].groups, baselines[0]).look, arguments.figure)
    with (
        write_errors(arguments.out, "choose another out=<folder>"),
        claim_folder(arguments.out, new=False, option="out=<folder>"),
    ):
        _check_replaceable(arguments.out, [*texts, "report.html"])
        for name, text in texts.items():
            write_text_atomic(arguments.out / name, text)
        sections = _sections(data, baselines, found)
        count = counted(len(runs), "run")
        written = f"Written on {datetime.now():%Y-%m-%d %H:%M} from {count} in {', '.join(map(str, folders))}."
        path = arguments.out / "report.html"
        write_text_atomic(path, page(sections, left_out, written))
    print("\n".join(map(table.summary, tables)) + f"\n{formats.NOTE}\n")
    if arguments.figure:
        print(f"Figure: {arguments.figure}")
    print(f"Page: {path} (beside it {', '.join(texts)})")


def _check_replaceable(out: Path, names: Sequence[str]) -> None:
    """CarltError if a file of these names in ``out`` is there, but not the table of an earlier report, which is written
    first and ends in ``formats.NOTE``."""
    there = [name for name in names if (out / name).exists()]
    try:
        table_text = read_text(out / "tables.md") if there else formats.NOTE_BEGINS
    except (OSError, UnicodeDecodeError, CarltError):
        table_text = ""
    if formats.NOTE_BEGINS not in table_text:
        raise CarltError(
            f"{out / there[0]} is of no report of carlt, and would be replaced; choose another out=<folder>"
        )


def _texts(data: Sequence[DataSet], tables: Sequence[Table], arguments: argparse.Namespace) -> dict[str, str]:
    """The tables as text by the name of their file."""
    latex = [formats.latex(each, arguments.metrics, differences=arguments.differences) for each in tables]
    return {
        "tables.md": "\n".join(map(formats.markdown, tables)) + f"\n{formats.NOTE}\n",
        "tables.tex": "\n".join(latex),
        "tables.csv": csv_files.tables_csv(tables),
        "seeds.csv": csv_files.seeds_csv(data),
        "classes.csv": csv_files.classes_csv(data),
    }


def _sections(data: Sequence[DataSet], baselines: Sequence[Group], found: Sequence[Sequence]) -> list[Section]:
    """Draw all plots, with a progress bar on a terminal."""
    from rich.console import Console
    from rich.progress import Progress

    jobs = [
        drawings(each, baseline, f"d{k}", tables[0].published)
        for k, (each, baseline, tables) in enumerate(zip(data, baselines, found, strict=True))
    ]
    sections = []
    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("plots", total=sum(map(len, jobs)))
        for each, tables_of, plots_of in zip(data, found, jobs, strict=True):
            figures, missing = [], []
            for name, draw in plots_of.items():
                progress.update(task, description=name)
                figure = draw()
                figures += [figure] if figure else []
                missing += [] if figure else [name]
                progress.advance(task)
            sections.append(Section(each, tables_of, figures, missing))
    return sections


def _baselines(data: Sequence[DataSet], wanted: str | None) -> list[Group]:
    """The baseline of each data set: the named one, or the default where only other data sets have that label."""
    found, problems = [], []
    for each in data:
        try:
            found.append(each.baseline(wanted))
        except CarltError as error:
            problems.append(error)
            found.append(each.baseline())
    if problems and len(problems) == len(data):
        raise problems[0]
    return found


def _names(value: str) -> tuple[str, ...]:
    return tuple(value.split(","))


if __name__ == "__main__":
    main()
