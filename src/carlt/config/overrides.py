"""The overrides of a command line: parsed with Hydra's grammar, checked as a whole, and put into a config.

Every mistake is found before anything runs, and all of them are in one error.
"""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import yaml
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from carlt.config import plain_keys
from carlt.config.compose import compose_config, group_names, is_group, options, read_option
from carlt.config.grammar import COMBINABLE, NAMED, choices, first, parse, parse_all, text_of
from carlt.config.recipes import family_problems, implied_recipe, optimizer_problems
from carlt.config.schema import (
    INJECTED,
    joined_error,
    nearest,
    node_problems,
    suggest,
    target_nodes,
)
from carlt.config.shape import shape_problems
from carlt.config.targets import settable
from carlt.errors import CarltError, first_line
from carlt.ranges import Count, describe_type, matches, value_problem

OPTIONAL = ("preset", "stage")
"""Groups of which a run need not have an option."""


def compose_checked(config_name: str, overrides: Sequence[str]) -> DictConfig:
    """The config of a command line, composed once, with every value checked; its node ``hydra`` is Hydra's.

    Groups are composed by Hydra; values are then set in the result, so that any parameter of a part's constructor can
    be set, whether a YAML lists it or not.

    Raises:
        CarltError: lists every mistake: its value, its place and the choices.
    """
    return _checked(config_name, overrides)[0]


def sweep_overrides(config_name: str, overrides: Sequence[str]) -> list[str]:
    """``overrides`` in the form in which Hydra composes the jobs of a sweep: a parameter that no YAML lists becomes
    ``++key=value``. Every value of the sweep is checked; the structure is checked with the first.

    Raises:
        CarltError: see :func:`compose_checked`.
    """
    return _checked(config_name, overrides)[1]


def apply_values(config: DictConfig, overrides: Sequence[str]) -> None:
    """Set values in a complete config in place.

    Raises:
        CarltError: lists every override that does not fit it.
    """
    problems: list[str] = []
    parsed = [override for text in overrides if (override := parse(text, problems))]
    parts = [o for o in parsed if isinstance(OmegaConf.select(config, o.key_or_group), DictConfig)]
    problems += [
        f"{o.key_or_group}: the parts of a finished or interrupted run are fixed; leave it out, only values can change"
        for o in parts
    ]
    parsed = [o for o in parsed if o not in parts]
    checked = _check_values(config, parsed, problems)
    _set_values(config, checked)
    _resolved(config, problems)
    problems += [problem for place, node in _touched_nodes(config, parsed) for problem in node_problems(node, place)]
    if problems:
        raise joined_error(problems)


def list_options() -> str:
    """The options of each group for --help, the user's own too, and the presets, one paragraph per folder."""
    shown = {group: [name for name in options(group) if (group, name) != ("reg", "several")] for group in group_names()}
    listed = [_wrapped(f"{group}: {', '.join(names)}") for group, names in shown.items()]
    heading = (
        "Presets (preset=name, where {a, b} stands for one of them, as in preset=main/cifar100_lt_car; what each is, "
        "and its command: experiments/preset/README.md)"
    )
    presets = map(_wrapped, _folded(options("preset"), options("data")))
    return "\n".join([*listed, "", textwrap.fill(heading, 110), "", *presets])


def _folded(presets: Sequence[str], data_sets: Sequence[str]) -> Iterator[str]:
    """Names of presets, shorter: those of one folder that differ in the data set or in what follows it are together.

    >>> list(_folded(["own", "t/cifar_car", "t/cifar_ce", "t/digits_car", "t/digits_ce"], ["cifar", "digits"]))
    ['own', 't/{cifar, digits}_{car, ce}']
    """
    data_of: dict[tuple[str, str], list[str]] = {}  # by folder and method
    for name in presets:
        folder, slash, own = name.rpartition("/")
        data = max((each for each in data_sets if own.startswith(each)), key=len, default="")
        data_of.setdefault((folder + slash, own.removeprefix(data)), []).append(data)
    methods: dict[str, list[str]] = {}  # by what stands before them
    for (folder, method), sets in data_of.items():
        shared = folder + _one_of(sets) + "_" * method.startswith("_")
        methods.setdefault(shared, []).append(method.removeprefix("_"))
    for shared, names in methods.items():
        yield shared + _one_of(names) if shared else ", ".join(names)


