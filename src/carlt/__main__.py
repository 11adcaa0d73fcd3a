"""``python -m carlt``: what commands there are."""

import sys

from carlt import __version__
from carlt.errors import CarltError, exit_with

COMMANDS = {
    "train": "train a network, go on with a run, or run a sweep",
    "prepare": "fetch a data set, check it, show its classes and augmentations",
    "evaluate": "test metrics of a run; adjust its network for rare classes",
    "report": "tables, plots and one HTML page of runs",
    "predict": "the classes of image files",
    "export": "a run's network for other programs",
}


def main() -> None:
    """Print the commands, or the version."""
    if sys.argv[1:] in (["--version"], ["-V"]):
        print(f"carlt {__version__}")
        return
    if words := [word for word in sys.argv[1:] if word not in ("-h", "--help")]:
        name = words[0] if words[0] in COMMANDS else "<command>"
        exit_with(
            "carlt", CarltError(f"{words[0]}: write python -m carlt.{name} ...; python -m carlt lists the commands")
        )
    print("usage: python -m carlt.<command> ...; each has --help\n")
    for name, purpose in COMMANDS.items():
        print(f"  python -m carlt.{name:9} {purpose}")


if __name__ == "__main__":
    main()
