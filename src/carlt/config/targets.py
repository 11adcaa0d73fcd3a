"""The classes and functions that ``_target_`` names: their import and the parameters they take."""

import importlib
import inspect
import typing
from collections.abc import Callable
from typing import Any

from carlt.errors import CarltError


def locate(target: str) -> Callable:
    """Import what ``target`` names; CarltError if that fails."""
    module, _, name = target.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise CarltError(f"_target_={target} cannot be imported ({error})") from None


def parameters_of(target: str) -> dict[str, inspect.Parameter]:
    """The parameters of a class or function by its dotted name, ``**kwargs`` followed into the parent classes."""
    found = locate(target)
    constructors: list[Callable] = [found]
    if inspect.isclass(found):
        constructors = [vars(cls)["__init__"] for cls in found.__mro__ if "__init__" in vars(cls) and cls is not object]
    parameters: dict[str, inspect.Parameter] = {}
    for constructor in constructors:
        try:
            hints = typing.get_type_hints(constructor)
        except (NameError, TypeError):
            hints = {}
        own = inspect.signature(constructor).parameters
        for name, parameter in own.items():
            if name != "self" and parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
                parameters.setdefault(name, parameter.replace(annotation=hints.get(name, Any)))
        if not any(parameter.kind == parameter.VAR_KEYWORD for parameter in own.values()):
            break
    return parameters
