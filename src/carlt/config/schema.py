"""The check of a config: every node with a ``_target_`` has its constructor as its schema.

Any parameter of the constructor may be set, whether a YAML lists it or not. A default lives in the constructor alone.
"""

import difflib
import math
import types
import typing
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from carlt.config.instantiate import plain_values
from carlt.config.targets import parameters_of
from carlt.errors import CarltError

INJECTED = frozenset(
    (
        "num_classes",
        "class_counts",
        "in_channels",
        "image_size",
        "view",
        "eval_view",
        "contrast_view",
        "contrast_copies",
        "foreground",
        "feature_dim",
        "network",
        "sampler",
        "seed",
        "run_dir",
        "position",
        "choices",
    )
)
"""Constructor parameters that ``carlt.training.build`` fills in from other parts, so a config need not."""


def joined_error(problems: Sequence[str]) -> CarltError:
    """Join problems into one error, one line per problem, without repetitions."""
    return CarltError("\n".join(dict.fromkeys(problems)))


def suggest(name: str, known: Sequence[str]) -> str:
    """The nearest known name, and all of them."""
    if not known:
        return "it takes nothing"
    near = difflib.get_close_matches(name, known, 1)
    return (f"did you mean {near[0]}? " if near else "") + f"choose from {', '.join(known)}"


def validate(config: DictConfig) -> None:
    """Check every node with a ``_target_`` against its constructor; one CarltError lists all mistakes."""
    problems = [problem for place, node in target_nodes(config) for problem in node_problems(node, place)]
    if problems:
        raise joined_error(problems)


def node_problems(node: DictConfig, place: str) -> Iterator[str]:
    """The problems of one node: unknown keys, values of a wrong type, missing required parameters."""
    target = str(node["_target_"])
    try:
        parameters = parameters_of(target)
        values = plain_values(node)
    except (CarltError, OmegaConfBaseException) as error:
        yield f"{place}: {str(error).splitlines()[0]}"
        return
    for key, value in values.items():
        if key == "_target_" or (isinstance(value, dict) and "_target_" in value):
            continue
        if value == "???":
            yield f"{place}.{key} has no default: give {place}.{key}=<value>"
        elif key not in parameters:
            yield f"{place}.{key}: {place} ({target}) takes no {key!r}; " + suggest(
                key, sorted(set(parameters) - INJECTED)
            )
        elif problem := value_problem(f"{place}.{key}", value, parameters[key].annotation):
            yield problem
    for key, parameter in parameters.items():
        if parameter.default is parameter.empty and key not in values and key not in INJECTED:
            yield f"{place}.{key} is required by {target}"


def value_problem(key: str, value: Any, kind: Any) -> str | None:
    """The problem of the value of ``key``, whose parameter is annotated with ``kind``; None if there is none."""
    return None if matches(value, kind) else f"{key}={value!r}: expected {describe_type(kind)}"


def target_nodes(node: Any, place: str = "") -> Iterator[tuple[str, DictConfig]]:
    """The nodes with a ``_target_`` at or below ``node``, each with its place. Hydra's own are left out."""
    if isinstance(node, DictConfig):
        if "_target_" in node:
            yield place, node
        for key in map(str, node):
            if not OmegaConf.is_missing(node, key) and not (place == "" and key in ("recipe", "init", "hydra")):
                yield from target_nodes(node[key], f"{place}.{key}" if place else key)


def matches(value: Any, kind: Any) -> bool:
    """Whether a plain value is of an annotated type; an annotation that is not covered matches everything."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is None or kind is type(None):
        return value is None
    if origin is typing.Literal:
        return value in arguments
    if origin in (typing.Union, types.UnionType):
        return any(matches(value, argument) for argument in arguments)
    if kind is bool:
        return isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < math.inf
    if kind is str or kind is Path:
        return isinstance(value, str)
    if origin is tuple and Ellipsis not in arguments:
        return _is_list(value) and len(value) == len(arguments) and all(map(matches, value, arguments))
    if origin in (list, tuple, Sequence):
        return _is_list(value) and all(matches(element, arguments[0]) for element in value)
    return True


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def describe_type(kind: Any) -> str:
    """An annotated type in words."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Literal:
        return "one of " + ", ".join(map(str, arguments))
    if origin in (typing.Union, types.UnionType):
        return " or ".join(map(describe_type, arguments))
    if origin in (list, tuple, Sequence):
        return "a list of " + ", ".join(describe_type(argument) for argument in arguments if argument is not Ellipsis)
    names = {int: "an integer", float: "a finite number", bool: "true or false", str: "a text", type(None): "null"}
    return names.get(kind, getattr(kind, "__name__", str(kind)))
