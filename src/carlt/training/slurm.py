"""The end of a SLURM job before its run's end: the run is saved and stops, and the job is put into the queue again."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities.exceptions import SIGTERMException

from carlt.training.callbacks.checkpoints import accumulates

JOB, RESTARTS = "SLURM_JOB_ID", "SLURM_RESTART_COUNT"
EVERY_N_STEPS = 10  # of several processes, which have to ask each other whether to stop


def was_requeued() -> bool:
    """Whether this process belongs to a SLURM job that was started again."""
    return int(os.environ.get(RESTARTS) or 0) > 0


class Requeue(Callback):
    """Stops a run on SIGUSR1, which SLURM sends some time before the end of a job (``#SBATCH --signal=USR1@180``).

    A training stops after a step, on all processes after the same one, and a validation or evaluation at once, as on
    SIGTERM. Lightning's own handler saves in the middle of a step, from which no run goes on exactly; it leaves the
    signal to one that is there.
    """

    def __init__(self) -> None:
        self.asked = self.fits = False
        self.job: str | None = None

    @contextmanager
    def handled(self, first: bool) -> Iterator[None]:
        """Within this context the signal stops the run; then the ``first`` process puts the job into the queue."""
        if threading.current_thread() is threading.main_thread():
            self.job = os.environ.get(JOB)
        if self.job is None:
            yield
            return
        before = signal.signal(signal.SIGUSR1, self._ask)
        try:
            yield
        except SystemExit:
            if self.asked and first:
                _put_into_queue(self.job)
            raise
        finally:
            signal.signal(signal.SIGUSR1, before)

    def _ask(self, *_: Any) -> None:
        self.asked = True
        if not self.fits:
            raise SIGTERMException

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self.fits = True

    def on_train_batch_end(
        self, trainer: L.Trainer, module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        # The last batch's epoch is validated and saved first; between accumulated gradients nothing can be saved.
        if not (trainer.is_last_batch or accumulates(trainer, batch_idx)):
            self._stop(trainer, (batch_idx + 1) // trainer.accumulate_grad_batches - 1)

    def on_validation_batch_end(
        self, trainer: L.Trainer, module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: Any
    ) -> None:
        if batch_idx + 1 < trainer.num_val_batches[0]:
            self._stop(trainer, batch_idx)

    def on_train_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self.fits = False
        self._stop(trainer, 0)

    def _stop(self, trainer: L.Trainer, step: int) -> None:
        stops = self.asked
        if self.job is not None and trainer.world_size > 1:
            stops = step % EVERY_N_STEPS == 0 and trainer.strategy.reduce_boolean_decision(stops, all=False)
        if stops:
            raise SIGTERMException


def _put_into_queue(job: str) -> None:
    try:
        done = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True)
        reason = done.stderr.strip() if done.returncode else None
    except OSError as error:
        reason = error.strerror or type(error).__name__
    said = f"job {job} waits in the queue again" if reason is None else f"scontrol requeue {job}: {reason}"
    print(said if reason is None else f"{said}; submit the same script again", file=sys.stderr, flush=True)
