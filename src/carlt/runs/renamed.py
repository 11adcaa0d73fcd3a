"""Names of classes and parameters that have changed since runs were recorded."""

from typing import Any

PACKAGES = {
    "carlt.optim": "carlt.training.optim",
    "carlt.loggers": "carlt.training.loggers",
    "carlt.callbacks": "carlt.training.callbacks",
    "carlt.data.samplers": "carlt.samplers",
}
"""Packages that moved."""

CLASSES = {"carlt.reg.Several": "carlt.reg.SumOfRegularizers", "carlt.stages.GMLNOLB": "carlt.stages.CRT"}
"""Classes that were renamed, by their full name after the move of their package."""

KEYS = {"loss": {"reweight": "effective_number_beta", "reweight_from": "drw_start"}}
"""Constructor parameters that were renamed, by node."""


def with_new_names(config: dict[str, Any]) -> dict[str, Any]:
    """A stored config with today's names of packages, classes and parameters."""

    def walk(node: Any, place: str) -> Any:
        if isinstance(node, list):
            return [walk(item, place) for item in node]
        if not isinstance(node, dict):
            return node
        renamed = KEYS.get(place.partition(".")[0], {})
        found = {
            renamed.get(str(key), key): walk(value, f"{place}.{key}" if place else str(key))
            for key, value in node.items()
        }
        if isinstance(target := found.get("_target_"), str):
            module, dot, name = target.rpartition(".")
            target = PACKAGES.get(module, module) + dot + name
            found["_target_"] = CLASSES.get(target, target)
        return found

    return walk(config, "")
