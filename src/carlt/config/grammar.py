"""Overrides as Hydra's grammar reads them: ``key=value``, several options, several values."""

from collections.abc import Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override, ValueType
from hydra.errors import HydraException

from carlt.config.compose import is_group, options, quoted

COMBINABLE = ("aug", "logger", "reg")
"""Groups whose options may be combined, as in aug=[randaugment,mixup]."""

NAMED = ("reg",)
"""Those of COMBINABLE whose combined options have their values under their names: reg.car.weight."""


def parse(text: str, problems: list[str]) -> Override | None:
    """An override; None where ``text`` is none, and then the reason is added to ``problems``."""
    try:
        override = OverridesParser.create().parse_override(text)
        if override.value_type == ValueType.GLOB_CHOICE_SWEEP:
            return _expand_glob(override, problems)
        if override.key_or_group in ("resume", "trust") and override.is_add():
            problems.append(f"{text}: give it without +, as in resume=<run folder>")
            return None
        if problem := _empty_sweep(override):
            problems.append(problem)
            return None
        if override.key_or_group:
            return override
    except HydraException:
        pass
    except ValueError as error:  # of range(0,3,0)
        problems.append(f"{text}: {error}; give other values")
        return None
    problems.append(f"{text!r} is not of the form key=value" + _quoting_hint(text))
    return None


def _empty_sweep(override: Override) -> str | None:
    """The problem of several values that are none, or of an interval whose ends are in the wrong order."""
    if not override.is_sweep_override():
        return None
    if override.is_discrete_sweep():
        return None if list(override.sweep_iterator()) else f"{text_of(override)}: no value lies in it; give some"
    interval: Any = override.value()
    wrong = not interval.start < interval.end
    return f"{text_of(override)}: the first end of an interval is the smaller one; exchange them" if wrong else None


def parse_all(overrides: Sequence[str], problems: list[str]) -> list[Override]:
    """The overrides as Hydra composes them, several options of a group in ``NAMED`` one by one."""
    parsed = [override for text in overrides if (override := parse(text, problems))]
    for override in parsed:
        names = override.value() if override.key_or_group in COMBINABLE and not override.is_sweep_override() else None
        if isinstance(names, list) and (twice := sorted({str(name) for name in names if names.count(name) > 1})):
            problems.append(f"{text_of(override)}: {', '.join(twice)} occurs twice; leave one out")
    return [part for override in parsed for part in _split_combined(override)]


def choices(override: Override) -> list[Any]:
    """The values of an override, several if it is a sweep; of a search's interval its two ends."""
    if not override.is_sweep_override():
        return [override.value()]
    if override.is_discrete_sweep():
        return list(override.sweep_iterator())
    interval: Any = override.value()
    return [interval.start, interval.end]


def first(override: Override) -> str:
    """``key=value``, of a sweep with its first value."""
    if not override.is_sweep_override():
        return text_of(override)
    value = next(override.sweep_string_iterator(), "null") if override.is_discrete_sweep() else choices(override)[0]
    return f"{override.get_key_element()}={value}"


def text_of(override: Override) -> str:
    """The override as it was written."""
    assert override.input_line is not None
    return override.input_line


def _split_combined(override: Override) -> list[Override]:
    """``reg=[car,mine]`` as ``reg=several +reg@reg.car=car +reg@reg.mine=mine``; other overrides as they are."""
    group, names = override.key_or_group, override.value()
    if group not in NAMED or override.is_sweep_override() or not isinstance(names, list):
        return [override]
    lines = [f"{group}=several", *(f"+{group}@{group}.{name}={name}" for name in dict.fromkeys(names))]
    return OverridesParser.create().parse_overrides(lines)


def _expand_glob(override: Override, problems: list[str]) -> Override | None:
    """``group=glob(pattern)`` as the options that match the pattern."""
    group, pattern = override.key_or_group, override.value()
    assert isinstance(pattern, Glob)
    if found := pattern.filter(options(group)):
        return OverridesParser.create().parse_override(f"{group}=choice({','.join(found)})")
    why = f"choose from {', '.join(options(group))}" if is_group(group) else "glob() stands for options of a group"
    problems.append(f"{text_of(override)}: nothing fits it; {why}")
    return None


def _quoting_hint(text: str) -> str:
    """A remedy for values with characters of Hydra's grammar, such as = or a comma in a path."""
    key, equals, value = text.partition("=")
    try:
        OverridesParser.create().parse_override(f"{key}=1")
    except HydraException:
        value = ""
    if not (equals and key and value):
        return "; give it as in seed=1"
    return f'; a value with special characters needs quotes: "{key}={quoted(value)}"'
