"""The check of a config: every node with a ``_target_`` has its constructor as its schema.

Any parameter of the constructor may be set, whether a YAML lists it or not. A default lives in the constructor alone.
"""

import difflib
from collections.abc import Iterator, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from carlt.config.instantiate import plain_values
from carlt.config.targets import settable
from carlt.errors import CarltError, first_line
from carlt.ranges import value_problem

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

OBJECTS = INJECTED - {"num_classes", "in_channels", "image_size", "seed"}
"""Those of them that are objects: no plain value can stand for them."""


def joined_error(problems: Sequence[str]) -> CarltError:
    """Join problems into one error, one line per problem, without repetitions."""
    return CarltError("\n".join(dict.fromkeys(problems)))


def suggest(name: str, known: Sequence[str]) -> str:
    """The nearest known name, and all of them."""
    if not known:
        return "it takes nothing"
    near = nearest(name, known, 1)
    return (f"did you mean {near[0]}? " if near else "") + f"choose from {', '.join(known)}"


def nearest(name: str, known: Sequence[str], number: int) -> list[str]:
    """At most ``number`` known names that ``name`` may stand for, whatever the case of its letters."""
    by_folded = {each.casefold(): each for each in known}
    return [by_folded[each] for each in difflib.get_close_matches(str(name).casefold(), by_folded, number)]


def validate(config: DictConfig) -> None:
    """Check every node with a ``_target_`` against its constructor; one CarltError lists all mistakes."""
    problems = [problem for place, node in target_nodes(config) for problem in node_problems(node, place)]
    if problems:
        raise joined_error(problems)


def node_problems(node: DictConfig, place: str) -> Iterator[str]:
    """The problems of one node: unknown keys, values of a wrong type, missing required parameters."""
    target = str(node["_target_"])
    try:
        parameters = settable(target)
        values = plain_values(node)
    except (CarltError, OmegaConfBaseException) as error:
        yield f"{place}: {first_line(error)}"
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
        elif key in OBJECTS:
            yield f"{place}.{key}={value!r}: carlt gives this value itself; leave it out"
        elif problem := value_problem(f"{place}.{key}", value, parameters[key].annotation):
            yield problem
    for key, parameter in parameters.items():
        if parameter.default is parameter.empty and key not in values and key not in INJECTED:
            yield f"{place}.{key} is required by {target}: give {place}.{key}=<value>"


def target_nodes(node: Any, place: str = "") -> Iterator[tuple[str, DictConfig]]:
    """The nodes with a ``_target_`` at or below ``node``, each with its place. Hydra's own are left out."""
    if isinstance(node, DictConfig):
        if "_target_" in node:
            yield place, node
        for key in map(str, node):
            if not OmegaConf.is_missing(node, key) and not (place == "" and key in ("recipe", "init", "hydra")):
                yield from target_nodes(node[key], f"{place}.{key}" if place else key)