def _one_of(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{{{', '.join(names)}}}"


def _wrapped(text: str) -> str:
    return textwrap.fill(text, 110, subsequent_indent="  ")


def check_single(overrides: Sequence[str]) -> None:
    """CarltError if a key has several values, or is one that only a sweep can have."""
    parsed = [override for text in overrides if (override := parse(text, []))]
    for override in parsed:
        if override.key_or_group in ("launcher", "sweep") and override.value() not in ("basic", "grid"):
            raise CarltError(f"{text_of(override)}: only a sweep has it; add -m, as in python -m carlt.train -m ...")
    if several := [o.key_or_group for o in parsed if o.is_sweep_override()]:
        combined = next((o for o in parsed if o.is_sweep_override() and o.key_or_group in COMBINABLE), None)
        together = (
            f"; together they are {combined.key_or_group}=[{','.join(map(str, choices(combined)))}]" if combined else ""
        )
        raise CarltError(
            f"{', '.join(several)}: several values make a sweep; add -m, as in python -m carlt.train -m ...{together}"
        )


def _checked(config_name: str, overrides: Sequence[str]) -> tuple[DictConfig, list[str]]:
    problems: list[str] = []
    parsed = parse_all(overrides, problems)
    # Hydra cannot express an empty choice; leaving the group out means the same.
    parsed = [o for o in parsed if o.key_or_group not in OPTIONAL or o.value() is not None]
    of_hydra = [o for o in parsed if o.key_or_group.startswith("hydra")]
    groups = [o for o in parsed if is_group(o.key_or_group) and o not in of_hydra]
    values = [o for o in parsed if o not in of_hydra and o not in groups]
    wrong = {id(o): list(_group_problems(o)) for o in groups}
    problems += [problem for found in wrong.values() for problem in found]
    given = {override.key_or_group: choices(override) for override in parsed}
    problems += family_problems(given)
    sound = [first(o) for o in groups if not wrong[id(o)]]
    recipe = implied_recipe(given)
    problems += plain_keys.conflicts(groups)
    for override in of_hydra:
        if override.key_or_group in plain_keys.KINDS:
            problems += plain_keys.kind_problems(override, choices(override))
    config = _compose(config_name, [*sound, *recipe, *(text_of(o) for o in of_hydra)], problems)
    checked = _check_values(config, values, problems) if config is not None else []
    if config is not None:
        if not any(wrong.values()):
            problems += optimizer_problems(config_name, given, [*sound, *recipe])
        with open_dict(config):
            _set_values(config, checked)
            # Hydra composed the groups alone; the record names a class that replaces that of an option.
            config.hydra.overrides.task += [first(o) for o in checked if o.key_or_group.endswith("._target_")]
        if misshapen := [f"{problem}; give one" for problem in shape_problems(_resolved(config, problems))]:
            raise joined_error(problems or misshapen)
        problems += _adapter_problems(config)
        problems += _launcher_problems(config, given)
        # With a mistake found already, only what the command line touches: other nodes may be wrong because of it.
        nodes = _touched_nodes(config, values) if problems else target_nodes(config)
        problems += [problem for place, node in nodes for problem in node_problems(node, place)]
    if problems:
        raise joined_error(problems)
    assert config is not None
    return config, [_for_hydra(o, config) for o in of_hydra + groups + checked] + recipe


def _resolved(config: DictConfig, problems: Sequence[str]) -> Any:
    """``config`` as plain values, without Hydra's node.

    Raises:
        CarltError: ``problems`` if there are any, else the first interpolation (``${...}``) that does not resolve.
    """
    own = OmegaConf.masked_copy(config, _names(config))
    try:
        return OmegaConf.to_container(own, resolve=True, throw_on_missing=False)
    except OmegaConfBaseException as error:
        broken = f"{error.full_key}: {first_line(error)}; give {error.full_key} a value"
        raise joined_error(problems or [broken]) from None


def _adapter_problems(config: DictConfig) -> Iterator[str]:
    model: Any = config.get("model") or {}
    if model.get("adapter") and not (model.get("pretrained") or model.get("weights")):
        yield (
            f"model.adapter={model.adapter} leaves the network's weights as they are, and they are random: "
            "add model.pretrained=true or model.weights=<file>"
        )


def _launcher_problems(config: DictConfig, given: Mapping[str, list[Any]]) -> Iterator[str]:
    """``launcher=slurm`` asks for as many tasks as there are devices before any job runs, and for all jobs alike."""
    launcher: Any = OmegaConf.to_container(config.hydra.launcher, resolve=False)
    if "${trainer.devices}" in launcher.values():
        devices = given.get("trainer.devices", [config.trainer.devices])
        if len(devices) > 1 or not matches(devices[0], Count):
            asked = ",".join(map(str, devices))
            yield (
                f"trainer.devices={asked}: launcher=slurm asks the cluster for one number of devices; give "
                "trainer.devices=<number>"
            )


def _for_hydra(override: Override, config: DictConfig) -> str:
    """The text that lets Hydra set a value which only a constructor declares."""
    text = text_of(override)
    is_value = not (is_group(override.key_or_group) or override.key_or_group.startswith("hydra"))
    if is_value and not text.startswith(("+", "~")) and "_target_" in (_parent(config, override) or {}):
        return "++" + text
    return text


def _parent(config: DictConfig, override: Override) -> Any:
    place = override.key_or_group.rpartition(".")[0]
    return OmegaConf.select(config, place) if place else config


def _set_values(config: DictConfig, overrides: Sequence[Override]) -> None:
    for override in overrides:
        if override.is_delete():
            parent = _parent(config, override)
            with open_dict(parent):
                parent.pop(override.key_or_group.rpartition(".")[2], None)
        else:
            OmegaConf.update(config, override.key_or_group, choices(override)[0], force_add=True)


def _group_problems(override: Override) -> Iterator[str]:
    group = override.key_or_group
    for choice in choices(override):
        if isinstance(choice, list) and group in NAMED:  # one that is not swept is split by now
            text = text_of(override)
            yield f"{text}: a sweep tries single options of {group}; give each combination its own command"
            continue
        if isinstance(choice, list) and group not in COMBINABLE:
            yield f"{text_of(override)}: only {', '.join(COMBINABLE)} take several options; -m {group}=a,b tries each"
            continue
        names = choice if isinstance(choice, list) else [choice]
        for name in names:
            word = "null" if name is None else str(name)
            if word not in options(group):
                remedy = f"model=timm model.name={word} takes it from timm; " if group == "model" else ""
                yield (
                    f"{group}={word}: no such {group}; {remedy}{_nearest(word, options(group))}; one of your own needs "
                    "--config-dir <folder>"
                )


def _nearest(name: str, known: Sequence[str]) -> str:
    """The nearest known names, and all of them if there are at most 40."""
    if len(known) <= 40:
        return suggest(name, known)
    near = nearest(name, known, 5)
    return (f"did you mean {' or '.join(near)}? " if near else "") + f"--help lists all {len(known)}"


def _check_values(config: DictConfig, overrides: Sequence[Override], problems: list[str]) -> list[Override]:
    """The overrides whose key is in ``config`` or in a constructor, and whose value has the right type."""
    checked = []
    targets = _given_targets(overrides)
    for override in overrides:
        key = override.key_or_group
        parent, _, name = key.rpartition(".")
        node = OmegaConf.select(config, parent) if parent else config
        if node is None and parent in targets:
            node = OmegaConf.create({})  # a new part, e.g. callbacks.mine._target_=my_methods.MyCallback
        if not isinstance(node, DictConfig):
            place = next(p for p in _prefixes(parent) if not isinstance(OmegaConf.select(config, p), DictConfig))
            problems.append(f"{key}: there is no group of values {place!r}; {suggest(place, _names(config))}")
        elif override.is_delete() and name not in node:
            problems.append(f"~{key}: there is no {name!r} to delete; {suggest(name, _names(node))}")
        elif problem := plain_keys.removal_problem(override):
            problems.append(problem)
        elif override.is_delete():
            checked.append(override)
        elif target := targets.get(parent, node.get("_target_")):
            try:
                parameters = settable(target)
            except CarltError as error:
                problems.append(f"{parent}: {error}")
                continue
            if override.is_sweep_override() and name in parameters:
                # node_problems checks a single value; of a sweep it checks the first.
                found = [value_problem(key, v, parameters[name].annotation) for v in choices(override)]
                problems += [problem for problem in found if problem]
            if name == "_target_" or name in node or name in parameters:
                checked.append(override)
            else:
                known = sorted({*parameters, *_names(node)} - INJECTED - {"_target_"})
                others = _options_with(parent, name)
                elsewhere = f"; options that take it: {parent}={', '.join(others)}" if others else ""
                problems.append(f"{key}: {target} takes no {name!r}{elsewhere}; {suggest(name, known)}")
        elif name not in node:
            near = " or ".join(_places_of(config, name)) if not parent else ""
            known = [*_names(node), *(() if parent else OPTIONAL)]
            problems.append(f"{key}: there is no {name!r}; {f'did you mean {near}?' if near else suggest(name, known)}")
        elif wrong := list(_kind_problems(node, name, override)):
            problems += wrong
        else:
            checked.append(override)
    return checked


def _options_with(group: str, name: str) -> list[str]:
    """The options of ``group`` whose class has a parameter ``name``."""
    found = []
    for option in options(group):
        with suppress(CarltError):  # one that is damaged, or whose class is not there
            if (target := _target_of(group, option)) and name in settable(target):
                found.append(option)
    return found


def _target_of(group: str, option: str) -> str | None:
    """The class that an option names, or that an option of the same group which it is based on names."""
    content = read_option(group, option)
    if target := content.get("_target_"):
        return str(target)
    bases = [base for base in content.get("defaults") or () if base in options(group) and base != option]
    return _target_of(group, bases[0]) if bases else None


def _places_of(config: DictConfig, name: str) -> Iterator[str]:
    """The keys of the parts of a run that end in ``name``: ``optim.lr`` for ``lr``."""
    for part in _names(config):
        node = config[part]
        if isinstance(node, DictConfig) and "_target_" in node:
            with suppress(CarltError):  # a class that is not there is named elsewhere
                if name in {*node, *settable(node["_target_"])}:
                    yield f"{part}.{name}"


def _given_targets(overrides: Sequence[Override]) -> dict[str, str]:
    """The classes that a command line names itself, by their place: the values beside them are for these."""
    named = [override for override in overrides if override.key_or_group.endswith("._target_")]
    return {o.key_or_group.removesuffix("._target_"): str(choices(o)[0]) for o in named if not o.is_delete()}


def _names(node: DictConfig) -> list[str]:
    return sorted(str(name) for name in node if name != "hydra")


def _kind_problems(node: DictConfig, name: str, override: Override) -> Iterator[str]:
    """A plain key, which no constructor declares, keeps the type of its present value; null may become anything."""
    present, given = OmegaConf.select(node, name, throw_on_missing=False), choices(override)
    references = [value for value in given if isinstance(value, str) and "${" in value]
    if override.key_or_group in plain_keys.KINDS and not references:
        yield from plain_keys.kind_problems(override, given)
        return
    if override.key_or_group == "objective":
        yield from plain_keys.objective_problems(given)
        return
    for value in given:
        if (
            isinstance(present, bool | int | float | str)
            and value not in references
            and not matches(value, type(present))
        ):
            key = override.key_or_group
            yield f"{key}={value}: expected {describe_type(type(present))}, as in {key}={present}"


def _touched_nodes(config: DictConfig, overrides: Sequence[Override]) -> Iterator[tuple[str, DictConfig]]:
    """The nodes that ``overrides`` change, or that take values of the recipe, each with its place."""
    places = [place for o in overrides for place in _prefixes(o.key_or_group)]
    if any(place == "recipe" for place in places):
        places += ["data", "optim", "trainer", "aug.view", "aug.eval_view"]
    for place in dict.fromkeys(places):
        node = OmegaConf.select(config, place, throw_on_missing=False)
        if isinstance(node, DictConfig) and "_target_" in node:
            yield place, node


def _prefixes(key: str) -> list[str]:
    parts = key.split(".")
    return [".".join(parts[:depth]) for depth in range(1, len(parts) + 1)]


def _compose(config_name: str, overrides: list[str], problems: list[str]) -> DictConfig | None:
    try:
        return compose_config(config_name, overrides, with_hydra=True)
    except (yaml.YAMLError, UnicodeDecodeError) as error:  # an option file of the user's own
        reason = " ".join(str(error).split())[:300]
        problems.append(_damaged_option(overrides) or f"an option file is no YAML file ({reason}); correct it")
        return None
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        group, _, name = str(getattr(error, "missing_cfg_file", None) or "").partition("/")
        if is_group(group):  # named by a YAML file, not by the command line
            problems.append(f"{group}={name}: no such {group}; {_nearest(name, options(group))}")
        elif not problems:
            lines = [first_line(each) for each in (error, error.__cause__) if each and str(each)]
            problems.append(": ".join(dict.fromkeys(line.rstrip(".") for line in lines)) + "; --hydra-help lists keys")
        return None


def _damaged_option(overrides: Sequence[str]) -> str | None:
    """What is wrong with the first file of the chosen options that is no YAML."""
    for text in overrides:
        group, _, names = text.partition("=")
        for name in names.strip("[]").split(",") if is_group(group) else ():
            try:
                read_option(group, name)
            except CarltError as error:
                return str(error)
    return None
