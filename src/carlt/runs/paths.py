"""The names of the files of a run folder."""

from pathlib import Path

CONFIG = "config.yaml"
OVERRIDES = "overrides.yaml"
RESULT = "result.json"
METRICS = "metrics.csv"
PER_CLASS = "per_class.csv"
CONFUSION = "confusion.npz"
CHECKPOINTS = "checkpoints"
LOCK = ".lock"


def checkpoint(run_dir: Path, which: str) -> Path:
    """The checkpoint ``last`` or ``best`` of a run."""
    return run_dir / CHECKPOINTS / f"{which}.ckpt"


def write_text_atomic(path: Path, text: str) -> None:
    """Write a file whole or not at all: beside its place first, then moved over it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".part")
    beside.write_text(text)
    beside.replace(path)
