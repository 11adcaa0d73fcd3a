"""One run: from a command line's config, or from Python, to a run folder. The composition root."""

import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import configure_log
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from carlt.commands.arguments import INTERRUPTED
from carlt.config import second_stage
from carlt.config.choices import named_choices
from carlt.config.compose import take_search_path
from carlt.config.overrides import check_single, compose_checked
from carlt.config.schema import validate
from carlt.config.stored import resumed_config, without_initial_weights
from carlt.errors import CarltError, first_line
from carlt.runs import defaults, paths
from carlt.runs.config_file import read_config
from carlt.runs.faults import memory_errors, write_errors
from carlt.runs.hash import run_hash
from carlt.runs.heartbeat import heartbeat
from carlt.runs.keys import AUTOMATIC, AUTOMATIC_KEYS
from carlt.runs.locks import claim_folder
from carlt.runs.text import command_line

if TYPE_CHECKING:
    from lightning.pytorch.callbacks import Callback

    from carlt.data import LongTailDataModule
    from carlt.training.callbacks.progress import SweepPosition

TERMINATED = 128 + 15
CHILD = "CARLT_RUN_DIR"
"""The environment variable that gives the further processes of a run its folder."""


def train(*overrides: str, folder: Path | str | None = None, trust: bool = False, **parts: Any) -> dict[str, Any]:
    """Train from Python as ``python -m carlt.train`` does from a shell.

    Args:
        overrides: as on the command line, e.g. ``"data=digits_lt", "reg=car", "trainer.max_epochs=3"``;
            ``"hydra.searchpath=[conf]"`` adds options of your own.
        folder: the run folder; by default one under ``runs/`` whose name ends in the run's hash.
        trust: allow classes of other packages in the config of ``init_run=`` and ``resume=``.
        parts: the same as Python values, ``data="digits_lt", trainer={"max_epochs": 3}``, or as objects, for ``data``,
            ``model``, ``loss``, ``reg``, ``optim`` and ``sampler``. Of a class, a ``functools.partial`` of one
            (``model=partial(SmallCNN, width=8)``) or an object of carlt (``reg=CAR(counts, weight=1)``) a new object is
            built and trained, and the run folder is complete. Any other ``nn.Module`` is trained itself, and
            ``carlt.load_run`` needs one like it. ``overrides`` have precedence.

    Returns:
        The content of ``result.json``, and under ``folder`` the run folder.

    Raises:
        CarltError: a mistake in the overrides (all of them in one error), an object that does not fit, or data that
            cannot be had.
    """
    from carlt.config.objects import from_python

    overrides = tuple(take_search_path([paths.with_home(text) for text in overrides]))
    with from_python(parts) as given:
        words = [*given.words, *overrides]
        earlier = [word.partition("=")[2] for word in overrides if word.startswith("resume=")]
        place = parts.get("resume") or next(iter(earlier), None)
        if place not in (None, "null"):
            if folder is not None:
                raise CarltError(f"folder={folder}: a resumed run stays in its folder; leave this out")
            kept = [word for word in words if word.partition("=")[0] not in given.modules]
            return resume(str(place), kept, trust=trust)
        config, default, named = compose_run(words, trust=trust, named=folder is not None)
        option = "hydra.run.dir" if folder is None else "folder"
        folder, new_name = (default, not named) if folder is None else (Path(folder).absolute(), False)
        data = None
        if given.class_counts:
            from carlt.training import build

            data = build.build_data(config)
            given.check_counts(data.class_counts.tolist())
        return run(config, folder, data=data, hash_in_name=new_name, option=option)


def resume(folder: str, overrides: Sequence[str], *, trust: bool = False) -> dict[str, Any]:
    """Go on with the run in ``folder`` as ``resume=<folder>`` among ``overrides`` says.

    Raises:
        CarltError: no run that can go on, or an override that a running training cannot take.
    """
    config, place, content = compose_resumed(folder, overrides, trust=trust)
    return run(config, place, content=content)


