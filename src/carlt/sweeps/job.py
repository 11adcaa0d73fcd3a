"""A job of a sweep: skipped if finished, resumed if interrupted, recorded if it fails."""

import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from carlt.config.plain_keys import objective_problems
from carlt.config.schema import joined_error, validate
from carlt.config.stored import load_config
from carlt.errors import CarltError, first_line
from carlt.runs import paths, provenance
from carlt.runs.hash import run_hash
from carlt.runs.locks import exclusive_lock
from carlt.runs.reading import read_run
from carlt.runs.text import format_duration
from carlt.sweeps.plan import JOBS, Record, Sweep, seconds_per_job

ERROR = "error.txt"


@dataclass
class _Job:
    """A job of ``sweep``, and what it tells: its state in its record, and lines on the screen of the first process."""

    sweep: Sweep
    record: Record
    first: bool

    def note(self, **changes: Any) -> None:
        self.record = replace(self.record, **changes)
        if self.first:
            self.record.write(self.sweep)

    def say(self, what: str) -> None:
        if self.first:
            print(f"job {self.record.number} of {self.record.jobs} ({self.record.label}): {what}", flush=True)


def run_job(
    sweep: Sweep,
    compose: Callable[[], DictConfig],
    objective: Any,
    first: bool,
    execute: Callable[..., dict[str, Any]],
) -> float | list[float] | None:
    """Run this process's job unless it is finished. Returns the objective of a search, None without one or on failure.

    A job's folder ends in the first digits of its ``run_hash``: that is how it is found again, under any number.

    Args:
        compose: gives the job's config; CarltError if it cannot be composed.
        objective: a metric of the validation split, or several.
        first: whether this is the process of a job that writes.
        execute: ``carlt.commands.run.run``.
    """
    hydra = HydraConfig.get()
    overrides = [text.lstrip("+") for text in hydra.overrides.task]
    label = " ".join(text for text in overrides if text.split("=")[0] in sweep.keys)
    jobs = hydra.sweeper.get("n_trials") or sweep.jobs
    job = _Job(sweep, Record(hydra.job.num + 1, jobs, label or "no values varied"), first)
    objectives = [objective] if isinstance(objective, str) else list(objective)
    job.note()
    try:
        result = _result(job, compose, objectives, execute)
        values = objective_values(result, objectives) if sweep.search else []
        return values if len(values) > 1 else values[0] if values else None
    except CarltError as error:
        reason = str(error)
    except Exception as error:
        where = Path(job.record.folder or hydra.runtime.output_dir) / ERROR
        paths.write_text_atomic(where, traceback.format_exc())
        reason = f"{type(error).__name__}: {first_line(error)} (see {where.parent.name}/{ERROR})"
    # The other jobs continue; the end of the sweep names this one.
    print(f"carlt.train: error in job {job.record.number} ({job.record.label}): {reason}", file=sys.stderr)
    job.note(state="failed", error=reason.replace("\n", "; "))
    return None


def _result(
    job: _Job, compose: Callable[[], DictConfig], objectives: Sequence[str], execute: Callable[..., dict[str, Any]]
) -> dict[str, Any]:
    """The content of the job's ``result.json``, from before or after training."""
    config = compose()
    validate(config)
    from carlt.training import compute
    from carlt.training.build import build_data

    commit = provenance.commit()
    data = build_data(config)
    if job.sweep.search:
        check_objectives(objectives, data)
    compute.resolve_once(config, job.sweep.folder / ".compute.json")
    identity = run_hash(config, data.checksum())
    hydras_folder = Path(HydraConfig.get().runtime.output_dir)
    folder = job_folder(hydras_folder, identity)
    with suppress(OSError):  # another rank may have been faster
        hydras_folder.rmdir()
    job.note(folder=str(folder))
    lock = job.sweep.folder / JOBS / f"{identity[:8]}.lock"
    with exclusive_lock(lock, folder) if job.first else nullcontext():
        check_same(folder, identity, data.checksum())
        if not (folder / paths.RESULT).exists():
            return _train(job, config, folder, data, execute)
        try:
            result = read_run(folder).result
        except CarltError as error:
            raise CarltError(f"{folder}: {error}; move it away, and this job starts anew") from None
        job.say(f"finished before{_of_commit(result.get('commit'), commit)}, in {folder}")
        job.note(state="skipped")
        return result


def _train(
    job: _Job, config: DictConfig, folder: Path, data: Any, execute: Callable[..., dict[str, Any]]
) -> dict[str, Any]:
    """Begin the job, or go on with it."""
    from carlt.training.callbacks.progress import SweepPosition

    resumed = paths.checkpoint(folder, "last").is_file()
    if (folder / paths.CONFIG).exists():
        config.resume = str(folder)
    parallel = _parallel_jobs(HydraConfig.get())
    position = SweepPosition(
        job.sweep.folder.name, job.record.number, job.record.jobs, parallel, seconds_per_job(job.sweep)
    )
    left = position.seconds_left()
    doing = "goes on where it was interrupted" if resumed else "begins"
    job.say(doing + (f"; {format_duration(left)} left" if left else ""))
    (folder / ERROR).unlink(missing_ok=True)
    began = time.monotonic()
    result = execute(config, folder, data=data, position=position)
    job.note(state="finished", seconds=time.monotonic() - began)
    return result


def job_folder(hydras_folder: Path, identity: str) -> Path:
    """The folder of the job with this identity: the one that an earlier command made, or Hydra's with the hash."""
    mark = f"_{identity[:8]}"
    found = sorted(hydras_folder.parent.glob(f"*{mark}"))
    return found[0] if found else hydras_folder.with_name(hydras_folder.name + mark)


def check_same(folder: Path, identity: str, data_checksum: str) -> None:
    """CarltError if the run in ``folder`` was resumed with other values."""
    if not (folder / paths.CONFIG).exists():
        return
    # The folder is this sweep's own, so its classes are those of this command.
    if run_hash(load_config(folder, trust=True), data_checksum) != identity:
        raise CarltError(f"{folder} was resumed with other values; move it away, and this job starts anew")


def check_objectives(objectives: Sequence[str], data: Any) -> None:
    """CarltError unless the objectives of a search are metrics of a validation split."""
    if problems := list(objective_problems([list(objectives)])):
        raise joined_error(problems)
    if data.val_split is None or data.validation == "test":
        raise CarltError(
            f"objective={','.join(objectives)}: {data.name} has no validation split here "
            f"(data.validation={data.validation}); a search on the test split would overfit it"
        )


def objective_values(result: dict[str, Any], objectives: Sequence[str]) -> list[float]:
    """The objectives' values in the last epoch of a finished run."""
    known = sorted(name for name in result["metrics"] if name.startswith("val/"))
    values = []
    for name in objectives:
        if name not in known:
            raise CarltError(f"objective={name} is not measured; choose from {', '.join(known)}")
        value = result["metrics"][name]
        if value is None or value != value:
            raise CarltError(f"objective={name} has no value: its group of classes is empty; choose another metric")
        values.append(float(value))
    return values


def _of_commit(then: str | None, now: str | None) -> str:
    return "" if then == now else f" at commit {(then or 'unknown')[:7]} (now {(now or 'unknown')[:7]})"


def _parallel_jobs(hydra: Any) -> int | None:
    """How many jobs run side by side; None where a cluster decides."""
    launcher = hydra.runtime.choices["hydra/launcher"]
    return {"basic": 1, "joblib": hydra.launcher.get("n_jobs")}.get(launcher)
