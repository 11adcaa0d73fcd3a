"""``python -m carlt.train``: compose, validate, build, fit, evaluate, write the run record. The composition root."""

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from carlt.config import command_line, second_stage
from carlt.config.schema import conf_dir, searched, validate
from carlt.errors import CarltError
from carlt.runs import paths
from carlt.runs.hash import run_hash
from carlt.sweeps import plan as sweep
from carlt.sweeps.job import run_job

if TYPE_CHECKING:
    from carlt.data import LongTailDataModule
    from carlt.training.callbacks.progress import Place

NAME = "carlt.train"
TERMINATED, INTERRUPTED = 128 + 15, 128 + 2


def run(
    config: DictConfig, run_dir: Path, data: "LongTailDataModule | None" = None, place: "Place | None" = None
) -> dict[str, Any]:
    """One run into ``run_dir``, or the rest of an interrupted one that lies there; returns its ``result.json``.

    ``data`` is what the config says, if it is built already; ``place`` is the run's in a sweep.
    """
    validate(config)
    # torch and Lightning take seconds that a wrong config need not pay.
    from lightning.pytorch.utilities.exceptions import SIGTERMException

    from carlt.evaluation import result as run_record
    from carlt.training import build as assembly
    from carlt.training import loggers

    run_record.commit()
    assembly.quiet_libraries()
    data = data or assembly.build_data(config)
    identity = run_hash(config, data.checksum())
    last = paths.checkpoint(run_dir, "last")
    resumes = bool(config.resume) and last.is_file()
    init = assembly.init_weights(config) if config.get("stage") and not resumes else None
    module = assembly.build_module(config, data, init)
    outlets = assembly.build_loggers(config, run_dir, place)
    trainer = assembly.build_trainer(config, run_dir, outlets, place)
    if trainer.is_global_zero:
        paths.write_text_atomic(run_dir / paths.CONFIG, OmegaConf.to_yaml(config, resolve=True))
    more = {"sweep": place.sweep} if place else {}
    began = time.monotonic()
    try:
        loggers.log_config(outlets, config, run_hash=identity, commit=run_record.commit(), **more)
        trainer.fit(module, data, ckpt_path=last if resumes else None, weights_only=True)
        seconds = time.monotonic() - began
        result = run_record.evaluate_and_record(run_dir, trainer, module, data, config.seed, seconds, identity)
        if trainer.is_global_zero:
            from carlt.reporting import plots, table

            loggers.log_results(outlets, run_dir, result["metrics"], plots.draw_run(run_dir))
            table.print_result(result, run_dir)
        return result
    except SystemExit as end:  # so Lightning answers SIGTERM and SIGINT, with codes 0 and 1
        print(f"interrupted; go on with: python -m carlt.train resume={run_dir}", file=sys.stderr)
        raise SystemExit(TERMINATED if isinstance(end, SIGTERMException) else INTERRUPTED) from None
    finally:
        loggers.finish(outlets, failed=sys.exc_info()[0] is not None)


def resumed_config(folder: Path, overrides: Sequence[str]) -> DictConfig:
    """The config of the run in ``folder`` with values changed by ``overrides``, e.g. a larger trainer.max_epochs."""
    if not (folder / paths.CONFIG).is_file():
        raise CarltError(f"resume={folder} is no run folder: it has no {paths.CONFIG}")
    config = OmegaConf.load(folder / paths.CONFIG)
    assert isinstance(config, DictConfig)
    command_line.apply_values(config, overrides)
    config.resume = str(folder)
    return config


def check_free(run_dir: Path) -> None:
    """A run never writes over another; what failed before its first epoch is no run."""
    if any((run_dir / name).exists() for name in (paths.RESULT, paths.METRICS, paths.CHECKPOINTS)):
        raise CarltError(f"{run_dir} holds a run: go on with it (resume={run_dir}) or choose another hydra.run.dir")