def compose_resumed(folder: str, overrides: Sequence[str], *, trust: bool = False) -> tuple[DictConfig, Path, str]:
    """The config and the folder of the run that :func:`resume` goes on with, and the text of the ``config.yaml`` there.

    Raises:
        CarltError: as :func:`resume`.
    """
    values = [text for text in overrides if not text.startswith(("resume=", "hydra."))]
    check_single(values)
    if moved := [text for text in overrides if text.startswith("hydra.run.dir=")]:
        raise CarltError(f"{moved[0]}: a resumed run stays in its folder; leave this out")
    place = Path(folder.strip("'\"")).absolute()
    content = ""
    with suppress(OSError, UnicodeDecodeError):  # resumed_config names the reason
        content = paths.read_text(place / paths.CONFIG)
    return resumed_config(place, values, trust=trust), place, content


def run(
    config: DictConfig,
    folder: Path,
    *,
    data: "LongTailDataModule | None" = None,
    position: "SweepPosition | None" = None,
    hash_in_name: bool = False,
    content: str | None = None,
    option: str = "hydra.run.dir",
) -> dict[str, Any]:
    """One run into ``folder``, or the rest of an interrupted one that lies there.

    Args:
        config: complete, checked by ``carlt.config.schema.validate`` and without the node ``hydra``; ``config.resume``
            is set where an interrupted run is resumed.
        folder: the run folder; no other process may use it meanwhile.
        data: the data module of ``config``, if it is built already.
        position: of the run in a sweep.
        hash_in_name: append the first digits of the run's hash to the folder's name.
        content: the text of the ``config.yaml`` in ``folder`` that ``config`` was composed from.
        option: what names the folder, for messages.

    Returns:
        The content of ``result.json``, and under ``folder`` the run folder.

    Raises:
        CarltError: data that cannot be had, parts that do not fit, a folder that is in use or holds a run, or another
            ``config.yaml`` there than ``content``.
    """
    with heartbeat() if is_first_process() else nullcontext():
        # Imported after the config is checked: torch and Lightning take seconds to import.
        from carlt.runs import provenance
        from carlt.runs.record import read_result
        from carlt.training import build, compute, slurm

        provenance.commit()
        build.quiet_libraries()
        data = data or build.build_data(config)
        before = _begun_before(config, folder, hash_in_name, data.checksum()) if slurm.was_requeued() else None
        if before is not None and (before / paths.RESULT).exists():  # by an earlier command of the job's script
            print(f"finished before, in {before}")
            return {**read_result(before), "folder": str(before)}
        if before is not None:  # the same config, with what `auto` stood for then
            config, folder = resumed_config(before, trust=True), before
        if not hash_in_name or before is not None:
            compute.resolve(config)
        else:
            checksum = data.checksum()  # before anything is written: the data may be missing
            # Beside the other runs of this data set, which it may be compared with.
            compute.resolve_once(config, folder.parent / ".compute.json", of_machine=True)
            folder = folder.with_name(f"{folder.name}_{run_hash(config, checksum)[:8]}")
        claim = claim_folder(folder, new=not config.resume, option=option) if is_first_process() else nullcontext()
        remedy = f"mend that, then go on with: {command_line('carlt.train', f'resume={folder}')}"
        requeue = slurm.Requeue()
        smaller = memory_errors(_smaller(data, "batch_size", "eval_batch_size", "image_size"))
        with write_errors(folder, remedy), smaller, requeue.handled(is_first_process()), claim, _own_process_group():
            if content is not None and is_first_process() and paths.read_text(folder / paths.CONFIG) != content:
                # Another process was in the folder before this one had its lock.
                raise CarltError(
                    f"{folder / paths.CONFIG} changed meanwhile: the run was resumed; give the command again"
                )
            return _run(config, folder, data, position, requeue)


def _smaller(data: "LongTailDataModule", *names: str) -> str:
    """What needs less memory when it is lower."""
    return f"lower {' or '.join(f'data.{name}={getattr(data, name)}' for name in names)}"


