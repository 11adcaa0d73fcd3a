"""The commands behind ``python -m carlt.<name>``, and the composition of a run."""

import importlib

from carlt.errors import CarltError, exit_with, require_train


def run_command(name: str) -> None:
    """Run ``carlt.commands.<name>``; where the extra ``train`` is not installed, say so in one line instead."""
    try:
        require_train(f"carlt.{name}")
    except CarltError as error:
        exit_with(f"carlt.{name}", error)
    importlib.import_module(f"carlt.commands.{name}").main()
