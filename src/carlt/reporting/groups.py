"""Runs grouped for tables: one table per data set, one row per configuration, its seeds as repetitions."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from carlt.errors import CarltError
from carlt.runs import paths
from carlt.runs.keys import NOT_IN_REPORT, SAME_AS_ABSENT, is_under
from carlt.runs.reading import LeftOut, Run
from carlt.runs.record import ClassResult

CHECKSUM = "data checksum"
OF_STAGE = ("choices.loss", "choices.sampler", "choices.optim")
"""Choices that the name of a second stage already implies."""
OF_ALL = ("choices.data", "choices.family", "choices.recipe", "choices.trainer", "choices.callbacks")
"""Choices that are the same for all configurations of a data set, or implied by others."""
OWN = "image_folder"
"""The name of every data set that is a folder of a user's own."""
BUDGET = ("trainer.max_epochs", "data.batch_size")
"""Keys whose values must agree before two first-stage configurations are compared by default."""


@dataclass(frozen=True)
class Group:
    """The runs of one configuration by seed, and the label that tells it from the others of its data set."""

    label: str
    config: Mapping[str, str]
    runs: Mapping[int, Run]

    @cached_property
    def settings(self) -> dict[str, str]:
        """The values that tell configurations apart in a spreadsheet: the options first, without checksums and what
        other values imply."""
        found = {n: v for n, v in self.config.items() if not (implied(n) or n in OF_ALL or n.endswith("._target_"))}
        names = sorted(found, key=lambda name: not name.startswith("choices."))
        return {name.removeprefix("choices."): found[name] for name in names}

    @property
    def posthoc(self) -> bool:
        """Whether these are records of an adjusted classifier: their training is that of another group."""
        return "choices.posthoc" in self.config

    @property
    def classes(self) -> list[ClassResult]:
        """The classes of the first seed: of all seeds the names, numbers and training images are these."""
        return next(iter(self.runs.values())).classes

    def values(self, metric: str, best: bool = False) -> dict[int, float]:
        """The metric of the last (or best) epoch by seed, without seeds that lack it."""
        values = {seed: run.metric(metric, best) for seed, run in self.runs.items()}
        return {seed: value for seed, value in values.items() if not math.isnan(value)}

    def mean(self, metric: str) -> float:
        """The mean of the metric over the seeds; NaN if no seed has it."""
        values = self.values(metric).values()
        return sum(values) / len(values) if values else math.nan

    def budget_difference(self, other: "Group") -> str:
        """The values of ``BUDGET`` in which this group differs from ``other``, as text; empty if there are none.

        Second stages and post-hoc methods have their own budget, and early records lack some keys: neither counts.
        """
        if not (_is_first_stage(self.config) and _is_first_stage(other.config)):
            return ""
        pairs = {key: (self.config.get(key), other.config.get(key)) for key in BUDGET}
        return ", ".join(
            f"{key}={mine} instead of {theirs}"
            for key, (mine, theirs) in pairs.items()
            if None not in (mine, theirs) and mine != theirs
        )