def main() -> None:
    """The command."""
    from hydra._internal.utils import get_args_parser

    given = sys.argv[1:]
    arguments = get_args_parser().parse_args(given)
    flags = [argument for argument in given if argument not in arguments.overrides]
    stored: DictConfig | None = None
    swept: sweep.Sweep | None = None
    try:
        if arguments.help or arguments.hydra_help or arguments.info or arguments.shell_completion:
            overrides = [*arguments.overrides, f"hydra.help.footer='{command_line.presets()}'"]
        elif folder := _resume_folder(arguments.overrides):
            values = [text for text in arguments.overrides if not text.startswith(("resume=", "hydra."))]
            if arguments.multirun:
                raise CarltError(
                    "resume= goes on with one run: leave -m out; a sweep goes on by the command it began with"
                )
            command_line.check_single(values)
            stored = resumed_config(folder, values)
            overrides = [f"resume='{folder}'", f"hydra.run.dir='{folder}'"]
        else:
            check = second_stage if second_stage.asked(arguments.overrides) else command_line
            overrides = check.check_overrides("train", arguments.overrides)
            if arguments.multirun and arguments.cfg:
                raise CarltError("--cfg shows the config of one run: leave -m out")
            if not (arguments.multirun or "hydra.mode=MULTIRUN" in overrides):
                command_line.check_single(overrides)
            elif not arguments.cfg:
                swept, overrides = sweep.plan(overrides)
    except CarltError as error:
        command_line.exit_with(NAME, error)

    def job(config: DictConfig) -> float | list[float] | None:
        run_dir = Path(HydraConfig.get().runtime.output_dir)
        try:
            config, objective = _of_a_run(config)
        except CarltError as error:  # the first run of a stage has gone, or does not fit this job
            command_line.exit_with(NAME, error)
        if swept is not None:
            return run_job(swept, config, objective, _is_first_process(), _job_of_sweep)
        _direct_children(run_dir, given if stored is not None else HydraConfig.get().overrides.task)
        try:
            if stored is None and _is_first_process():
                check_free(run_dir)
            with _own_process_group():
                run(stored or config, run_dir)
        except CarltError as error:
            command_line.exit_with(NAME, error)
        return None

    sys.argv = [sys.argv[0], *flags, *overrides, *searched()]
    command = hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="train")(job)
    if swept is None:
        command()
        return
    sweep.begin(swept)
    raise SystemExit(sweep.conclude(swept, _exit_code(command)))


def _exit_code(command: Callable[[], Any]) -> Any:
    """Run Hydra's command; what goes wrong outside of the jobs (a launcher, a search) is one line, too."""
    full = os.environ.get("HYDRA_FULL_ERROR")
    os.environ["HYDRA_FULL_ERROR"] = "1"  # or else Hydra prints a traceback itself
    try:
        command()
    except SystemExit as end:
        return end.code
    except Exception as error:
        if full == "1":
            raise
        print(f"{NAME}: error: {type(error).__name__}: {str(error).strip()}", file=sys.stderr)
        return 1
    finally:
        os.environ["HYDRA_FULL_ERROR"] = full or "0"
    return 0


def _job_of_sweep(config: DictConfig, run_dir: Path, data: Any, place: Any) -> dict[str, Any]:
    """A job begins, or goes on if ``config.resume`` says so."""
    _direct_children(run_dir, [f"resume={run_dir}"] if config.resume else HydraConfig.get().overrides.task)
    with _own_process_group():
        return run(config, run_dir, data, place)


@contextmanager
def _own_process_group() -> Iterator[None]:
    """Clear what DDP leaves behind in this process, so that the next job of a sweep can start a group of its own."""
    environment = dict(os.environ)
    try:
        yield
    finally:
        from carlt import distributed

        distributed.leave()
        os.environ.clear()
        os.environ.update(environment)


def _is_first_process() -> bool:
    """Whether no launcher (Lightning's, torchrun, SLURM) has given this process a rank above 0."""
    return all(os.environ.get(name, "0") == "0" for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID"))


def _direct_children(run_dir: Path, overrides: Sequence[str]) -> None:
    """DDP starts this command again for every further device: each is to do this job of a sweep, in this folder."""
    sys.argv = [sys.argv[0], *overrides, "hydra.mode=RUN"]
    run: Any = HydraConfig.get().run  # where Lightning looks for the folder
    with read_write(run):
        run.dir = str(run_dir)


def _of_a_run(config: DictConfig) -> tuple[DictConfig, Any]:
    """``config`` with the options it was composed of, for whoever reads it, and without the objective of a search."""
    hydras = ("hydra", "launcher", "sweep")
    hydra = HydraConfig.get()
    choices = {group: name for group, name in hydra.runtime.choices.items() if not group.startswith(hydras)}
    for group in command_line.BY_NAME:
        places = {name: f"{group}@{group}.{name}" for name in config[group]}
        if parts := [choices.pop(place) for place in places.values() if place in choices]:
            choices[group] = "+".join(parts)
    with open_dict(config):
        config.choices = choices
        if config.init_run:
            config = second_stage.staged(config, hydra.overrides.task)
        return config, config.pop("objective")


def _resume_folder(overrides: Sequence[str]) -> Path | None:
    given = [text.split("=", 1)[1] for text in overrides if text.startswith("resume=")]
    return Path(given[-1]).absolute() if given and given[-1] not in ("", "null") else None


if __name__ == "__main__":
    main()
