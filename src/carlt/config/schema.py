"""The config: where it lives, and how a node of it becomes an object.

A node with ``_target_`` has its constructor as its schema: any parameter of the constructor may be set, whether the
YAML lists it or not, and a default lives in the constructor alone.
"""

import difflib
import importlib
import inspect
import types
import typing
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

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
        "place",
        "choices",
    )
)
"""Constructor parameters that ``carlt.training.build`` fills in from other parts, so a config need not."""


def conf_dir() -> Path:
    """The folder of the YAML files: inside the installed package, or the checkout's ``conf/``."""
    package = Path(__file__).parents[1]
    return next(path for path in (package / "conf", package.parents[1] / "conf") if path.is_dir())


def search_path() -> list[Path]:
    """Folders with more groups: the checkout's ``experiments/``, for its presets; a wheel has them in ``conf/``."""
    experiments = conf_dir().parent / "experiments"
    return [experiments] if (experiments / "preset").is_dir() else []


def group_dir(group: str) -> Path | None:
    """Where the choices of a config group lie; None if there is no such group."""
    return next((path for base in (conf_dir(), *search_path()) if (path := base / group).is_dir()), None)


def options(group: str) -> list[str]:
    """The choices of a config group, sorted, with those of its folders; what begins with _ is no choice but shared."""
    folder = group_dir(group)
    found = [path.relative_to(folder).with_suffix("") for path in folder.rglob("*.yaml")] if folder else []
    return sorted(path.as_posix() for path in found if not any(part.startswith("_") for part in path.parts))


def searched() -> list[str]:
    """The override that shows Hydra ``search_path()``."""
    paths = ",".join(f"'file://{path}'" for path in search_path())
    return [f"hydra.searchpath=[{paths}]"]


def compose_config(config_name: str, overrides: Sequence[str] = ()) -> DictConfig:
    """Compose a config without Hydra's run machinery (no job folder, no logging)."""
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose(config_name, [*overrides, *searched()])


def report(problems: Sequence[str]) -> CarltError:
    """Problems as one error, a line each, each once."""
    return CarltError("\n".join(dict.fromkeys(problems)))


def suggest(name: str, known: Sequence[str]) -> str:
    """The nearest known name, and all of them."""
    if not known:
        return "it takes nothing"
    near = difflib.get_close_matches(name, known, 1)
    return (f"did you mean {near[0]}? " if near else "") + f"choose from {', '.join(known)}"


def validate(config: DictConfig) -> None:
    """Check every node with a ``_target_`` against its constructor; one CarltError lists all mistakes."""
    problems = [problem for place, node in _target_nodes(config, "") for problem in node_problems(node, place)]
    if problems:
        raise report(problems)


def node_problems(node: DictConfig, place: str) -> Iterator[str]:
    """What is wrong with one node: an unknown key, a value of the wrong type, a missing required parameter."""
    target = str(node["_target_"])
    try:
        parameters = signature(target)
        values = _plain(node)
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
    """What is wrong with the value of ``key``, whose parameter is annotated with ``kind``."""
    return None if fits(value, kind) else f"{key}={value!r}: expected {describe(kind)}"


def signature(target: str) -> dict[str, inspect.Parameter]:
    """The parameters of a class or function by its dotted name, ``**kwargs`` followed into the parent classes."""
    found = _locate(target)
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


def build(config: DictConfig, place: str, /, **context: Any) -> Any:
    """Call the ``_target_`` of the node at ``place``: its values as plain Python, and what it accepts of ``context``.
    Values that have a ``_target_`` themselves are built first, from the same ``context``.

    Raises:
        CarltError: the constructor refused its values; says which node and why.
    """
    node = OmegaConf.select(config, place)
    values = _plain(node)
    target = values.pop("_target_")
    for name, value in values.items():
        if isinstance(value, dict) and "_target_" in value:
            values[name] = build(config, f"{place}.{name}", **context)
    accepted = {name: value for name, value in context.items() if name in signature(target) and name not in values}
    try:
        return _locate(target)(**values, **accepted)
    except CarltError as error:
        raise CarltError(str(error) if place in str(error) else f"{place}: {error}") from None
    except Exception as error:
        # Libraries refuse values in many ways; Lightning's own class is no ValueError.
        if isinstance(error, TypeError | ValueError) or type(error).__name__ == "MisconfigurationException":
            raise CarltError(f"{place} ({target}): {str(error).splitlines()[0]}") from error
        raise


def part_class(config: DictConfig, place: str) -> Any:
    """The class or function that the node at ``place`` names."""
    return _locate(str(OmegaConf.select(config, place)["_target_"]))


def _plain(node: DictConfig) -> dict[str, Any]:
    """A node as plain Python, interpolations resolved."""
    return typing.cast(dict[str, Any], OmegaConf.to_container(node, resolve=True))


def _target_nodes(node: Any, place: str) -> Iterator[tuple[str, DictConfig]]:
    if isinstance(node, DictConfig):
        if "_target_" in node:
            yield place, node
        for key in map(str, node):
            if not OmegaConf.is_missing(node, key) and not (place == "" and key in ("recipe", "init")):
                yield from _target_nodes(node[key], f"{place}.{key}" if place else key)


def _locate(target: str) -> Callable:
    module, _, name = target.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise CarltError(f"_target_={target} cannot be imported ({error})") from None


def fits(value: Any, kind: Any) -> bool:
    """Whether a plain value is of an annotated type; an annotation this does not know fits everything."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is None or kind is type(None):
        return value is None
    if origin is typing.Literal:
        return value in arguments
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, argument) for argument in arguments)
    if kind is bool:
        return isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if kind is str or kind is Path:
        return isinstance(value, str)
    if origin is tuple and Ellipsis not in arguments:
        return _is_list(value) and len(value) == len(arguments) and all(map(fits, value, arguments))
    if origin in (list, tuple, Sequence):
        return _is_list(value) and all(fits(element, arguments[0]) for element in value)
    return True


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def describe(kind: Any) -> str:
    """An annotated type in words."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Literal:
        return "one of " + ", ".join(map(str, arguments))
    if origin in (typing.Union, types.UnionType):
        return " or ".join(map(describe, arguments))
    if origin in (list, tuple, Sequence):
        return "a list of " + ", ".join(describe(argument) for argument in arguments if argument is not Ellipsis)
    names = {int: "an integer", float: "a number", bool: "true or false", str: "a text", type(None): "null"}
    return names.get(kind, getattr(kind, "__name__", str(kind)))
