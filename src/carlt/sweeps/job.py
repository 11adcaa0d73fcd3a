"""A job of a sweep: skipped if finished, resumed if interrupted, recorded if it fails."""

import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from carlt.config.schema import validate
from carlt.config.stored import load_config
from carlt.errors import CarltError
from carlt.runs import paths, provenance
from carlt.runs.hash import run_hash
from carlt.runs.locks import exclusive_lock
from carlt.runs.record import read_result
from carlt.sweeps.plan import JOBS, Record, Sweep, seconds_per_job

ERROR = "error.txt"


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
    jobs = hydra.sweeper.get("n_trials") or sweep.jobs
    label = " ".join(text for text in _texts(hydra.overrides.task) if text.split("=")[0] in sweep.keys)
    record = Record(hydra.job.num + 1, jobs, label or "no values varied")
    objectives = [objective] if isinstance(objective, str) else list(objective)
    hydras_folder = Path(hydra.runtime.output_dir)

    def note(**changes: Any) -> None:
        nonlocal record
        record = replace(record, **changes)
        if first:
            record.write(sweep)

    def say(what: str) -> None:
        if first:
            print(f"job {record.number} of {jobs} ({record.label}): {what}", flush=True)

    note()
    try:
        config = compose()
        validate(config)
        from carlt.runs.text import format_duration
        from carlt.training import compute
        from carlt.training.build import build_data
        from carlt.training.callbacks.progress import SweepPosition

        commit = provenance.commit()
        data = build_data(config)
        if sweep.search:
            check_objectives(objectives, data)
        compute.resolve_once(config, sweep.folder / ".compute.json")
        identity = run_hash(config, data.checksum())
        folder = job_folder(hydras_folder, identity)
        with suppress(OSError):  # another rank may have been faster
            hydras_folder.rmdir()
        note(folder=str(folder))
        with exclusive_lock(sweep.folder / JOBS / f"{identity[:8]}.lock", folder) if first else nullcontext():
            check_same(folder, identity, data.checksum())
            if (folder / paths.RESULT).exists():
                result = read_result(folder)
                say(f"finished before{_of_commit(result.get('commit'), commit)}, in {folder}")
                note(state="skipped")
            else:
                resumed = paths.checkpoint(folder, "last").is_file()
                if (folder / paths.CONFIG).exists():
                    config.resume = str(folder)
                position = SweepPosition(
                    sweep.folder.name, record.number, jobs, _parallel_jobs(hydra), seconds_per_job(sweep)
                )
                left = position.seconds_left()
                say(
                    ("goes on where it was interrupted" if resumed else "begins")
                    + (f"; {format_duration(left)} left" if left else "")
                )
                (folder / ERROR).unlink(missing_ok=True)
                began = time.monotonic()
                result = execute(config, folder, data=data, position=position, validated=True)
                note(state="finished", seconds=time.monotonic() - began)
        values = objective_values(result, objectives) if sweep.search else []
        return values if len(values) > 1 else values[0] if values else None
    except CarltError as error:
        reason = str(error)
    except Exception as error:
        where = Path(record.folder or hydras_folder) / ERROR
        paths.write_text_atomic(where, traceback.format_exc())
        said = (str(error).strip() or "no message").splitlines()[0]
        reason = f"{type(error).__name__}: {said} (see {where.parent.name}/{ERROR})"
    # The other jobs continue; the end of the sweep names this one.
    print(f"carlt.train: error in job {record.number} ({record.label}): {reason}", file=sys.stderr)
    note(state="failed", error=reason.replace("\n", "; "))
    return None


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
    wrong = [str(name) for name in objectives if not str(name).startswith("val/")]
    if wrong or not objectives:
        raise CarltError(
            f"objective={','.join(wrong)}: a search needs metrics of the validation split, e.g. val/worst_class"
        )
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
            raise CarltError(f"objective={name} has no value: its group of classes is empty")
        values.append(float(value))
    return values


def _texts(overrides: Sequence[str]) -> list[str]:
    return [text.lstrip("+") for text in overrides]


def _of_commit(then: str | None, now: str | None) -> str:
    return "" if then == now else f" at commit {(then or 'unknown')[:7]} (now {(now or 'unknown')[:7]})"


def _parallel_jobs(hydra: Any) -> int | None:
    """How many jobs run side by side; None where a cluster decides."""
    launcher = hydra.runtime.choices["hydra/launcher"]
    return {"basic": 1, "joblib": hydra.launcher.get("n_jobs")}.get(launcher)
