"""What ``resume=`` changed in a run, and after which epoch."""

from collections.abc import Mapping
from typing import Any

from carlt.runs.keys import CHANGE_NO_NUMBER, is_under


def changes(config: Mapping[str, Any]) -> list[str]:
    """The changes under ``resumed`` that may change numbers.

    >>> changes({"resumed": [{"from_epoch": 3, "values": {"trainer.max_epochs": 9, "data.num_workers": 0}}]})
    ['trainer.max_epochs=9 after epoch 3']
    """
    return [
        f"{key}={value} after epoch {entry['from_epoch']}"
        for entry in config.get("resumed") or []
        for key, value in entry["values"].items()
        if not is_under(key, CHANGE_NO_NUMBER)
    ]


def is_sound(entries: Any) -> bool:
    """Whether ``entries`` is what carlt writes under ``resumed``, or nothing."""
    return not entries or (isinstance(entries, list) and all(map(_is_entry, entries)))


def _is_entry(entry: Any) -> bool:
    if not isinstance(entry, dict) or not isinstance(values := entry.get("values"), dict):
        return False
    return isinstance(entry.get("from_epoch", ""), int | None) and all(isinstance(key, str) for key in values)
