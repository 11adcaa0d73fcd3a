"""The start and the end of a sweep: its folder, which the same command finds again, and the table of its jobs."""

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import mean

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.utils import setup_globals
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from carlt.config.compose import quoted
from carlt.config.grammar import text_of
from carlt.errors import CarltError, first_line
from carlt.reporting import table
from carlt.reporting.groups import group_by_data_set
from carlt.reporting.summary import summarize
from carlt.runs import paths
from carlt.runs.keys import NOT_IN_SWEEP_NAME, is_under
from carlt.runs.reading import read_runs
from carlt.runs.text import command_line, format_duration, printable

JOBS = ".jobs"
DONE = ("finished", "skipped")
SWEEPERS = ("sweep", "hydra/sweeper")


@dataclass(frozen=True)
class Sweep:
    """The folder of a sweep, the keys that it varies and its number of jobs (0 for a search)."""

    folder: Path
    keys: tuple[str, ...]
    jobs: int
    search: bool


@dataclass(frozen=True)
class Record:
    """The state of a job: ``state`` is begun, finished, skipped or failed."""

    number: int
    jobs: int
    label: str
    state: str = "begun"
    folder: str | None = None
    error: str | None = None
    seconds: float | None = None

    def write(self, sweep: Sweep) -> None:
        paths.write_text_atomic(sweep.folder / JOBS / f"{self.number}.json", json.dumps(asdict(self)))


def plan(overrides: Sequence[str]) -> tuple[Sweep, list[str]]:
    """The sweep that a command line describes, and ``overrides`` completed for Hydra.

    Its folder is ``runs/sweeps/<varied keys>_<hash of the overrides>``, so the same command comes to the same folder,
    unless ``hydra.sweep.dir`` names another.
    """
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    naming = [o for o in parsed if not is_under(o.key_or_group, NOT_IN_SWEEP_NAME)]
    varied = [o for o in parsed if o.is_sweep_override()]
    given = [o for o in parsed if o.key_or_group == "hydra.sweep.dir"]
    text = "\n".join(sorted(text_of(o).lstrip("+") for o in naming))
    keys = tuple(o.key_or_group for o in varied)
    named = "+".join(o.key_or_group for o in naming if o.is_sweep_override())
    name = "_".join([named[:60], hashlib.sha256(text.encode()).hexdigest()[:8]]).lstrip("_")
    folder = Path(_resolved(given[-1]) if given else f"runs/sweeps/{name}")
    jobs = math.prod(len(list(o.sweep_iterator())) if o.is_discrete_sweep() else 0 for o in varied)
    complete = [o for o in overrides if not o.startswith("hydra.sweep.dir=")] + [
        f"hydra.sweep.dir={quoted(str(folder))}"
    ]
    objectives = [o.value() for o in parsed if o.key_or_group == "objective"]
    if objectives and isinstance(objectives[-1], list) and "hydra.sweeper.direction" not in str(overrides):
        complete.append(f"hydra.sweeper.direction=[{','.join(['maximize'] * len(objectives[-1]))}]")
    search = any(o.key_or_group in SWEEPERS and o.value() not in ("grid", "basic") for o in parsed)
    for o in varied:
        if not (search or o.is_discrete_sweep()):
            raise CarltError(
                f"{text_of(o).lstrip('+')}: only a search draws from an interval; add sweep=optuna, or list values"
            )
    sweep = Sweep(folder.absolute(), keys, jobs, search)
    place = "hydra.callbacks.sweep"
    complete += [
        f"{place}.folder={quoted(str(sweep.folder))}",
        f"{place}.jobs={jobs}",
        f"{place}.search={str(search).lower()}",
        f"{place}.keys=[{','.join(keys)}]",
    ]
    return sweep, complete


def begin(sweep: Sweep) -> None:
    """Delete the records of an earlier command's jobs; the runs stay."""
    for path in (sweep.folder / JOBS).glob("*.json"):
        path.unlink(missing_ok=True)  # another process may begin the same sweep


def current() -> Sweep:
    """The sweep that this process works on, in a job of it."""
    values = HydraConfig.get().callbacks["sweep"]
    return Sweep(Path(values.folder), tuple(values["keys"]), values.jobs, values.search)


def exit_code(sweep: Sweep, code: int = 0) -> int:
    """``code``, or 1 where that is 0 and not all jobs are finished."""
    records = _records(sweep)
    finished = sum(record.state in DONE for record in records)
    return code or int(finished < max((record.jobs for record in records), default=0))


def conclude(sweep: Sweep) -> None:
    """Print the outcome of each job and the table of the finished ones."""
    records = sorted(_records(sweep), key=lambda record: record.number)
    if not records:
        return
    finished = [record for record in records if record.state in DONE]
    before = sum(record.state == "skipped" for record in records)
    total = max(record.jobs for record in records)
    if finished:
        print(f"\n{_table(finished, sweep.search)}")
    seconds = sum(record.seconds or 0 for record in finished)
    print(f"Sweep: {len(finished)} of {total} jobs finished, {before} of them before. Folder: {sweep.folder}")
    if seconds:
        print(f"These jobs took {format_duration(seconds)} in all.")
    for trouble, alike in _troubles(records).items():
        print(f"  job{'s' * (len(alike) > 1)} {', '.join(alike)} {trouble}")
    if len(finished) < total:
        print("The same command does what is left, and skips what is finished.")
    if finished:
        print(printable(f"Next: {command_line('carlt.report', str(sweep.folder))}"))


def seconds_per_job(sweep: Sweep) -> float | None:
    """The mean time of this command's finished jobs; None before the first."""
    times = [record.seconds for record in _records(sweep) if record.seconds is not None]
    return mean(times) if times else None


def _table(finished: Sequence[Record], search: bool) -> str:
    try:
        runs, _ = read_runs([Path(folder) for folder in {str(record.folder): None for record in finished}])
        compared = [(data, data.baseline()) for data in group_by_data_set(runs)]
        last_epochs = [summarize(data if search else data.led_by(baseline), baseline)[0] for data, baseline in compared]
    except CarltError as error:  # jobs that differ in nothing that a table would show
        return f"no table: {error}\n"
    if search:  # differences to one of the trials mean nothing
        last_epochs = [replace(t, rows=[replace(row, differences=()) for row in t.rows]) for t in last_epochs]
    return "\n".join(map(table.summary, last_epochs))


def _troubles(records: Sequence[Record]) -> dict[str, list[str]]:
    """What happened to the jobs that are not finished, each with the jobs that it happened to."""
    found: dict[str, list[str]] = {}
    for record in records:
        if record.state not in DONE:
            trouble = f"failed: {record.error}" if record.state == "failed" else "interrupted"
            found.setdefault(trouble, []).append(f"{record.number} ({record.label})")
    return found


def _records(sweep: Sweep) -> list[Record]:
    return [Record(**json.loads(path.read_text(encoding="utf-8"))) for path in (sweep.folder / JOBS).glob("*.json")]


def _resolved(override: Override) -> str:
    setup_globals()  # ${now:...}
    try:
        return str(OmegaConf.create([override.value()])[0])
    except OmegaConfBaseException as error:
        reason = first_line(error)
        raise CarltError(f"hydra.sweep.dir must not depend on a job: {reason}") from None
