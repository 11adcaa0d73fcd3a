"""What Python code gives to ``carlt.train``, values and objects, as a command line's choices of options and values."""

import functools
import importlib
import inspect
import json
import numbers
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from carlt.config import given
from carlt.config.compose import config_dir, options, quoted, read_option
from carlt.config.schema import INJECTED
from carlt.config.stored import TARGETS
from carlt.config.targets import parameters_of
from carlt.errors import CarltError
from carlt.ranges import arguments_of

PARTS = ("data", "model", "loss", "reg", "optim", "sampler")
"""Groups of which Python code may give an object."""
CHOSEN = {
    "view": "aug", "eval_view": "aug", "contrast_view": "aug", "contrast_copies": "aug", "foreground": "aug",
    "sampler": "sampler", "seed": "seed",
}  # fmt: skip
"""Arguments of a data set that ``carlt.train`` fills in, and the key that chooses each."""
SAFE = re.compile(r"[A-Za-z_/.$][\w./${}:-]*", re.ASCII)
"""Texts that need no quotes in Hydra's grammar."""
WORDS = ("null", "true", "false", "inf", "nan")


@dataclass
class Translated:
    """What stands for the keyword arguments of ``carlt.train``."""

    words: list[str] = field(default_factory=list)
    """Overrides."""
    modules: dict[str, Any] = field(default_factory=dict)
    """Modules that are trained themselves, by their part."""
    class_counts: dict[str, list[int]] = field(default_factory=dict)
    """Class counts that an object was made for, by its part. They have to be the data's."""

    def check_counts(self, found: Sequence[int]) -> None:
        """CarltError unless all objects were made for the class counts ``found``."""
        for part, counts in self.class_counts.items():
            if counts != list(found):
                raise CarltError(
                    f"{part}: its class_counts are {_short(counts)}, but the training images of each class are "
                    f"{_short(list(found))}; give the class, or functools.partial(class, ...) without class_counts"
                )


@contextmanager
def from_python(parts: Mapping[str, Any]) -> Iterator[Translated]:
    """The overrides that say what the keyword arguments of ``carlt.train`` say. They hold within this context.

    - a name, number, list, path or None is the value of the key: ``seed=1``, ``reg="car"``;
    - a dictionary has the values of a node: ``trainer={"max_epochs": 3}``;
    - a class, or a ``functools.partial`` of one, is built by ``carlt.train``, which fills in what it knows;
    - an object of carlt (``CAR(counts, weight=1)``) says what to build; a new one is trained;
    - any other ``nn.Module`` is trained itself.

    Raises:
        CarltError: something else, or an object that cannot be stored in the config.
    """
    found = Translated()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for key, value in parts.items():
            if _is_object(value):
                found.words += _of_object(key, value, folder, found)
            else:
                found.words += _of_value(key, value)
        stack.enter_context(config_dir(folder))
        stack.enter_context(given.given(found.modules))
        yield found


def _is_object(value: Any) -> bool:
    return not (value is None or isinstance(value, str | numbers.Real | Path | Mapping | list | tuple))


def _of_value(key: str, value: Any) -> list[str]:
    if isinstance(value, Mapping):
        return [word for name, each in value.items() for word in _of_value(f"{key}.{name}", each)]
    return [f"{key}={_text(_plain(value, key))}"]


def _text(value: Any) -> str:
    """A plain value in Hydra's grammar."""
    if isinstance(value, str):
        return value if SAFE.fullmatch(value) and value.lower() not in WORDS else quoted(value)
    if isinstance(value, list):
        return f"[{','.join(map(_text, value))}]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{name}:{_text(each)}" for name, each in value.items()) + "}"
    return json.dumps(value) if value is None or isinstance(value, bool) else repr(value)


def _of_object(part: str, value: Any, folder: Path, found: Translated) -> list[str]:
    if part not in PARTS:
        raise CarltError(
            f"{part}: an object of type {type(value).__name__} cannot be stored in the config; objects are for "
            f"{', '.join(PARTS)}, and other keys take plain values"
        )
    made, arguments = _made_of(part, value, found)
    if made is None:
        found.modules[part] = value
        return [f"{part}={_write_option(part, type(value).__name__, 'carlt.config.given.Given', arguments, folder)}"]
    target = _public_name(part, made)
    values = {name: _plain(each, f"{part}.{name}") for name, each in arguments.items()}
    option, values = _option(part, target, values)
    if option is None:
        return [f"{part}={_write_option(part, made.__name__, target, values, folder)}"]
    return [f"{part}={option}", *(f"{part}.{name}={_text(each)}" for name, each in values.items())]


