"""Keys that no constructor declares: their ranges, and what a command line must leave in its place."""

from collections.abc import Iterator, Sequence
from typing import Any, Literal

from hydra.core.override_parser.types import Override

from carlt.config.compose import options, read_option
from carlt.config.schema import suggest
from carlt.ranges import Count, Seed, value_problem

KINDS: dict[str, Any] = {
    "seed": Seed,
    "channels_last": bool | Literal["auto"],
    "hydra.verbose": bool | str | list[str],
    "hydra.sweeper.n_trials": Count,
    "hydra.launcher.n_jobs": Count | Literal[-1],
}
"""The kinds of plain keys; any other keeps the type of its present value."""

NEEDED = ("trainer.max_epochs", "callbacks.checkpoints")
"""Keys besides those at the root without which a run cannot be made, resumed or evaluated."""

SINGLE = ("mix", "paste", "second", "relabel", "view")
"""The parts of ``aug`` of which a run has one."""


def kind_problems(override: Override, values: Sequence[Any]) -> Iterator[str]:
    """The values of an override outside the kind that ``KINDS`` gives its key."""
    for value in values:
        if problem := value_problem(override.key_or_group, value, KINDS[override.key_or_group]):
            yield problem


def objective_problems(values: Sequence[Any]) -> Iterator[str]:
    """Objectives of a search that no run measures."""
    from carlt.metrics import metric_names
    from carlt.reporting.summary import COLUMNS

    minimised = {column.metric.removeprefix("test/") for column in COLUMNS if column.less_is_better}
    known = [f"val/{name}" for name in metric_names() if name not in minimised]
    for value in values:
        for name in value if isinstance(value, list) and value else [value]:
            if str(name).removeprefix("val/") in minimised:
                yield f"objective={name}: a search maximises, and less of it is better; choose from {', '.join(known)}"
            elif name not in known:
                yield f"objective={name}: a search maximises a metric of the validation split; {suggest(name, known)}"


def removal_problem(override: Override) -> str | None:
    """The problem of ``~key`` or ``key=null`` where a run needs the key."""
    key = override.key_or_group
    removed = override.is_delete() or (key in NEEDED and not override.is_sweep_override() and override.value() is None)
    if removed and ("." not in key or key in NEEDED):
        return f"{'~' if override.is_delete() else ''}{key}: every run needs it; give it another value instead"
    return None


def conflicts(overrides: Sequence[Override]) -> Iterator[str]:
    """Combined augmentations of which only the last would act, because they set the same part."""
    for override in overrides:
        names = override.value() if override.key_or_group == "aug" and not override.is_sweep_override() else None
        setters: dict[str, list[str]] = {}
        for name in names if isinstance(names, list) else ():
            if str(name) in options("aug"):
                content = read_option("aug", str(name))
                for part in SINGLE:
                    if content.get(part):
                        setters.setdefault(part, []).append(str(name))
        for part, both in setters.items():
            if len(both) > 1:
                yield f"aug={'+'.join(both)}: each sets aug.{part}, so only the last would act; leave one out"
