"""``python -m carlt.report <run or sweep folders...>``: finished runs as one Markdown table, over seeds."""

import sys
from pathlib import Path

from carlt.command_line import exit_with
from carlt.errors import CarltError
from carlt.reporting import plots, summary

USAGE = """usage: python -m carlt.report <run or sweep folder> ... [figure=<file.png>]

Print a Markdown table of all finished runs in the folders: runs that differ by their seed alone make one row (mean and
standard deviation in %), and each later row is compared with the first, paired by seed (mean difference and its 95 %
confidence interval). figure= draws the accuracy of each class under every configuration.
"""


def main() -> None:
    """The command."""
    arguments = sys.argv[1:]
    if not arguments or {"-h", "--help"} & set(arguments):
        print(USAGE)
        return
    try:
        figures = [Path(argument.removeprefix("figure=")) for argument in arguments if argument.startswith("figure=")]
        table = summary.rows([Path(argument) for argument in arguments if not argument.startswith("figure=")])
        print(summary.markdown(table), end="")
        for figure in figures:
            plots.compare_classes({row.label: row.folders for row in table}, figure)
    except CarltError as error:
        exit_with("carlt.report", error)
    except OSError as error:
        exit_with("carlt.report", CarltError(f"{error.filename} cannot be read or written ({error.strerror})"))


if __name__ == "__main__":
    main()
