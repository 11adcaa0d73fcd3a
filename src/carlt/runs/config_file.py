"""A run folder's ``config.yaml`` as plain values: bounded in size and depth, and never evaluated."""

from pathlib import Path
from typing import Any

import yaml

from carlt.errors import CarltError
from carlt.runs import paths

MAX_BYTES = 1 << 20
MAX_DEPTH = 40

# libyaml's loader is ten times as fast, and as safe: neither builds anything but plain values.
_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_Base):
    """A loader of plain values that refuses duplicate keys."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        if repeated := [key for key in keys if not isinstance(key, str) or keys.count(key) > 1]:
            raise yaml.YAMLError(f"the key {str(repeated[0])[:40]!r} stands there twice or is no text")
        return super().construct_mapping(node, deep)


def read_config(folder: Path) -> dict[str, Any]:
    """The content of ``config.yaml`` in ``folder``: texts, numbers, lists and mappings.

    Anchors, unknown tags, duplicate keys and interpolations (``${...}``) are refused: carlt writes none, and they could
    take all memory or read the environment of whoever opens the folder.

    Raises:
        CarltError: the file is missing, cannot be read, or is not such a mapping; the message names the reason.
    """
    path = folder / paths.CONFIG
    try:
        with open(path, "rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise CarltError(f"no {paths.CONFIG} in {folder}") from None
    except OSError as error:
        raise CarltError(f"{path} cannot be read ({error.strerror})") from None
    reason = ""
    config: Any = None
    if len(content) > MAX_BYTES:
        reason = "larger than 1 MiB"
    elif b"\0" in content:
        reason = "not UTF-8 text"
    else:
        try:
            text = content.decode("utf-8")
            depth = 0
            for event in yaml.parse(text, _Base):
                if isinstance(event, yaml.AliasEvent):
                    raise yaml.YAMLError("anchors and aliases are not allowed")
                depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
                if depth > MAX_DEPTH:
                    raise yaml.YAMLError(f"nested more than {MAX_DEPTH} levels deep")
            config = yaml.load(text, _Loader)
            if not isinstance(config, dict):
                reason = "no mapping of keys to values"
            elif "${" in text:
                reason = "interpolations (${...}) are not allowed in a stored config"
        except UnicodeDecodeError:
            reason = "not UTF-8 text"
        except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
            reason = getattr(error, "problem", None) or str(error).splitlines()[0]
    if reason:
        raise CarltError(f"{path} is damaged: {reason}")
    return config