@dataclass(frozen=True)
class DataSet:
    """All groups of runs on one data set with one imbalance factor."""

    name: str
    num_classes: int
    imbalance_factor: float | None
    groups: Sequence[Group]
    checksum: str = ""
    """Empty unless another data set has the same name and size."""

    @property
    def title(self) -> str:
        factor = f", imbalance factor {self.imbalance_factor:g}" if self.imbalance_factor is not None else ""
        return f"{self.name}, {self.num_classes:,} classes{factor}" + (
            f", checksum {self.checksum}" if self.checksum else ""
        )

    @property
    def runs(self) -> list[Run]:
        return [run for group in self.groups for run in group.runs.values()]

    def baseline(self, wanted: str | None = None) -> Group:
        """The group that the others are compared with.

        Args:
            wanted: a label, or a part of exactly one label. By default the baseline is the first group that has, in
                this order of importance, no second stage, no regularizer, cross-entropy, and the epochs and batch size
                of most other groups.

        Raises:
            CarltError: no label contains ``wanted``, or several do.
        """
        if wanted is not None:
            exact = [group for group in self.groups if group.label == wanted]
            exact = exact or [group for group in self.groups if f", {group.label}".endswith(f"={wanted}")]
            found = exact or [group for group in self.groups if wanted in group.label]
            if len(found) != 1:
                labels = "; ".join(group.label for group in found or self.groups)
                raise CarltError(
                    f"baseline={wanted}: {'several labels contain it' if found else 'no such label'} among {labels}; "
                    "choose one"
                )
            return found[0]

        def plainness(group: Group) -> tuple[bool, bool, bool, int]:
            config = group.config
            same_budget = sum(not other.budget_difference(group) for other in self.groups)
            plain = config.get("choices.reg") == "none", config.get("choices.loss") == "ce"
            return _is_first_stage(config), *plain, same_budget

        return max(self.groups, key=plainness)  # the first of equals

    def led_by(self, first: Group) -> "DataSet":
        """The same data set with this group before the others."""
        return replace(self, groups=sorted(self.groups, key=lambda group: group is not first))


def settings(groups: Sequence[Group]) -> list[str]:
    """The names of the settings that differ among ``groups``, and of all their options, options first."""
    names = list(dict.fromkeys(name for group in groups for name in group.settings))
    options = {name.removeprefix("choices.") for group in groups for name in group.config if "choices." in name}
    return [name for name in names if name in options or len({group.settings.get(name) for group in groups}) > 1]


def shared_options(groups: Sequence[Group]) -> list[str]:
    """The options that all ``groups`` have, as ``loss=ce``; labels lack them."""
    options = {name: value for name, value in groups[0].config.items() if name.startswith("choices.")}
    return [
        _label(options, [name])
        for name in sorted(options, key=lambda name: name.removeprefix("choices.") not in ("model", "loss", "reg"))
        if name not in OF_ALL and all(group.config.get(name) == options[name] for group in groups)
    ]


def drop_repeats(runs: Sequence[Run]) -> tuple[list[Run], list[LeftOut]]:
    """Keep of runs with the same seed, configuration and ``run_hash`` the one that finished last; list the others."""
    latest: dict[tuple[int, str, frozenset[tuple[str, str]]], Run] = {}
    repeats: dict[Path, str] = {}
    for run in sorted(runs, key=lambda run: (run.folder / paths.RESULT).stat().st_mtime_ns, reverse=True):
        key = run.seed, str(run.result.get("run_hash")), frozenset(_configuration(run).items())
        if (last := latest.setdefault(key, run)) is not run:
            repeats[run.folder] = f"the same run as {last.folder}, which finished later"
    left_out = [LeftOut(run.folder, repeats[run.folder]) for run in runs if run.folder in repeats]
    return [run for run in runs if run.folder not in repeats], left_out


def group_by_data_set(runs: Sequence[Run]) -> list[DataSet]:
    """Runs grouped by data set and configuration, in the order found; see :func:`drop_repeats`.

    Raises:
        CarltError: two runs of one configuration have the same seed, but are not the same run.
    """
    found: dict[tuple[str, int, float | None, str], list[Run]] = {}
    for run in runs:
        name, factor = str(run.result["data"].get("name", "?")), _imbalance_factor(run)
        # All folders of a user's own have one name: they are the same data only if their images are.
        images = str(run.result["data"].get("sha256")) if factor is None or name == OWN else ""
        found.setdefault((name, run.result["num_classes"], factor, images), []).append(run)
    sizes = [key[:3] for key in found]
    return [
        DataSet(name, classes, factor, _groups(members), images[:8] if sizes.count((name, classes, factor)) > 1 else "")
        for (name, classes, factor, images), members in found.items()
    ]


