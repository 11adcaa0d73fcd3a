"""Completion of command lines in bash and zsh, by argcomplete: groups, options, presets and constructor parameters."""

import argparse
import os
import shlex
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Annotated, Any, Literal, get_args, get_origin

from carlt.errors import CarltError

OF_HYDRA = ("hydra.run.dir=", "hydra.sweep.dir=")
"""The keys of Hydra that people set."""

Completer = Callable[[str, Sequence[str]], Iterable[str]]
"""From the word at the cursor and the words before it to the words that it may become."""


def answer_shell(parser: argparse.ArgumentParser, words: str, completer: Completer) -> None:
    """Where a shell asks for completions, print them and end the process.

    Args:
        words: the name of the positional argument of ``parser`` that takes all words.
    """
    if "_ARGCOMPLETE" not in os.environ:
        return
    import argcomplete

    from carlt.config.compose import add_config_dir

    action: Any = next(each for each in parser._actions if each.dest == words)

    def complete(prefix: str, parsed_args: argparse.Namespace, **_: Any) -> Iterable[str]:
        for folder in getattr(parsed_args, "config_dir", None) or []:
            with suppress(CarltError):
                add_config_dir(folder)
        return completer(prefix, _words_before())

    action.completer = complete
    argcomplete.autocomplete(parser, always_complete_options=False)


def shell_script() -> str:
    """The text that a shell evaluates once, so that it asks carlt's commands for completions.

    Raises:
        CarltError: argcomplete is not installed.
    """
    from importlib import resources

    try:
        return resources.files("argcomplete").joinpath("bash_completion.d/_python-argcomplete").read_text()
    except ModuleNotFoundError:
        raise CarltError("completion needs argcomplete: pip install 'carlt[completion]'") from None


def complete_override(word: str, before: Sequence[str]) -> Iterator[str]:
    """The overrides of ``carlt.train`` that ``word`` may become, in a config of the options in ``before``.

    >>> list(complete_override("reg=c", []))
    ['reg=car', 'reg=car_held', 'reg=car_offsets', 'reg=car_released', 'reg=confidence_penalty']
    >>> list(complete_override("reg.de", ["reg=car"]))
    ['reg.debias=']
    >>> list(complete_override("optim.schedule=co", []))
    ['optim.schedule=constant', 'optim.schedule=cosine']
    """
    key, equals, _ = word.partition("=")
    found = _values(key, before) if equals else _keys(key, before)
    return (each for each in found if each.startswith(word))


def _keys(word: str, before: Sequence[str]) -> Iterator[str]:
    """Groups, parts with values (``reg.``) and plain keys; below a part the values that it takes."""
    from carlt.config.compose import conf_dir, search_path

    part, dot, _ = word.partition(".")
    if dot:
        yield from OF_HYDRA if part == "hydra" else _leaves(_config(before).get(part), part)
        return
    folders = [folder for base in (conf_dir(), *search_path()) for folder in base.iterdir() if folder.is_dir()]
    groups = {folder.name for folder in folders if not folder.name.startswith(("_", "."))}
    config = _config(before)
    names = {str(name) for name in config}
    parts = {name for name in names if _is_part(config.get(name))}
    yield from sorted([f"{name}=" for name in groups | names - parts] + [f"{name}." for name in parts])
    yield from OF_HYDRA


def _leaves(node: Any, place: str) -> Iterator[str]:
    from carlt.config.schema import INJECTED
    from carlt.config.targets import settable

    if not _is_part(node):
        return
    names = {str(name) for name in node} - {"_target_"}
    if "_target_" in node:
        with suppress(CarltError):
            names |= settable(str(node["_target_"])).keys() - INJECTED
    for name in sorted(names):
        below = node.get(name)
        if _is_part(below):
            yield from _leaves(below, f"{place}.{name}")
        else:
            yield f"{place}.{name}="


def _values(key: str, before: Sequence[str]) -> Iterator[str]:
    from omegaconf import OmegaConf

    from carlt.config.compose import is_group, options
    from carlt.config.targets import settable

    if is_group(key):
        yield from (f"{key}={option}" for option in options(key))
        return
    part, _, name = key.rpartition(".")
    node: Any = OmegaConf.select(_config(before), part) if part else None
    if _is_part(node) and "_target_" in node:
        with suppress(CarltError):
            parameter = settable(str(node["_target_"])).get(name)
            if parameter is not None:
                yield from (f"{key}={value}" for value in _choices(parameter.annotation))


def _choices(kind: Any) -> Iterator[str]:
    """The values of a type that has few: of a Literal, true and false, null where None is allowed."""
    origin = get_origin(kind)
    if origin is Literal:
        yield from map(str, get_args(kind))
    elif origin is Annotated:
        yield from _choices(get_args(kind)[0])
    elif origin in (typing.Union, types.UnionType):
        for each in get_args(kind):
            yield from _choices(each)
    elif kind is bool:
        yield from ("true", "false")
    elif kind in (None, type(None)):
        yield "null"


def _config(before: Sequence[str]) -> Any:
    """The config of the sound options in ``before``; their other values change no names."""
    from hydra.errors import HydraException

    from carlt.config import grammar
    from carlt.config.compose import compose_config, is_group, options

    parsed = [found for text in before if (found := grammar.parse(text, [])) is not None]
    groups = [o for o in parsed if is_group(o.key_or_group)]
    sound = [o for o in groups if set(map(str, grammar.choices(o))) <= set(options(o.key_or_group))]
    try:
        return compose_config("train", [grammar.first(o) for o in sound])
    except (HydraException, CarltError):
        return compose_config("train")


def _is_part(node: Any) -> bool:
    from omegaconf import DictConfig

    return isinstance(node, DictConfig)


def _words_before() -> list[str]:
    """The words of the command line before the one at the cursor."""
    line = os.environ.get("COMP_LINE", "")[: int(os.environ.get("COMP_POINT", 1 << 20))]
    try:
        words = shlex.split(line)
    except ValueError:  # a quotation mark is open
        words = line.split()
    return [word for word in words[: None if line.endswith(" ") else -1] if "=" in word]
