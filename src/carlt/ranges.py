"""The types and ranges of constructor arguments. A range is part of its annotation, so it has one home: configs are
checked against it before anything is built, and :func:`checked` constructors against it when they are called.

>>> @checked
... def loss(gamma: NonNegative = 2.0, smoothing: Share = 0.1): ...
>>> loss(gamma=-1, smoothing=3)
Traceback (most recent call last):
carlt.errors.CarltError: gamma=-1: expected a finite number, at least 0
smoothing=3: expected a finite number in [0, 1]
"""

import functools
import inspect
import math
import numbers
import types
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, ParamSpec, TypeVar

from carlt.errors import CarltError

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class Range:
    """Numbers from ``low`` to ``high``; an end in ``without`` does not belong to it."""

    low: float = -math.inf
    high: float = math.inf
    without: Literal["", "low", "high", "both"] = ""

    def __contains__(self, value: float) -> bool:
        inside = self.low <= value <= self.high and abs(value) < math.inf
        at_open_end = (value == self.low and self.without in ("low", "both")) or (
            value == self.high and self.without in ("high", "both")
        )
        return inside and not at_open_end

    def __str__(self) -> str:
        """Words that follow "a number"."""
        if self.low == -math.inf:
            return "" if self.high == math.inf else f", {'less than' if self.without else 'at most'} {self.high:g}"
        if self.high == math.inf:
            return f", {'more than' if self.without else 'at least'} {self.low:g}"
        ends = "(" if self.without in ("low", "both") else "[", ")" if self.without in ("high", "both") else "]"
        return f" in {ends[0]}{self.low:g}, {self.high:.10g}{ends[1]}"


Finite = Annotated[float, Range()]
NonNegative = Annotated[float, Range(0)]
Positive = Annotated[float, Range(0, without="low")]
AtLeastOne = Annotated[float, Range(1)]
Share = Annotated[float, Range(0, 1)]
ShareBelowOne = Annotated[float, Range(0, 1, without="high")]
PositiveShare = Annotated[float, Range(0, 1, without="low")]
Count = Annotated[int, Range(1)]
CountOrZero = Annotated[int, Range(0)]
Strength = Annotated[float, Range(0, 100)]
"""tau of an adjustment after training. Useful ones are below 3; huge ones would leave the range of float32."""
Seed = Annotated[int, Range(0, 2**32 - 1)]

ARGUMENTS = "constructor_arguments"
"""Where an object keeps what it was constructed with."""


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """Check every call of a function, or of an ``__init__``, against the ranges and choices in its annotations.

    ``**options`` of an ``__init__`` are checked against the constructors of the parent classes.

    Raises:
        CarltError: one line for each argument outside its range.
    """
    signature = inspect.signature(function)

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        owner: Callable = function
        if function.__name__ == "__init__":  # the class that has it: a subclass may give its names another meaning
            owner = next(cls for cls in type(args[0]).__mro__ if vars(cls).get("__init__") is call)
        try:
            given = dict(signature.bind_partial(*args, **kwargs).arguments)
        except TypeError:
            return function(*args, **kwargs)  # which raises in its own words
        for name, parameter in signature.parameters.items():
            if parameter.kind == parameter.VAR_KEYWORD:
                given |= given.pop(name, {})
        known = parameters(owner)
        problems = [
            problem
            for name, value in given.items()
            if name in known and _is_bounded(kind := known[name].annotation)
            if (problem := value_problem(name, value, kind))
        ]
        if problems:
            raise CarltError("\n".join(problems))
        if owner is not function and type(args[0]).__init__ is call:
            vars(args[0])[ARGUMENTS] = {name: value for name, value in given.items() if name != "self"}
        return function(*args, **kwargs)

    return call


def arguments_of(made: Any) -> dict[str, Any] | None:
    """The arguments that ``made`` was constructed with; None unless the constructor of its class is ``checked``."""
    return getattr(made, "__dict__", {}).get(ARGUMENTS)


@functools.cache
def parameters(found: Callable) -> dict[str, inspect.Parameter]:
    """The parameters of a class or function, ``**kwargs`` followed into the parent classes."""
    constructors: list[Callable] = [found]
    if inspect.isclass(found):
        constructors = [vars(cls)["__init__"] for cls in found.__mro__ if "__init__" in vars(cls) and cls is not object]
    result: dict[str, inspect.Parameter] = {}
    for constructor in constructors:
        try:
            hints = typing.get_type_hints(constructor, include_extras=True)
        except (NameError, TypeError):
            hints = {}
        own = inspect.signature(constructor).parameters
        for name, parameter in own.items():
            if name != "self" and parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
                result.setdefault(name, parameter.replace(annotation=hints.get(name, Any)))
        if not any(parameter.kind == parameter.VAR_KEYWORD for parameter in own.values()):
            break
    return result


def value_problem(key: str, value: Any, kind: Any) -> str | None:
    """The problem of the value of ``key``, whose parameter is annotated with ``kind``; None if there is none."""
    return None if matches(value, kind) else f"{key}={value!r}: expected {describe_type(kind)}"


def matches(value: Any, kind: Any) -> bool:
    """Whether a plain value is of an annotated type; an annotation that is not covered matches everything."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is None or kind is type(None):
        return value is None
    if origin is Annotated:
        ranges = [extra for extra in arguments[1:] if isinstance(extra, Range)]
        return matches(value, arguments[0]) and all(value in each for each in ranges)
    if origin is Literal:
        return any(value == choice and type(value) is type(choice) for choice in arguments)
    if origin in (typing.Union, types.UnionType):
        return any(matches(value, argument) for argument in arguments)
    if kind is bool:
        return isinstance(value, bool)
    if kind is int:
        return isinstance(value, numbers.Integral) and not isinstance(value, bool) and abs(int(value)) < 2**63
    if kind is float:
        return isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)
    if kind is str or kind is Path:
        return isinstance(value, str)
    if origin is tuple and Ellipsis not in arguments:
        return _is_list(value) and len(value) == len(arguments) and all(map(matches, value, arguments))
    if origin in (list, tuple, Sequence):
        return _is_list(value) and all(matches(element, arguments[0]) for element in value)
    return True


def describe_type(kind: Any) -> str:
    """An annotated type in words."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        return describe_type(arguments[0]) + "".join(str(each) for each in arguments[1:] if isinstance(each, Range))
    if origin is Literal:
        choices = dict.fromkeys(map(str, arguments))
        return f"{'one of ' * (len(choices) > 1)}{', '.join(choices)}"
    if origin in (typing.Union, types.UnionType):
        return " or ".join(map(describe_type, arguments))
    if origin in (list, tuple, Sequence):
        return "a list of " + ", ".join(describe_type(argument) for argument in arguments if argument is not Ellipsis)
    names = {int: "an integer", float: "a finite number", bool: "true or false", str: "a string", type(None): "null"}
    return names.get(kind, getattr(kind, "__name__", str(kind)))


def _is_bounded(kind: Any) -> bool:
    """Whether an annotation has a range or a choice anywhere; other arguments may be of any type that works."""
    return typing.get_origin(kind) in (Annotated, Literal) or any(map(_is_bounded, typing.get_args(kind)))


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)