def _made_of(part: str, value: Any, found: Translated) -> tuple[Callable | None, dict[str, Any]]:
    """The class or function that makes ``value`` and the arguments that say so; no class for a module as it is."""
    if inspect.isclass(value) or inspect.isfunction(value):
        return value, {}
    if isinstance(value, functools.partial):
        if value.args:
            raise CarltError(f"{part}: name the arguments of functools.partial({value.func.__name__}, ...)")
        return value.func, dict(value.keywords)
    arguments = arguments_of(value)
    if arguments is not None and part != "model":
        if chosen := [name for name in arguments if part == "data" and name in CHOSEN]:
            raise CarltError(f"data: leave {chosen[0]} out; carlt.train(..., {CHOSEN[chosen[0]]}=...) chooses it")
        if (counts := arguments.get("class_counts")) is not None:
            found.class_counts[part] = [int(count) for count in counts]
        dropped = frozenset() if part == "data" else INJECTED  # those of a data set are in CHOSEN
        return type(value), {name: each for name, each in arguments.items() if name not in dropped}
    if part not in ("model", "loss", "reg") or not hasattr(value, "state_dict"):
        raise CarltError(
            f"{part}: give the class, or functools.partial(class, ...), not an object of type {type(value).__name__}"
        )
    if hasattr(value, "compute_loss"):
        raise CarltError(
            f"loss: {type(value).__name__} runs the network itself: give the class, or a functools.partial"
        )
    return None, given.node(part, value)


def _public_name(part: str, made: Any) -> str:
    """The name under which a config names a class: of carlt's own, that of the package which exports it."""
    for package in TARGETS[part]:
        name = f"{package}.{made.__name__}"
        if getattr(importlib.import_module(package), made.__name__, None) is made:
            return name
    if "<" in made.__qualname__ or "." in made.__qualname__:
        raise CarltError(
            f"{part}: {made.__qualname__} is defined inside a function or class; define it at module level"
        )
    return f"{made.__module__}.{made.__qualname__}"


def _option(part: str, target: str, values: dict[str, Any]) -> tuple[str | None, dict[str, Any]]:
    """The option of a group that means a class with ``values``, and the values to set in it; None if there is none."""
    own = {name: node for name in options(part) if (node := _node(part, name)).pop("_target_", None) == target}
    whole = {name: parameter.default for name, parameter in parameters_of(target).items()} | values
    for name, node in sorted(own.items(), key=lambda item: -len(item[1])):
        if all(whole.get(key) == value for key, value in node.items()):
            return name, {key: value for key, value in values.items() if node.get(key) != value}
    if len(own) == 1:
        ((name, node),) = own.items()
        return name, {key: whole[key] for key in node if key in whole} | values
    return None, values


def _node(part: str, option: str) -> dict[str, Any]:
    """The plain values of an option's node; those that refer to other values are left out."""
    content = read_option(part, option)
    node = content if "_target_" in content else content.get(part) or {}
    return {
        key: value for key, value in node.items() if key != "defaults" and "${" not in str(value) and value != "???"
    }


def _write_option(part: str, name: str, target: str, values: Mapping[str, Any], folder: Path) -> str:
    """Write an option of the user's own; returns its name."""
    while name in options(part):
        name += "_"
    path = folder / part / f"{name}.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump({"_target_": target, **values}), encoding="utf-8")
    return name


def _plain(value: Any, place: str) -> Any:
    """A value as a config can hold it."""
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, numbers.Real):
        return int(value) if isinstance(value, numbers.Integral) else float(value)
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, list | tuple):
        return [_plain(each, place) for each in value]
    if isinstance(value, Mapping):
        return {str(name): _plain(each, f"{place}.{name}") for name, each in value.items()}
    raise CarltError(
        f"{place}: a value of type {type(value).__name__} cannot be stored in the config; give a plain value"
    )


def _short(counts: list[int]) -> str:
    return str(counts) if len(counts) <= 12 else f"[{', '.join(map(str, counts[:5]))}, ... {len(counts)} in all]"
