"""The run's hash: two runs with the same hash have the same numbers."""

import hashlib
import json
from typing import Any

from omegaconf import DictConfig, OmegaConf

from carlt.runs.keys import NOT_IN_HASH, SAME_AS_ABSENT
from carlt.runs.resumed import changes


def run_hash(config: DictConfig, data_checksum: str) -> str:
    """sha256 (64 hexadecimal digits) of the values that decide a run's numbers, and of its data.

    A new key in a YAML file changes the hash. A new default in a constructor does not: that is a change of code, and
    ``result.json`` holds the commit.
    """
    plain: Any = OmegaConf.to_container(config, resolve=True)
    deciding = _deciding(plain, "")
    if changed := changes(plain):
        deciding["resumed"] = changed
    content = json.dumps([deciding, data_checksum], sort_keys=True, default=str)
    return hashlib.sha256(content.encode()).hexdigest()


def _deciding(node: Any, place: str) -> Any:
    if not isinstance(node, dict):
        return node
    inside = {name: f"{place}.{name}" if place else str(name) for name in node}
    return {
        str(name): _deciding(value, inside[name])
        for name, value in node.items()
        if inside[name] not in NOT_IN_HASH and value not in SAME_AS_ABSENT.get(inside[name], ())
    }