def _begun_before(config: DictConfig, folder: Path, hash_in_name: bool, checksum: str) -> Path | None:
    """Where this SLURM job began with the run of ``config`` before it was started again. What ``auto`` chose then
    stands for it, because a measurement may come out otherwise."""
    for place in sorted(folder.parent.glob(f"{escape(folder.name)}_*")) if hash_in_name else [folder]:
        if config.resume or not (place / paths.CONFIG).exists():
            continue
        stored, alike = OmegaConf.create(read_config(place)), config.copy()
        for key in AUTOMATIC_KEYS:
            if str(OmegaConf.select(alike, key)) in AUTOMATIC:
                OmegaConf.update(alike, key, OmegaConf.select(stored, key))
        if run_hash(alike, checksum) == stored.get("run_hash"):
            return place
    return None


def _run(
    config: DictConfig,
    folder: Path,
    data: "LongTailDataModule",
    position: "SweepPosition | None",
    callback: "Callback",
) -> dict[str, Any]:
    from lightning.pytorch.utilities.exceptions import SIGTERMException

    from carlt.evaluation.result import evaluate_and_record
    from carlt.runs import provenance
    from carlt.training import build, checks, loggers, restore
    from carlt.training.callbacks import TrainingTime

    last = paths.checkpoint(folder, "last")
    resumes = bool(config.resume) and build.has_begun(folder)
    initial = build.initial_weights(config) if config.get("stage") and not resumes else None
    module = build.build_module(without_initial_weights(config) if resumes else config, data, initial)
    epochs_done, devices = build.check_resumable(last, module, config, data) if resumes else (None, None)
    _date_changes(config, epochs_done)
    identity = run_hash(config, data.checksum())
    run_loggers = build.build_loggers(config, folder, position)
    checks.check_run(config, module, data)
    trainer = build.build_trainer(config, folder, run_loggers, position)
    checks.check_resumed(trainer, folder, devices)
    clock = TrainingTime()
    trainer.callbacks += [callback, clock]  # type: ignore[attr-defined]
    build.compile_network(module, config)
    with open_dict(config):
        config.run_hash, config.data_sha256 = identity, data.checksum()
        config[defaults.KEY] = defaults.VERSION
    before = paths.read_text(folder / paths.CONFIG) if resumes else None
    if trainer.is_global_zero:
        paths.write_text_atomic(folder / paths.CONFIG, OmegaConf.to_yaml(config, resolve=True))
        for left in last.parent.glob("*.part"):  # of a process that was killed while it wrote
            left.unlink(missing_ok=True)
    os.environ[CHILD] = str(folder)
    try:
        loggers.log_config(
            run_loggers,
            config,
            run_hash=identity,
            commit=provenance.commit(),
            **({"sweep": position.sweep} if position else {}),
        )
        restore.fit(trainer, module, data, last if resumes else None)
        try:
            with memory_errors(_smaller(data, "eval_batch_size")):
                result = evaluate_and_record(folder, trainer, module, data, config, clock.time_elapsed())
        except CarltError as error:  # such as a damaged test image
            again = command_line("carlt.train", f"resume={folder}")
            raise CarltError(
                f"{error}. All epochs are trained and saved; with that mended, finish with: {again}"
            ) from None
        if trainer.is_global_zero:
            from carlt.reporting import plots, table

            loggers.log_results(run_loggers, folder, result["metrics"], plots.draw_run(folder))
            table.print_result(result, folder, advise=position is None)  # a sweep has one report of its jobs
        return {**result, "folder": str(folder)}
    except restore.NotRestoredError:
        if before is not None and trainer.is_global_zero:
            paths.write_text_atomic(folder / paths.CONFIG, before)
        raise
    except SystemExit as end:  # so Lightning answers SIGTERM and SIGINT, with codes 0 and 1
        print(f"interrupted; resume with: {command_line('carlt.train', f'resume={folder}')}", file=sys.stderr)
        raise SystemExit(TERMINATED if isinstance(end, SIGTERMException) else INTERRUPTED) from None
    finally:
        data.close()
        loggers.finish(run_loggers, failed=sys.exc_info()[0] is not None)


