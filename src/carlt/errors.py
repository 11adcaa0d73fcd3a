"""The errors that a user can cause: one class, which every command prints as a plain line."""

import importlib.util
import sys
from collections.abc import Callable, Iterable
from typing import NoReturn, TypeVar

T = TypeVar("T")


class CarltError(ValueError):
    """A mistake of the user or of their data. Its message names the value, the place and the remedy."""


def first_line(error: BaseException) -> str:
    """The first line of what ``error`` says, or its kind if it says nothing.

    >>> first_line(ValueError("too long\\nthe rest")), first_line(MemoryError())
    ('too long', 'MemoryError')
    """
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def results(calls: Iterable[Callable[[], T]]) -> list[T]:
    """What each of ``calls`` returns.

    Raises:
        CarltError: the errors of all that fail, a line each.
    """
    found, problems = [], []
    for call in calls:
        try:
            found.append(call())
        except CarltError as error:
            problems.append(str(error))
    if problems:
        raise CarltError("\n".join(problems))
    return found


def exit_with(command: str, error: CarltError) -> NoReturn:
    """End a command after a user's mistake: the message, no traceback, exit code 2."""
    prefix = f"{command}: error: "
    # Names of files and classes may hold letters that a terminal would obey.
    shown = "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in str(error))
    print(prefix + shown.replace("\n", "\n" + " " * len(prefix)), file=sys.stderr)
    raise SystemExit(2)


TRAIN = ("hydra", "lightning", "numpy", "omegaconf", "rich", "torchmetrics", "torchvision", "yaml")
"""What every command imports, of the packages that the extra ``train`` installs."""


def require_train(user: str) -> None:
    """CarltError, with what to install, unless the packages that the commands import are there.

    ``pip install carlt`` brings torch alone, which is all that ``carlt.CAR`` needs.
    """
    if missing := [name for name in TRAIN if importlib.util.find_spec(name) is None]:
        raise CarltError(f"{user} needs {', '.join(missing)}: pip install 'carlt[train]'")
