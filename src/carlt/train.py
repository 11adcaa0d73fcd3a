"""``python -m carlt.train`` (``carlt.commands.train``), and ``carlt.train(...)`` in Python (``carlt.commands.run``)."""
# PYTHON_ARGCOMPLETE_OK: a shell may ask this command for completions.

import sys
from types import ModuleType
from typing import Any

from carlt.commands import run_command


def main() -> None:
    """The command."""
    run_command("train")


class _CallableModule(ModuleType):
    """Makes ``carlt.train(...)`` work whether or not this module was imported before: both share the name."""

    def __call__(self, *overrides: str, **options: Any) -> dict[str, Any]:
        from carlt.commands.run import train

        return train(*overrides, **options)


sys.modules[__name__].__class__ = _CallableModule

if __name__ == "__main__":
    main()