def _groups(runs: Sequence[Run]) -> list[Group]:
    found: dict[frozenset[tuple[str, str]], dict[int, Run]] = {}
    configs: dict[frozenset[tuple[str, str]], dict[str, str]] = {}
    for run in runs:
        config = _configuration(run)
        key = frozenset(config.items())
        group = found.setdefault(key, {})
        if run.seed in group:
            raise CarltError(
                f"{run.folder} repeats seed {run.seed} of {group[run.seed].folder} with another run_hash: they differ "
                "in something that tables do not show (data, callbacks); move one of them away"
            )
        group[run.seed], configs[key] = run, config
    labels = _labels([configs[key] for key in found])
    return [
        Group(label, configs[key], dict(sorted(group.items())))
        for label, (key, group) in zip(labels, found.items(), strict=True)
    ]


def _configuration(run: Run) -> dict[str, str]:
    """The values that may differ between configurations of one data set. A null counts as absent, as in the records of
    versions without that key."""
    config = {
        name: value
        for name, value in run.config.items()
        if not is_under(name.removeprefix("choices."), NOT_IN_REPORT)
        if value != "None" and value not in map(str, SAME_AS_ABSENT.get(name, ()))
    }
    if "choices.aug" not in config and any(name.startswith("choices.") for name in config):
        config |= _combined_augmentation(config)
    return config | {CHECKSUM: str(run.result["data"].get("sha256"))[:8]}


def _combined_augmentation(config: Mapping[str, str]) -> dict[str, str]:
    """The choice ``aug`` of a record that lacks it: carlt's first versions did not record combined options."""
    transforms = [name.split(".")[2] for name in config if re.fullmatch(r"aug\.transforms\.[^.]+\._target_", name)]
    mixing = [config[name].rpartition(".")[2].lower() for name in ("aug.mix._target_",) if name in config]
    return {"choices.aug": "+".join([*transforms, *mixing])} if transforms or mixing else {}


def _labels(configs: Sequence[Mapping[str, str]]) -> list[str]:
    """The values in which each configuration differs, as few as suffice; a number where even all are not enough."""
    names = list(dict.fromkeys(name for config in configs for name in config))
    names.sort(key=lambda name: not name.startswith("choices."))  # reg=car, reg.weight=2
    differing = [name for name in names if len({config.get(name) for config in configs}) > 1]
    labels = [_label(config, [name for name in differing if _differs(name, config, configs)]) for config in configs]
    twice = {label for label in labels if labels.count(label) > 1}
    labels = [_label(c, differing) if label in twice else label for c, label in zip(configs, labels, strict=True)]
    labels = [label or ("plain" if len(configs) > 1 else "all runs") for label in labels]
    return [f"{label} ({labels[:i].count(label) + 1})" if labels.count(label) > 1 else label
            for i, label in enumerate(labels)]  # fmt: skip


def _label(config: Mapping[str, str], names: Sequence[str]) -> str:
    return ", ".join(f"{name.removeprefix('choices.')}={config[name]}" for name in names if name in config)


def _differs(name: str, config: Mapping[str, str], configs: Sequence[Mapping[str, str]]) -> bool:
    """Whether a value of ``config`` differs among the configurations of its stage with the same option of its group."""
    group = name.split(".")[0]
    if implied(name):
        return False
    choice = f"choices.{group}"
    peers = [other for other in configs if _stage(other) == _stage(config)]
    if group == "choices":
        return name not in OF_STAGE or len({other.get(name) for other in peers}) > 1
    if name.endswith("._target_"):  # another choice may bring this class, as a contrastive loss brings its views
        peers = [other for other in peers if _choices(other) == _choices(config)]
    return len({other.get(name) for other in peers if other.get(choice) == config.get(choice)}) > 1


def implied(name: str) -> bool:
    """Whether other values imply the value of this key."""
    return name.split(".")[0] == "recipe" or name == CHECKSUM


def _choices(config: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in config.items() if name.startswith("choices.")}


def _is_first_stage(config: Mapping[str, str]) -> bool:
    return _stage(config) == "None" and "choices.posthoc" not in config


def _stage(config: Mapping[str, str]) -> str:
    return config.get("choices.stage", "None")


def _imbalance_factor(run: Run) -> float | None:
    text = run.config.get("data.imbalance_factor")
    try:
        return float(text) if text is not None else None
    except ValueError:
        return None
