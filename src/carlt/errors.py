"""The errors that a user can cause: one class, which every command prints as a plain line."""

import math
import sys
from typing import NoReturn


class CarltError(ValueError):
    """A mistake of the user or of their data. Its message names the value, the place and the remedy."""


def at_least(minimum: float, **values: float) -> None:
    """CarltError unless every value is finite and at least ``minimum``."""
    for name, value in values.items():
        if not (math.isfinite(value) and value >= minimum):
            raise CarltError(f"{name}={value} is out of range: it is at least {minimum:g}")


def exit_with(command: str, error: CarltError) -> NoReturn:
    """End a command after a user's mistake: the message, no traceback, exit code 2."""
    prefix = f"{command}: error: "
    print(prefix + str(error).replace("\n", "\n" + " " * len(prefix)), file=sys.stderr)
    raise SystemExit(2)
