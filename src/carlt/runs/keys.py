"""Which keys of a config decide a run's numbers, and which only set paths, logging and loading."""

from collections.abc import Iterable
from typing import Any

CHANGE_NO_NUMBER = (
    "resume",
    "run_hash",
    "data_sha256",
    "compute_ms",
    "defaults",
    "objective",
    "launcher",
    "logger",
    "callbacks.progress",
    "callbacks.checkpoints.every_n_steps",
    "data.root",
    "data.test_root",
    "data.num_workers",
)
"""Keys that change no number of a run."""

SAME_AS_ABSENT: dict[str, tuple[Any, ...]] = {
    "trainer.precision": (None, "32-true", "32", 32),
    "trainer.compile": (None, False),
}
"""Values that mean the same as a missing key: neither the hash nor a report tells them apart."""

NOT_IN_HASH = (*CHANGE_NO_NUMBER, "init_run", "recipe", "choices", "resumed")
"""Keys that the run's hash leaves out. Besides those that change no number, these are keys whose content other keys
repeat (``init.weights`` is the checksum of what ``init_run`` names), and ``resumed``: ``run_hash`` adds its changes
itself."""

NOT_IN_REPORT = (*CHANGE_NO_NUMBER, "seed", "init_run", "init.weights", "callbacks")
"""Keys that set no two configurations of a report apart."""

NOT_IN_SWEEP_NAME = (*CHANGE_NO_NUMBER, "hydra")
"""Keys that do not name a sweep's folder: a sweep that stopped on one launcher is finished by another."""

MAY_CHANGE_ON_RESUME = (
    "trainer.max_epochs",
    "trainer.accelerator",
    "trainer.devices",
    "trainer.num_nodes",
    "trainer.strategy",
    "trainer.log_every_n_steps",
    "data.root",
    "data.test_root",
    "data.official",
    "data.on_error",
    "data.num_workers",
    "data.eval_batch_size",
    "logger",
    "callbacks.progress",
    "callbacks.checkpoints.every_n_steps",
)
"""Keys that ``resume=`` may change: the length of the training, paths, devices, and how damaged images are treated."""

AUTOMATIC_KEYS = ("trainer.devices", "trainer.precision", "channels_last")
AUTOMATIC = ("auto", "-1")
"""Values of ``AUTOMATIC_KEYS`` that stand for another value on another machine (-1: all devices)."""


def is_under(key: str, places: Iterable[str]) -> bool:
    """Whether ``key`` is one of ``places`` or lies below one, as ``data.root`` lies below ``data``."""
    return any(key == place or key.startswith((f"{place}.", f"{place}/")) for place in places)
