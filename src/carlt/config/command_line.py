"""What a command line may say. Every mistake in it is found before anything runs, and all are reported at once."""

import difflib
import sys
import textwrap
import typing
from collections.abc import Iterator, Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override, ValueType
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from carlt.config.schema import (
    INJECTED,
    compose_config,
    describe,
    fits,
    group_dir,
    node_problems,
    options,
    report,
    signature,
    suggest,
    value_problem,
)
from carlt.errors import CarltError

SEVERAL = ("aug", "logger", "reg")
"""Groups whose options may be combined, as in aug=[randaugment,mixup]."""

BY_NAME = ("reg",)
"""Those of SEVERAL whose options, where there are several, have their values under their names: reg.car.weight."""

OPTIONAL = ("preset", "stage")
"""Groups of which a run need not have an option."""


def check_overrides(config_name: str, overrides: Sequence[str]) -> list[str]:
    """``overrides`` as Hydra wants them: a parameter that only its constructor knows becomes ``++key=value``.

    Of a sweep every value is checked, and the first stands for all in questions of structure.

    Raises:
        CarltError: lists every mistake: its value, its place and the choices.
    """
    problems: list[str] = []
    parsed = parse_all(overrides, problems)
    # Hydra has no word for no option, which is what these have anyway.
    parsed = [o for o in parsed if o.key_or_group not in OPTIONAL or o.value() is not None]
    hydras = [o for o in parsed if o.key_or_group.startswith("hydra")]
    groups = [o for o in parsed if group_dir(o.key_or_group) and o not in hydras]
    values = [o for o in parsed if o not in hydras and o not in groups]
    wrong = {id(o): list(_group_problems(o)) for o in groups}
    problems += [problem for found in wrong.values() for problem in found]
    sound = [first(o) for o in groups if not wrong[id(o)]]
    base = _compose(config_name, sound, problems)
    checked = _check_values(base, values, problems) if base is not None else []
    full = _compose(config_name, sound + [first(o) for o in checked], problems)
    if full is not None:
        problems += _node_problems(full, values)
    if problems:
        raise report(problems)
    return [text(o) for o in hydras + groups + checked]


def apply_values(config: DictConfig, overrides: Sequence[str]) -> None:
    """Change values of a complete config in place.

    Raises:
        CarltError: lists every override that does not fit it.
    """
    problems: list[str] = []
    parsed = [override for text in overrides if (override := parse(text, problems))]
    problems += [
        f"{override.key_or_group}: a run goes on with the parts it has; only values can change"
        for override in parsed
        if isinstance(OmegaConf.select(config, override.key_or_group), DictConfig)
    ]
    for override in _check_values(config, parsed, problems):
        OmegaConf.update(config, override.key_or_group, override.value(), force_add=True)
    problems += _node_problems(config, parsed)
    if problems:
        raise report(problems)


def exit_with(command: str, error: CarltError) -> typing.NoReturn:
    """End a command on a user's mistake: the message, no traceback, exit code 2."""
    prefix = f"{command}: error: "
    print(prefix + str(error).replace("\n", "\n" + " " * len(prefix)), file=sys.stderr)
    raise SystemExit(2)


def presets() -> str:
    """The presets for --help, a paragraph a folder."""
    folders: dict[str, list[str]] = {}
    for name in options("preset"):
        folders.setdefault(name.rpartition("/")[0], []).append(name)
    text = [textwrap.fill(", ".join(names), 110, subsequent_indent="  ") for names in folders.values()]
    return "\n".join(["Presets (preset=name; what each is and its command: experiments/preset/README.md)", "", *text])


def check_single(overrides: Sequence[str]) -> None:
    """CarltError if the command line gives a key several values, which only a sweep can have."""
    parsed = [override for text in overrides if (override := parse(text, []))]
    if several := [o.key_or_group for o in parsed if o.is_sweep_override()]:
        raise CarltError(
            f"{', '.join(several)}: several values make a sweep; add -m, as in python -m carlt.train -m ..."
        )


def parse(text: str, problems: list[str]) -> Override | None:
    """An override; None, and what is wrong among ``problems``, where it is none."""
    try:
        override = OverridesParser.create().parse_override(text)
        if override.value_type == ValueType.GLOB_CHOICE_SWEEP:
            return _spelled_out(override, problems)
        if override.key_or_group:
            return override
    except HydraException:
        pass
    problems.append(f"{text!r} is not of the form key=value")
    return None


def parse_all(overrides: Sequence[str], problems: list[str]) -> list[Override]:
    """The overrides as Hydra composes them, several options of a group ``BY_NAME`` one by one."""
    return [part for text in overrides if (override := parse(text, problems)) for part in _by_name(override)]


def _by_name(override: Override) -> list[Override]:
    """``reg=[car,mine]`` as ``reg=several +reg@reg.car=car +reg@reg.mine=mine``; other overrides as they are."""
    group, names = override.key_or_group, override.value()
    if group not in BY_NAME or override.is_sweep_override() or not isinstance(names, list):
        return [override]
    lines = [f"{group}=several", *(f"+{group}@{group}.{name}={name}" for name in dict.fromkeys(names))]
    return OverridesParser.create().parse_overrides(lines)


