"""One progress bar for a whole training and one for its evaluation; without a terminal, plain lines."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_only
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from carlt.ranges import NonNegative, checked
from carlt.runs.heartbeat import say
from carlt.runs.text import format_duration, printable
from carlt.training.callbacks.metrics_csv import measured_metrics
from carlt.training.callbacks.notebook_bar import NotebookBar
from carlt.training.callbacks.run_header import run_header

SHOWN = {
    "train/loss": ("loss", ".3f"),
    "val/accuracy": ("val", ".1%"),
    "val/worst_class": ("worst class", ".1%"),
    "car/spectral_norm": ("spectral norm", ".3f"),
}
REFRESH_S = 1.0
"""Reading the loss waits for the device, so it is not read at every step."""


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
    """Shows what runs, epoch, batch, images per second, loss, learning rate, validation and CAR, and the time left.

    Args:
        plain_every_s: seconds between two lines when the output is no terminal.
        position: the run's in a sweep, whose time left is then shown too, as if all jobs took as long as those so far.
        run_dir: the run folder, which names the run where several run at once.
    """

    @checked
    def __init__(
        self, plain_every_s: NonNegative = 15.0, position: SweepPosition | None = None, run_dir: Path | None = None
    ):
        self.plain_every_s, self.position, self.run_dir = plain_every_s, position, run_dir
        self.console = Console()
        self.bar: Bar | None = None
        self.started = self.last_line = self.refreshed = 0.0
        self.epoch_started = 0.0
        self.first_epoch = self.images = self.epoch_images = 0
        self.step = self.metrics = ""

    @rank_zero_only
    def on_fit_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        several = self.position is not None and self.position.parallel_jobs != 1
        lines = [(self._job() if several else "") + line for line in run_header(trainer, module, self.run_dir)]
        self.console.print("\n".join(lines), highlight=False, markup=False, soft_wrap=True)

    @rank_zero_only
    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        # Lightning does not announce an epoch that is resumed within.
        self.started = self.last_line = self.refreshed = self.epoch_started = time.monotonic()
        self.first_epoch = trainer.current_epoch
        self._open("epoch", trainer.max_epochs or 0, trainer.current_epoch)

    @rank_zero_only
    def on_train_epoch_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self.epoch_started, self.epoch_images = time.monotonic(), 0

    @rank_zero_only
    def on_train_batch_end(
        self, trainer: L.Trainer, module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.images += len(batch[0]) * trainer.world_size
        self.epoch_images += len(batch[0]) * trainer.world_size
        now, batches = time.monotonic(), trainer.num_training_batches
        if now - self.refreshed < REFRESH_S and batch_idx + 1 < batches:
            return
        self.step = _step(outputs, self.images / max(now - self.refreshed, 1e-9), trainer)
        self.images, self.refreshed = 0, now
        counter = f"batch {batch_idx + 1}/{batches}"
        if self.bar is not None:
            done = trainer.current_epoch + (batch_idx + 1) / batches
            self._show(int(done * 100) / 100, [counter, *self.step.split("  "), *self.metrics.split("  ")])
        elif now - self.last_line >= self.plain_every_s and batch_idx + 1 < batches:
            self._line(f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}  {counter}  {self.step}")

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self._log_speed(trainer)
        self.metrics = _metrics(measured_metrics(trainer))  # reduces over the ranks, so all of them must call it
        if not trainer.is_global_zero:
            return
        done = trainer.current_epoch + 1
        run_left, sweep_left = self._left(done, trainer.max_epochs or 0)
        if self.bar is not None:
            self._show(done, [*self.step.split("  "), *self.metrics.split("  "), sweep_left.strip()])
        elif time.monotonic() - self.last_line >= self.plain_every_s or done == trainer.max_epochs:
            seconds = f"{time.monotonic() - self.started:.0f} s{run_left}"
            self._line(f"epoch {done}/{trainer.max_epochs}  {seconds}  {self.metrics}  {self.step}{sweep_left}")

    @rank_zero_only
    def _log_speed(self, trainer: L.Trainer) -> None:
        """To the loggers alone: the speed is the machine's, and tells nothing of the training."""
        seconds, self.epoch_started = time.monotonic() - self.epoch_started, time.monotonic()
        rate = {"train/learning_rate": trainer.optimizers[0].param_groups[0]["lr"]} if trainer.optimizers else {}
        speed = {"train/images_per_s": self.epoch_images / max(seconds, 1e-9)}
        self.epoch_images = 0
        for logger in trainer.loggers:
            logger.log_metrics(rate | speed, trainer.global_step - 1)  # the step of the epoch's other metrics

    @rank_zero_only
    def on_validation_batch_end(
        self, trainer: L.Trainer, module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int, *args: Any
    ) -> None:
        if self.bar is None and time.monotonic() - self.last_line >= self.plain_every_s:
            self._line(f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}  validation batch {batch_idx + 1}")

    @rank_zero_only
    def on_train_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self._close()

    @rank_zero_only
    def on_test_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self.last_line = time.monotonic()
        self._open("evaluation, batch", int(sum(trainer.num_test_batches)))

    @rank_zero_only
    def on_test_batch_end(
        self, trainer: L.Trainer, module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int, *args: Any
    ) -> None:
        if self.bar is not None:
            self._show(batch_idx + 1, [])
        elif time.monotonic() - self.last_line >= self.plain_every_s:
            self._line(f"evaluation, batch {batch_idx + 1}/{sum(trainer.num_test_batches)}")

    @rank_zero_only
    def on_test_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self._close()

    @rank_zero_only
    def on_exception(self, trainer: L.Trainer, module: L.LightningModule, exception: BaseException) -> None:
        self._close()

    def _open(self, what: str, total: int, done: int = 0) -> None:
        # Bars of jobs that run at once would overwrite each other.
        kind = NotebookBar if self.console.is_jupyter else Bar
        if not (self.console.is_terminal or kind is NotebookBar) or (
            self.position and self.position.parallel_jobs != 1
        ):
            return
        self.bar = kind(
            TextColumn(f"{self._job()}{what}"),
            MofNCompleteColumn(),
            BarColumn(bar_width=6 if self.narrow else 40),
            TimeRemainingColumn(),
            TextColumn("{task.fields[metrics]}"),
            console=self.console,
            transient=what != "epoch",  # a run evaluates several splits
        )
        self.bar.add_task(what, total=total, completed=done, metrics="")
        self.bar.start()

    def _show(self, done: float, parts: list[str]) -> None:
        assert self.bar is not None
        shown = [part for part in parts if part]
        rows = ["  ".join(shown[i : i + 2]) for i in range(0, len(shown), 2)]
        text = "\n".join(rows) if self.narrow else "  ".join(shown)
        self.bar.update(self.bar.task_ids[0], completed=done, metrics=text)

    def _line(self, text: str) -> None:
        self.last_line = time.monotonic()
        say(f"{self._job()}{text.rstrip()}")

    @property
    def narrow(self) -> bool:
        """Whether the metrics need separate lines beside the bar."""
        return self.console.width < 150

    def _job(self) -> str:
        if not self.position:
            return ""
        # Lines of jobs that run at once are mixed; the folder's name holds what the job varies.
        name = f" {printable(self.run_dir.name)}" if self.run_dir and self.position.parallel_jobs != 1 else ""
        return f"job {self.position.job}/{self.position.jobs}{name}  "

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


def _metrics(known: Mapping[str, Any]) -> str:
    return "  ".join(
        f"{label} {format(float(known[name]), style).replace('%', ' %')}"
        for name, (label, style) in SHOWN.items()
        if name in known
    )


def _step(outputs: Any, images_per_s: float, trainer: L.Trainer) -> str:
    """The loss of the last batch with its penalty, the learning rate and the speed."""
    loss = outputs["loss"] if isinstance(outputs, Mapping) else outputs
    rate = trainer.optimizers[0].param_groups[0]["lr"] if trainer.optimizers else None
    # Lightning divides the loss by the number of batches per step.
    parts = [f"step loss {float(loss) * trainer.accumulate_grad_batches:.3f}"] if loss is not None else []
    parts += [f"lr {rate:.2g}"] if rate is not None else []
    return "  ".join([*parts, f"{images_per_s:,.0f} images/s"])
