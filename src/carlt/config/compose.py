"""Where the YAML files lie, which options a group has, and how Hydra composes them."""

import functools
import importlib.util
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from carlt.errors import CarltError

ENTRY_POINT = "carlt.conf"
"""The group of entry points by which an installed package offers options: ``own = "own_methods.conf"`` names the folder
``conf/`` of the package ``own_methods``."""
SEARCH_PATH = "hydra.searchpath="

_user_dirs: list[Path] = []


def conf_dir() -> Path:
    """The folder of carlt's YAML files: inside the installed package, or the checkout's ``conf/``."""
    package = Path(__file__).parents[1]
    return next(path for path in (package / "conf", package.parents[1] / "conf") if path.is_dir())


def add_config_dir(folder: Path | str) -> None:
    """Add a folder of the user's own YAML files, laid out as ``conf/``, for the rest of this process.

    Args:
        folder: a path, or as Hydra writes it ``file://<path>`` or ``pkg://<package>.<folder>``.

    Raises:
        CarltError: there is no such folder.
    """
    text = str(folder)
    path = _package_dir(text[6:]) if text.startswith("pkg://") else Path(text.removeprefix("file://")).absolute()
    if path is None or not path.is_dir():
        raise CarltError(f"config folder {folder} does not exist; give the path of one that does")
    if path not in _user_dirs:
        _user_dirs.append(path)


@contextmanager
def config_dir(folder: Path) -> Iterator[None]:
    """Within this context, ``folder`` is one of the user's own."""
    _user_dirs.append(folder)
    try:
        yield
    finally:
        _user_dirs.remove(folder)


def take_search_path(words: Sequence[str]) -> list[str]:
    """Add the folders of ``hydra.searchpath=[folder,...]``, and return the other words.

    Raises:
        CarltError: see :func:`add_config_dir`.
    """
    for word in words:
        if word.startswith(SEARCH_PATH):
            for folder in word.removeprefix(SEARCH_PATH).strip("[]").split(","):
                add_config_dir(folder.strip("'\" "))
    return [word for word in words if not word.startswith(SEARCH_PATH)]


@functools.cache
def installed_dirs() -> tuple[Path, ...]:
    """The folders of YAML files that installed packages offer (``ENTRY_POINT``); their code is not run.

    Raises:
        CarltError: a package offers a folder that it does not have.
    """
    found = []
    for point in entry_points(group=ENTRY_POINT):
        path = _package_dir(point.value)
        if path is None or not path.is_dir():
            raise CarltError(
                f"the installed package of the entry point {ENTRY_POINT}: {point.name} = {point.value} has no such "
                "folder: fix or uninstall the package"
            )
        found.append(path)
    return tuple(found)


def _package_dir(name: str) -> Path | None:
    """The folder that ``package.folder`` names, without an import of the package."""
    package, *folders = name.split(".")
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0]).joinpath(*folders).absolute()


def search_path() -> list[Path]:
    """Folders with further options: the user's own, those of installed packages, and the checkout's ``experiments/``
    (a wheel has its presets in ``conf/``)."""
    experiments = conf_dir().parent / "experiments"
    return [*_user_dirs, *installed_dirs(), *([experiments] if (experiments / "preset").is_dir() else [])]


def is_group(group: str) -> bool:
    """Whether ``conf/`` or a folder of the search path has a folder of this name."""
    return bool(_group_dirs(group))


def group_names() -> list[str]:
    """The config groups, sorted; presets are none."""
    return sorted({path.name for path in conf_dir().iterdir() if path.is_dir()} - {"preset"})


def options(group: str) -> list[str]:
    """The options of a config group, sorted, those of its subfolders included. A name that begins with _ is a shared
    base and no option."""
    found = {
        path.relative_to(folder).with_suffix("") for folder in _group_dirs(group) for path in folder.rglob("*.yaml")
    }
    return sorted(path.as_posix() for path in found if not any(part.startswith("_") for part in path.parts))


def option_file(group: str, option: str) -> Path:
    """The YAML file of an option; CarltError if there is none."""
    for folder in _group_dirs(group):
        if (path := folder / f"{option}.yaml").is_file():
            return path
    raise CarltError(f"{group}={option}: no such {group}; choose from {', '.join(options(group))}")


def read_option(group: str, option: str) -> dict[str, Any]:
    """The content of an option's file; CarltError if there is none, or it is no YAML, or no mapping."""
    path = option_file(group, option)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise CarltError(f"{path} is no YAML file ({' '.join(str(error).split())[:200]}); correct it") from None
    if not isinstance(content, dict):
        raise CarltError(f"{path} holds no mapping of keys to values; correct it")
    return content


def search_path_override() -> str:
    """The override that gives Hydra ``search_path()``."""
    return f"hydra.searchpath=[{','.join(quoted(f'file://{path}') for path in search_path())}]"


def quoted(text: str) -> str:
    r"""``text`` as a value of Hydra's grammar, whatever letters it has.

    >>> print(quoted(r"runs/it's = a\b"))
    'runs/it\'s = a\b'
    """
    return "'" + re.sub(r"(\\*)'", r"\1\1\'", re.sub(r"(\\+)$", r"\1\1", text)) + "'"


def compose_config(config_name: str, overrides: Sequence[str] = (), *, with_hydra: bool = False) -> DictConfig:
    """Compose a config with Hydra's compose API: no job folder, no logging, no change of folder.

    Args:
        overrides: in Hydra's own grammar (see ``carlt.config.overrides.compose_checked`` for a user's).
        with_hydra: keep the node ``hydra``, with the chosen options under ``hydra.runtime.choices``.
    """
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose(config_name, [*overrides, search_path_override()], return_hydra_config=with_hydra)


def _group_dirs(group: str) -> list[Path]:
    return [path for base in (conf_dir(), *search_path()) if (path := base / group).is_dir()] if group else []
