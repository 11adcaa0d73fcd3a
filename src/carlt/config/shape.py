"""The shape of a stored config: which parts it has, and that each is one, checked before anything reads it."""

from collections.abc import Iterator, Mapping
from typing import Any

from carlt.ranges import Seed, value_problem

PARTS = ("data", "model", "loss", "reg", "optim", "sampler", "trainer", "aug.view", "aug.eval_view")
"""Nodes that every run has, each with a ``_target_``."""
PARTS_OR_NULL = ("stage", "aug.mix", "aug.paste", "aug.second", "aug.relabel", "aug.contrast")
NAMED_PARTS = ("aug.transforms", "callbacks", "logger")
"""Mappings from names to parts."""
VALUES = ("data.image_size", "trainer.max_epochs")
"""Values that no constructor has a default for."""
KINDS: dict[str, type | tuple[type, ...]] = {
    "seed": int,
    "choices": dict,
    "init_run": str,
    "init": dict,
    "channels_last": (bool, str),
    "posthoc": dict,
    "run_hash": str,
    "data_sha256": str,
}
"""Keys that are no parts; each but the seed may be null or missing."""


def shape_problems(plain: Mapping[str, Any]) -> Iterator[str]:
    """What a stored config lacks, or has in the place of something else."""
    for place in PARTS + PARTS_OR_NULL:
        node = _at(plain, place)
        if not _is_part(node) and not (place in PARTS_OR_NULL and node is None):
            yield f"{place} is no part of a run (a mapping with a _target_)"
    for place in NAMED_PARTS:
        node = _at(plain, place)
        if node is not None and not (isinstance(node, dict) and all(x is None or _is_part(x) for x in node.values())):
            yield f"{place} is no mapping of names to parts of a run"
    for place in VALUES:
        if _at(plain, place) is None:
            yield f"{place} is missing"
    for key, kind in KINDS.items():
        value = plain.get(key)
        wrong = not isinstance(value, kind) or (kind is int and isinstance(value, bool))
        if wrong and (key == "seed" or value is not None):
            yield f"{key}={str(value)[:40]!r} is of another type than carlt writes"
        elif key == "seed" and (problem := value_problem(key, value, Seed)):
            yield problem
    for name, choice in (plain.get("choices") or {}).items() if isinstance(plain.get("choices"), dict) else ():
        if not isinstance(choice, str | list | None):
            yield f"choices.{name} is no name"


def _is_part(node: Any) -> bool:
    return isinstance(node, dict) and isinstance(node.get("_target_"), str)


def _at(plain: Any, place: str) -> Any:
    for key in place.split("."):
        plain = plain.get(key) if isinstance(plain, dict) else None
    return plain
