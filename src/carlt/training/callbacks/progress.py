"""One progress bar for a whole training; without a terminal, a plain line every few seconds."""

import time
from dataclasses import dataclass
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_only
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

SHOWN = {
    "train/loss": "loss",
    "val/accuracy": "val",
    "val/worst_class": "worst class",
    "car/spectral_norm": "spectral norm",
}


@dataclass(frozen=True)
class SweepPosition:
    """The position of a run in a sweep: job ``job`` of ``jobs``, ``parallel_jobs`` of them at once (None: unknown).

    ``seconds`` is the mean time of a job, None before the first is finished.
    """

    sweep: str
    job: int
    jobs: int
    parallel_jobs: int | None = 1
    seconds: float | None = None

    def seconds_left(self, of_this: float | None = None, a_job: float | None = None) -> float | None:
        """The sweep's time left, from this job's and the mean time of a job; None before both are known."""
        a_job = self.seconds or a_job
        if a_job is None or not self.parallel_jobs or self.parallel_jobs < 1:
            return None
        return (a_job if of_this is None else of_this) + a_job * (self.jobs - self.job) / self.parallel_jobs


class Progress(Callback):
    """Shows epoch, loss, validation accuracy, worst class and CAR's spectral norm, and the time left.

    Args:
        plain_every_s: seconds between two lines when the output is no terminal.
        position: the run's in a sweep, whose time left is then shown too, as if all jobs took as long as those so far.
    """

    def __init__(self, plain_every_s: float = 15.0, position: SweepPosition | None = None):
        self.plain_every_s, self.position = plain_every_s, position
        self.console = Console()
        self.bar: Bar | None = None
        self.started = self.last_line = 0.0
        self.first_epoch = 0

    @rank_zero_only
    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self.started = self.last_line = time.monotonic()
        self.first_epoch = trainer.current_epoch
        if not self.console.is_terminal:
            return
        self.bar = Bar(
            TextColumn(f"{self._job()}epoch"),
            MofNCompleteColumn(),
            BarColumn(bar_width=6 if self.narrow else 40),
            TimeRemainingColumn(),
            TextColumn("{task.fields[metrics]}"),
            console=self.console,
        )
        self.bar.add_task("train", total=trainer.max_epochs, completed=trainer.current_epoch, metrics="")
        self.bar.start()

    @rank_zero_only
    def on_train_batch_end(self, trainer: L.Trainer, module: L.LightningModule, *args: Any) -> None:
        if self.bar is not None and trainer.num_training_batches:
            done = trainer.current_epoch + (args[-1] + 1) / trainer.num_training_batches
            self.bar.update(self.bar.task_ids[0], completed=int(done * 100) / 100)

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        metrics = _metrics(trainer)  # reduces over the ranks, so all of them must call it
        if not trainer.is_global_zero:
            return
        done = trainer.current_epoch + 1
        run_left, sweep_left = self._left(done, trainer.max_epochs or 0)
        if self.bar is not None:
            shown = [*metrics.split("  "), *sweep_left.strip().splitlines()]
            lines = ["  ".join(shown[i : i + 2]) for i in range(0, len(shown), 2)]
            text = "\n".join(lines) if self.narrow else "  ".join(shown)
            self.bar.update(self.bar.task_ids[0], completed=done, metrics=text)
        elif time.monotonic() - self.last_line >= self.plain_every_s or done == trainer.max_epochs:
            self.last_line = time.monotonic()
            seconds = f"{self.last_line - self.started:.0f} s{run_left}"
            print(f"{self._job()}epoch {done}/{trainer.max_epochs}  {seconds}  {metrics}{sweep_left}", flush=True)

    @rank_zero_only
    def on_train_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self._close()

    @rank_zero_only
    def on_exception(self, trainer: L.Trainer, module: L.LightningModule, exception: BaseException) -> None:
        self._close()

    @property
    def narrow(self) -> bool:
        """Whether the metrics need separate lines beside the bar."""
        return self.console.width < 150

    def _job(self) -> str:
        return f"job {self.position.job}/{self.position.jobs}  " if self.position else ""

    def _left(self, done: int, epochs: int) -> tuple[str, str]:
        """The time left of this run and of the sweep, by the pace since the run (re)started; empty where it is none."""
        pace = (time.monotonic() - self.started) / (done - self.first_epoch)
        run = pace * (epochs - done)
        rest = (
            self.position.seconds_left(run, pace * epochs)
            if self.position and self.position.job < self.position.jobs
            else None
        )
        return (
            f", {format_duration(run)} left" if done < epochs else "",
            f"  sweep: {format_duration(rest)} left" if rest else "",
        )

    def _close(self) -> None:
        if self.bar is not None:
            self.bar.stop()
            self.bar = None


def _metrics(trainer: L.Trainer) -> str:
    known = trainer.callback_metrics
    return "  ".join(f"{label} {float(known[name]):.3f}" for name, label in SHOWN.items() if name in known)


def format_duration(seconds: float) -> str:
    """A rough duration in words: about 40 s, about 12 min, about 3.5 h."""
    if seconds < 90:
        return f"about {max(1, round(seconds))} s"
    return f"about {seconds / 60:.0f} min" if seconds < 5400 else f"about {seconds / 3600:.1f} h"