def compose_run(overrides: Sequence[str], *, trust: bool = False, named: bool = False) -> tuple[DictConfig, Path, bool]:
    """The config of a command line that describes one run, its folder, and whether the command line names that folder.

    Args:
        named: whether the caller has a folder of its own, so that the command line need not name one.

    Raises:
        CarltError: lists every mistake.
    """
    check_single(overrides)
    stage = second_stage.is_second_stage(overrides)
    if stage:
        composed = second_stage.compose_stage("train", overrides, trust=trust)
    else:
        composed = compose_checked("train", overrides)
    configure_log(composed.hydra.job_logging, composed.hydra.verbose)
    named = named or any(text.startswith("hydra.run.dir=") for text in overrides)
    folder = _hydra_folder(composed)
    config = config_of_run(composed, composed.hydra)
    if stage:  # put together from two configs that were checked one by one
        validate(config)
    if stage and not named:
        folder = Path("runs/stages") / f"{second_stage.default_name(config.init_run, config.choices.stage)}_{_now()}"
    if not named and "TORCHELASTIC_RUN_ID" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise CarltError(
            "under torchrun all processes need the same run folder, and the default name contains the start time: give "
            "hydra.run.dir=<folder>"
        )
    if Path.cwd().resolve().is_relative_to(folder.resolve()):
        raise CarltError(
            f"hydra.run.dir is or holds the current folder ({folder}); name a folder of its own for the run"
        )
    return config, folder.absolute(), named


def config_of_run(composed: DictConfig, hydra: Any) -> DictConfig:
    """``composed`` without what belongs to Hydra and to a search, and with the options it was composed of."""
    config = composed.copy()
    OmegaConf.set_readonly(config, False)
    OmegaConf.set_struct(config, False)
    config.pop("hydra", None)
    config.pop("objective", None)
    config.setdefault("logger", {})  # logger=[] leaves it out
    if not config.get("stage"):
        config.choices = named_choices(config, hydra)
    return config


def _hydra_folder(composed: DictConfig) -> Path:
    """``hydra.run.dir`` with its interpolations resolved, and a class that replaces an option's by its name."""
    composed = composed.copy()
    with open_dict(composed.hydra.runtime.choices):  # Hydra has none for a list of options
        composed.hydra.runtime.choices.update(named_choices(composed, composed.hydra))
    holder: Any = HydraConfig.instance()
    before = holder.cfg
    try:
        holder.set_config(composed)
        return Path(str(composed.hydra.run.dir))
    except OmegaConfBaseException as error:
        raise CarltError(f"hydra.run.dir: {first_line(error)}; give hydra.run.dir=<folder>") from None
    finally:
        holder.cfg = before  # Lightning takes a process with Hydra's config for one that Hydra started


def _now() -> str:
    """As in ``hydra.run.dir``: all processes of a SLURM job, and the job when it is started again, say the same."""
    return os.environ.get("SLURM_JOB_ID") or time.strftime("%Y%m%d-%H%M%S")


def _date_changes(config: DictConfig, epochs_done: int | None) -> None:
    """Write the epoch from which changed values hold into the latest entry of ``config.resumed``.

    Without a checkpoint to go on from (None) they hold from the start, and nothing was changed.
    """
    if epochs_done is None:
        config.pop("resumed", None)
    for change in config.get("resumed") or []:
        if change.from_epoch is None:
            change.from_epoch = epochs_done


@contextmanager
def _own_process_group() -> Iterator[None]:
    """Restore the environment and close the process group after DDP, for the next job of a sweep."""
    environment = dict(os.environ)
    try:
        yield
    finally:
        from carlt import distributed

        distributed.leave()
        os.environ.clear()
        os.environ.update(environment)


def is_first_process() -> bool:
    """Whether this process has rank 0, for Lightning's launcher, torchrun and SLURM."""
    return all(os.environ.get(name, "0") == "0" for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID"))
