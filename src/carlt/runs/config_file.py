"""A run folder's ``config.yaml`` as plain values: bounded in size and depth, and never evaluated."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from carlt.errors import CarltError, first_line
from carlt.runs import paths
from carlt.runs.resumed import is_sound

MAX_BYTES = 1 << 20
MAX_DEPTH = 40
MAX_LETTERS = 4096
"""The most letters of one value: the time to read a long number in YAML grows with the square of its length."""

SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
"""How YAML writes a byte of a path that is no UTF-8."""


def _loader(base: Any) -> Any:
    """A loader of plain values that refuses duplicate keys."""

    class Loader(base):
        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            seen: set[str] = set()
            for key, _ in node.value:
                name = self.construct_object(key, deep=True)
                if not isinstance(name, str) or name in seen:
                    raise yaml.YAMLError(f"the key {str(name)[:40]!r} occurs twice or is no text")
                seen.add(name)
            return super().construct_mapping(node, deep)

    return Loader


# libyaml's loader is ten times as fast, and as safe: neither builds anything but plain values. It refuses surrogates.
_FAST, _WITH_SURROGATES = map(_loader, (getattr(yaml, "CSafeLoader", yaml.SafeLoader), yaml.SafeLoader))


def _problems(value: Any) -> Iterator[str]:
    """What in ``value`` is no plain value, or would be evaluated; an escape may hide it from a search in the file."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _problems(key)
            yield from _problems(item)
    elif isinstance(value, list):
        for item in value:
            yield from _problems(item)
    elif isinstance(value, str):
        if "${" in value:
            yield "interpolations (${...}) are not allowed in a stored config"
        elif value == "???":
            yield "a value is missing (???)"
    elif not isinstance(value, bool | int | float | None):
        yield f"a value of the kind {type(value).__name__}"


def read_config(folder: Path) -> dict[str, Any]:
    """The content of ``config.yaml`` in ``folder``: texts, numbers, lists and mappings.

    Anchors, unknown tags, duplicate keys and interpolations (``${...}``) are refused: carlt writes none, and they could
    take all memory or read the environment of whoever opens the folder.

    Raises:
        CarltError: the file is missing, cannot be read, or is not such a mapping; the message names the reason.
    """
    path = folder / paths.CONFIG
    try:
        paths.check_file(path, str(path), MAX_BYTES)
        return _parsed(path.read_bytes())
    except FileNotFoundError:
        raise CarltError(f"no {paths.CONFIG} in {folder}") from None
    except OSError as error:
        raise CarltError(f"{path} cannot be read ({error.strerror})") from None
    except CarltError:
        raise
    except UnicodeDecodeError:
        reason = "not UTF-8 text"
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        reason = getattr(error, "problem", None) or first_line(error)
    raise CarltError(f"{path} is damaged: {reason}")


def _parsed(content: bytes) -> dict[str, Any]:
    """The mapping in ``content``; ValueError or an error of YAML's for anything that carlt does not write."""
    text, depth = content.decode("utf-8"), 0
    if "\0" in text:
        raise ValueError("not UTF-8 text")
    loader = _WITH_SURROGATES if SURROGATE.search(text) else _FAST
    for event in yaml.parse(text, loader):
        if isinstance(event, yaml.AliasEvent):
            raise yaml.YAMLError("anchors and aliases are not allowed")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise yaml.YAMLError(f"nested more than {MAX_DEPTH} levels deep")
        if isinstance(event, yaml.ScalarEvent) and len(event.value) > MAX_LETTERS:
            raise yaml.YAMLError(f"a value of more than {MAX_LETTERS:,} letters")
    config = yaml.load(text, loader)
    if not isinstance(config, dict):
        raise ValueError("no mapping of keys to values")
    if problem := next(_problems(config), ""):
        raise ValueError(problem)
    if not is_sound(config.get("resumed")):
        raise ValueError("resumed is no list of changes")
    return config
