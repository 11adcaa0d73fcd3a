"""What happens before the first and after the last job of a sweep, as a Hydra callback."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback

from carlt.sweeps.plan import Sweep, begin, conclude


class SweepCallback(Callback):
    """Deletes the job records of an earlier command, and at the end prints the table of the finished jobs.

    Args:
        folder, keys, jobs, search: of the sweep, see ``carlt.sweeps.plan.Sweep``; ``plan`` gives them to Hydra.
    """

    def __init__(self, folder: str | None = None, keys: Sequence[str] = (), jobs: int = 0, search: bool = False):
        self.sweep = Sweep(Path(folder), tuple(keys), jobs, search) if folder else None

    def on_multirun_start(self, config: Any, **_: Any) -> None:
        if self.sweep is not None:
            begin(self.sweep)

    def on_multirun_end(self, config: Any, **_: Any) -> None:
        if self.sweep is not None:
            conclude(self.sweep)
