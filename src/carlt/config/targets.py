"""The classes and functions that ``_target_`` names: their import and the parameters they take."""

import importlib
import inspect
from collections.abc import Callable

from carlt.config import external
from carlt.errors import CarltError
from carlt.ranges import parameters


def locate(target: str) -> Callable:
    """Import what ``target`` names; CarltError if that fails."""
    module, _, name = target.rpartition(".")
    if not module:
        raise CarltError(
            f"_target_={target} cannot be imported: give a module and a name in it, as in my_package.MyClass"
        )
    try:
        found = getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        remedy = (
            f"; the module {error.name} must be installed, or lie in the folder in which python -m carlt... starts, or "
            "in one that PYTHONPATH names"
        )
        raise CarltError(f"_target_={target} cannot be imported ({error}){remedy}") from None
    except (ImportError, AttributeError, ValueError) as error:
        raise CarltError(f"_target_={target} cannot be imported ({error})") from None
    if not callable(found):
        raise CarltError(f"_target_={target} is no class or function, but of type {type(found).__name__}; give one")
    return found


def parameters_of(target: str) -> dict[str, inspect.Parameter]:
    """The parameters of a class or function by its dotted name, ``**kwargs`` followed into the parent classes."""
    return parameters(locate(target))


def settable(target: str) -> dict[str, inspect.Parameter]:
    """The parameters that a config may set, with their ranges; of other packages' classes see ``external``."""
    keyword = inspect.Parameter.KEYWORD_ONLY
    bounded = external.TRAINER_VALUES if target == external.TRAINER else external.RANGES.get(target, {})
    ranges = {name: inspect.Parameter(name, keyword, default=None, annotation=kind) for name, kind in bounded.items()}
    return ranges if target == external.TRAINER else parameters_of(target) | ranges
