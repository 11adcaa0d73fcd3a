"""Defaults that were other ones when a run was recorded: its config gets them, so that it stays the run it was.

A config names only what its YAML chose. When the default of a constructor changes, ``VERSION`` rises by one and ``OLD``
gets the old value; ``config.yaml`` holds the version that its run was made with.
"""

from typing import Any

VERSION = 3
KEY = "defaults"
"""The root key of ``config.yaml`` with the version; a config without it has version 1."""

_FROZEN = {"updates_statistics": False}
OLD: dict[int, dict[str, dict[str, dict[str, Any]]]] = {
    1: {
        "loss": {
            "ClassBalanced": {"divide_by": "weights"},
            "ClassBalancedFocal": {"_target_": "carlt.losses.Focal", "effective_number_beta": 0.9999},
            "GLMC": {"joint": True},
            "LADE": {"penalty": 0.1, "ratio": "sample"},
            "PaCo": {"dim": 64},
            "Seesaw": {"eps": 0.0},
        },
        "optim": {"AdamW": {"gamma": 0.1}, "SGD": {"gamma": 0.1}},
        "sampler": {"ClassAware": {"shuffle": False}},
        "stage": {
            **dict.fromkeys(("CRT", "GMLNOLB", "LOS", "LWS", "DisAlign"), _FROZEN),
            "MiSLAS": {"lr_factor": 1.0},
            "WeightBalancing": {**_FROZEN, "project": "step"},
        },
    },
    2: {"loss": {"LabelAwareSmoothing": {"over": "others"}}},
}
"""The values up to a version, by node and class."""


def with_old_defaults(config: dict[str, Any]) -> dict[str, Any]:
    """A stored config with the defaults of its time in its nodes, and today's version."""
    recorded = config.get(KEY, 1)
    if recorded == VERSION:
        return config
    result = {**config, KEY: VERSION}
    for version, places in OLD.items():
        if isinstance(recorded, int) and version < recorded:
            continue
        for place, classes in places.items():
            node = result.get(place)
            if isinstance(node, dict) and (old := classes.get(str(node.get("_target_")).rpartition(".")[2])):
                replaced = {"_target_": old["_target_"]} if "_target_" in old else {}
                result[place] = {**old, **node, **replaced}
    return result