def _spelled_out(override: Override, problems: list[str]) -> Override | None:
    """``group=glob(pattern)`` as the options that it stands for."""
    group, pattern = override.key_or_group, override.value()
    assert isinstance(pattern, Glob)
    if found := pattern.filter(options(group)):
        return OverridesParser.create().parse_override(f"{group}=choice({','.join(found)})")
    why = f"choose from {', '.join(options(group))}" if group_dir(group) else "glob() stands for options of a group"
    problems.append(f"{text(override)}: nothing fits it; {why}")
    return None


def _group_problems(override: Override) -> Iterator[str]:
    group = override.key_or_group
    for choice in choices(override):
        if isinstance(choice, list) and group in BY_NAME:  # one that is not swept is spelled out by now
            yield f"{text(override)}: a sweep tries single options of {group}; give each combination its own command"
            continue
        if isinstance(choice, list) and group not in SEVERAL:
            yield f"{text(override)}: only {', '.join(SEVERAL)} take several options; -m {group}=a,b tries each"
            continue
        for name in choice if isinstance(choice, list) else [choice]:
            word = "null" if name is None else str(name)
            if word not in options(group):
                yield f"{group}={word}: no such {group}; {_nearest(word, options(group))}"


def _nearest(name: str, known: Sequence[str]) -> str:
    """The nearest known names, and all of them where they are few enough to read."""
    if len(known) <= 40:
        return suggest(name, known)
    near = difflib.get_close_matches(name, known, 5)
    return (f"did you mean {' or '.join(near)}? " if near else "") + f"--help lists all {len(known)}"


def _check_values(config: DictConfig, overrides: Sequence[Override], problems: list[str]) -> list[Override]:
    """The overrides whose key ``config`` or a constructor knows and whose value is of the present one's kind."""
    checked = []
    for override in overrides:
        if text(override).startswith(("+", "~")):
            checked.append(override)
            continue
        parent, _, name = override.key_or_group.rpartition(".")
        node = OmegaConf.select(config, parent) if parent else config
        if not isinstance(node, DictConfig):
            place = next(p for p in _prefixes(parent) if not isinstance(OmegaConf.select(config, p), DictConfig))
            problems.append(
                f"{override.key_or_group}: there is no group of values {place!r}; {suggest(place, list(config))}"
            )
        elif "_target_" in node:
            parameters = signature(node["_target_"])
            if override.is_sweep_override() and name in parameters:
                # A single value is seen by node_problems; of a sweep that sees the first.
                found = [
                    value_problem(override.key_or_group, v, parameters[name].annotation) for v in choices(override)
                ]
                problems += [problem for problem in found if problem]
            if name in node:
                checked.append(override)
            elif name in parameters:
                checked.append(OverridesParser.create().parse_override("++" + text(override)))
            else:
                known = sorted({*parameters, *map(str, node)} - INJECTED - {"_target_"})
                problems.append(
                    f"{override.key_or_group}: {node['_target_']} takes no {name!r}; {suggest(name, known)}"
                )
        elif name not in node:
            problems.append(f"{override.key_or_group}: there is no {name!r}; {suggest(name, sorted(map(str, node)))}")
        elif wrong := list(_kind_problems(node, name, override)):
            problems += wrong
        else:
            checked.append(override)
    return checked


def _kind_problems(node: DictConfig, name: str, override: Override) -> Iterator[str]:
    """A plain key (no constructor speaks for it) keeps the type of its present value; null may become anything."""
    present = OmegaConf.select(node, name, throw_on_missing=False)
    for value in choices(override):
        reference = isinstance(value, str) and "${" in value
        if isinstance(present, bool | int | float | str) and not reference and not fits(value, type(present)):
            key = override.key_or_group
            yield f"{key}={value}: expected {describe(type(present))}, as in {key}={present}"


def _node_problems(config: DictConfig, overrides: Sequence[Override]) -> Iterator[str]:
    """What is wrong with the nodes that ``overrides`` touch, or that the recipe feeds."""
    places = [place for o in overrides for place in _prefixes(o.key_or_group)]
    if any(place == "recipe" for place in places):
        places += ["data", "optim", "trainer", "aug.view", "aug.eval_view"]
    for place in dict.fromkeys(places):
        node = OmegaConf.select(config, place, throw_on_missing=False)
        if isinstance(node, DictConfig) and "_target_" in node:
            yield from node_problems(node, place)


def _prefixes(key: str) -> list[str]:
    parts = key.split(".")
    return [".".join(parts[:depth]) for depth in range(1, len(parts) + 1)]


def _compose(config_name: str, overrides: list[str], problems: list[str]) -> DictConfig | None:
    try:
        return compose_config(config_name, overrides)
    except (HydraException, OmegaConfBaseException) as error:
        if not problems:
            problems.append(str(error).strip().splitlines()[0])
        return None


def choices(override: Override) -> list[Any]:
    """The values of an override, several if it is a sweep; of an interval that a search draws from, its two ends."""
    if not override.is_sweep_override():
        return [override.value()]
    if override.is_discrete_sweep():
        return list(override.sweep_iterator())
    interval: Any = override.value()
    return [interval.start, interval.end]


def first(override: Override) -> str:
    """``key=value``, of a sweep with its first value."""
    if not override.is_sweep_override():
        return text(override)
    value = next(override.sweep_string_iterator(), "null") if override.is_discrete_sweep() else choices(override)[0]
    return f"{override.get_key_element()}={value}"


def text(override: Override) -> str:
    """The override as it was given."""
    assert override.input_line is not None
    return override.input_line
