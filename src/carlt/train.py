"""``python -m carlt.train``: compose, validate, build, fit, evaluate, write the run record. The composition root."""

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf, open_dict

from carlt.config import second_stage
from carlt.config.compose import add_config_dir, conf_dir, search_path_override
from carlt.config.overrides import (
    NAMED,
    check_single,
    compose_checked,
    list_presets,
    sweep_overrides,
)
from carlt.config.schema import validate
from carlt.config.stored import load_config, resumed_config
from carlt.errors import CarltError, exit_with
from carlt.runs import paths
from carlt.runs.hash import run_hash
from carlt.runs.locks import claim_folder
from carlt.sweeps import plan

if TYPE_CHECKING:
    from carlt.data import LongTailDataModule
    from carlt.training.callbacks.progress import SweepPosition

NAME = "carlt.train"
TERMINATED, INTERRUPTED = 128 + 15, 128 + 2
CHILD = "CARLT_RUN_DIR"
"""The environment variable that gives the further processes of a run its folder."""


def run(
    config: DictConfig,
    folder: Path,
    *,
    data: "LongTailDataModule | None" = None,
    position: "SweepPosition | None" = None,
    hash_in_name: bool = False,
) -> dict[str, Any]:
    """One run into ``folder``, or the rest of an interrupted one that lies there.

    Args:
        config: complete, without the node ``hydra``; ``config.resume`` says that a run goes on.
        folder: the run folder; no other process may use it meanwhile.
        data: the data module of ``config``, if it is built already.
        position: of the run in a sweep.
        hash_in_name: append the first digits of the run's hash to the folder's name.

    Returns:
        The content of ``result.json``.

    Raises:
        CarltError: a mistake in the config, data that cannot be had, or a folder that is in use or holds a run.
    """
    validate(config)
    # torch and Lightning take seconds that a wrong config need not pay.
    from carlt.runs import provenance
    from carlt.training import build

    provenance.commit()
    build.quiet_libraries()
    data = data or build.build_data(config)
    identity = run_hash(config, data.checksum())
    if hash_in_name:
        folder = folder.with_name(f"{folder.name}_{identity[:8]}")
    claim = claim_folder(folder, new=not config.resume) if _is_first_process() else nullcontext()
    with claim, _own_process_group():
        return _run(config, folder, data, identity, position)


def _run(
    config: DictConfig, folder: Path, data: "LongTailDataModule", identity: str, position: "SweepPosition | None"
) -> dict[str, Any]:
    from lightning.pytorch.utilities.exceptions import SIGTERMException

    from carlt.evaluation.result import evaluate_and_record
    from carlt.runs import provenance
    from carlt.training import build, loggers

    last = paths.checkpoint(folder, "last")
    resumes = bool(config.resume) and last.is_file()
    initial = build.initial_weights(config) if config.get("stage") and not resumes else None
    module = build.build_module(config, data, initial)
    if resumes:
        done = build.check_resumable(last, module, config, data)
        _date_changes(config, done)
    run_loggers = build.build_loggers(config, folder, position)
    trainer = build.build_trainer(config, folder, run_loggers, position)
    with open_dict(config):
        config.run_hash, config.data_sha256 = identity, data.checksum()
    if trainer.is_global_zero:
        paths.write_text_atomic(folder / paths.CONFIG, OmegaConf.to_yaml(config, resolve=True))
    os.environ[CHILD] = str(folder)
    began = time.monotonic()
    try:
        loggers.log_config(
            run_loggers,
            config,
            run_hash=identity,
            commit=provenance.commit(),
            **({"sweep": position.sweep} if position else {}),
        )
        trainer.fit(module, data, ckpt_path=last if resumes else None, weights_only=True)
        seconds = time.monotonic() - began
        result = evaluate_and_record(folder, trainer, module, data, config.seed, seconds, identity)
        if trainer.is_global_zero:
            from carlt.reporting import plots, table

            loggers.log_results(run_loggers, folder, result["metrics"], plots.draw_run(folder))
            table.print_result(result, folder)
        return result
    except SystemExit as end:  # so Lightning answers SIGTERM and SIGINT, with codes 0 and 1
        print(f"interrupted; go on with: python -m carlt.train resume={folder}", file=sys.stderr)
        raise SystemExit(TERMINATED if isinstance(end, SIGTERMException) else INTERRUPTED) from None
    finally:
        data.close()
        loggers.finish(run_loggers, failed=sys.exc_info()[0] is not None)


def main() -> None:
    """The command."""
    arguments = _parse(sys.argv[1:])
    try:
        if CHILD in os.environ and not _is_first_process():  # a further process of a run on several devices
            folder = Path(os.environ[CHILD])
            run(load_config(folder, trust=True), folder)
        elif arguments.information:
            _show(arguments)
        elif arguments.resume:
            _resume(arguments)
        elif arguments.multirun:
            raise SystemExit(_sweep(arguments))
        else:
            config, folder, named = compose_run(arguments.overrides, trust=arguments.trust)
            run(config, folder, hash_in_name=not named)
    except CarltError as error:
        exit_with(NAME, error)


def compose_run(overrides: Sequence[str], *, trust: bool = False) -> tuple[DictConfig, Path, bool]:
    """The config of a command line that describes one run, its folder, and whether the command line names that folder.

    Raises:
        CarltError: lists every mistake.
    """
    check_single(overrides)
    stage = second_stage.is_second_stage(overrides)
    if stage:
        composed = second_stage.compose_stage("train", overrides, trust=trust)
    else:
        composed = compose_checked("train", overrides)
    _configure_log(composed)
    named = any(text.startswith("hydra.run.dir=") for text in overrides)
    folder = _hydra_folder(composed)
    config = config_of_run(composed, composed.hydra)
    if stage and not named:
        folder = Path("runs/stages") / f"{second_stage.default_name(config.init_run, config.choices.stage)}_{_now()}"
    if folder.absolute() == Path.cwd():
        raise CarltError("hydra.run.dir is the current folder; name a folder of its own for the run")
    return config, folder.absolute(), named


def config_of_run(composed: DictConfig, hydra: Any) -> DictConfig:
    """``composed`` without what belongs to Hydra and to a search, and with the options it was composed of."""
    config = composed.copy()
    OmegaConf.set_readonly(config, False)
    OmegaConf.set_struct(config, False)
    config.pop("hydra", None)
    config.pop("objective", None)
    if not config.get("stage"):
        config.choices = named_choices(config, hydra)
    return config


def named_choices(config: DictConfig, hydra: Any) -> dict[str, str]:
    """The option of each group, combined ones joined by +."""
    other = ("hydra", "launcher", "sweep")
    chosen = {group: name for group, name in hydra.runtime.choices.items() if not group.startswith(other)}
    for group in NAMED:
        places = {name: f"{group}@{group}.{name}" for name in config[group]}
        if parts := [chosen.pop(place) for place in places.values() if place in chosen]:
            chosen[group] = "+".join(parts)
    return {group: "+".join(name) if isinstance(name, list) else name for group, name in chosen.items()}


def _parse(words: Sequence[str]) -> argparse.Namespace:
    """The command line. Flags are Hydra's own and may stand anywhere."""
    parser = argparse.ArgumentParser(prog=f"python -m {NAME}", add_help=False, allow_abbrev=False)
    parser.error = lambda message: exit_with(NAME, CarltError(f"{message}; --help shows the usage"))  # type: ignore
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--multirun", "-m", action="store_true")
    parser.add_argument("--config-dir", "-cd", action="append", default=[])
    parser.add_argument("--help", "-h", action="store_true")
    parser.add_argument("--hydra-help", action="store_true")
    parser.add_argument("--cfg", "-c", choices=("job", "hydra", "all"))
    parser.add_argument("--package", "-p")
    parser.add_argument("--resolve", action="store_true")
    parser.add_argument("--info", "-i", nargs="?", const="all")
    parser.add_argument("--shell-completion", "-sc", action="store_true")
    arguments = parser.parse_intermixed_args(list(words))
    given = dict(text.partition("=")[::2] for text in arguments.overrides)
    arguments.trust = given.get("trust") == "true"
    arguments.resume = given.get("resume") if given.get("resume") != "null" else None
    try:
        for folder in arguments.config_dir:
            add_config_dir(folder)
        for text in [text for text in arguments.overrides if text.startswith("hydra.searchpath=")]:
            for folder in text.partition("=")[2].strip("[]").split(","):
                add_config_dir(folder.strip("'\" "))
        if arguments.resume == "":
            raise CarltError("resume= has no value: give the run folder to go on with")
        if "trust" in given and given["trust"] not in ("true", "false"):
            raise CarltError(f"trust={given['trust']}: expected true or false")
    except CarltError as error:
        exit_with(NAME, error)
    arguments.overrides = [o for o in arguments.overrides if not o.startswith(("trust=", "hydra.searchpath="))]
    arguments.multirun |= "hydra.mode=MULTIRUN" in arguments.overrides
    flags = ("help", "hydra_help", "cfg", "info", "shell_completion")
    arguments.information = any(getattr(arguments, flag) for flag in flags)
    return arguments


def _show(arguments: argparse.Namespace) -> None:
    """What Hydra prints without running anything: help, the composed config, information, completion."""
    words = [word for word in sys.argv[1:] if word not in arguments.overrides]
    if arguments.cfg or arguments.info:
        if arguments.multirun:
            raise CarltError("--cfg shows the config of one run: leave -m out")
        stage = second_stage.is_second_stage(arguments.overrides)
        check_single(arguments.overrides)
        overrides = (second_stage if stage else sys.modules[__name__]).sweep_overrides("train", arguments.overrides)
    else:
        overrides = [*arguments.overrides, f"hydra.help.footer='{list_presets()}'"]
    _hydra_command([*words, *overrides, search_path_override()], lambda config: None)


def _resume(arguments: argparse.Namespace) -> None:
    if arguments.multirun:
        raise CarltError("resume= goes on with one run: leave -m out; a sweep goes on by the command it began with")
    values = [text for text in arguments.overrides if not text.startswith(("resume=", "hydra."))]
    check_single(values)
    folder = Path(arguments.resume.strip("'\"")).absolute()
    run(resumed_config(folder, values, trust=arguments.trust), folder)


def _sweep(arguments: argparse.Namespace) -> int:
    """Run a sweep, or what is left of it; the exit code."""
    if second_stage.is_second_stage(arguments.overrides):
        overrides = second_stage.sweep_overrides("train", arguments.overrides, trust=arguments.trust)
    else:
        overrides = sweep_overrides("train", arguments.overrides)
    sweep, overrides = plan.plan(overrides)
    trust = arguments.trust

    def job(composed: DictConfig) -> Any:
        from hydra.core.hydra_config import HydraConfig

        from carlt.sweeps.job import run_job

        hydra = HydraConfig.get()
        try:
            with open_dict(composed):
                objective = composed.objective
                if composed.init_run:
                    composed.choices = named_choices(composed, hydra)
                    composed = second_stage.stage_config(composed, hydra.overrides.task, trust=trust)
            config = config_of_run(composed, hydra)
        except CarltError as error:  # the first run of a stage has gone, or does not fit this job
            exit_with(NAME, error)
        return run_job(plan.current(), config, objective, _is_first_process(), run)

    code, failed = _outcome(lambda: _hydra_command(["--multirun", *overrides, search_path_override()], job))
    if failed:  # Hydra has not come to the sweep's end
        plan.conclude(sweep)
    return plan.exit_code(sweep, code)


def _hydra_command(words: Sequence[str], job: Callable[[DictConfig], Any]) -> None:
    import hydra

    sys.argv = [sys.argv[0], *words]
    hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="train")(job)()


def _outcome(command: Callable[[], Any]) -> tuple[Any, bool]:
    """Run a command of Hydra's: its exit code, and whether it broke off. What goes wrong outside of the jobs (a
    launcher, a search) is one line, too."""
    full = os.environ.get("HYDRA_FULL_ERROR")
    os.environ["HYDRA_FULL_ERROR"] = "1"  # or else Hydra prints a traceback itself
    try:
        command()
    except SystemExit as end:
        return end.code, True
    except Exception as error:
        if full == "1":
            raise
        print(f"{NAME}: error: {type(error).__name__}: {str(error).strip()}", file=sys.stderr)
        return 1, True
    finally:
        os.environ["HYDRA_FULL_ERROR"] = full or "0"
    return 0, False


def _hydra_folder(composed: DictConfig) -> Path:
    """``hydra.run.dir`` with its interpolations resolved."""
    from hydra.core.hydra_config import HydraConfig

    holder: Any = HydraConfig.instance()
    before = holder.cfg
    try:
        holder.set_config(composed)
        return Path(str(composed.hydra.run.dir))
    finally:
        holder.cfg = before  # Lightning takes a process with Hydra's config for one that Hydra started


def _configure_log(composed: DictConfig) -> None:
    from hydra.core.utils import configure_log

    configure_log(composed.hydra.job_logging, composed.hydra.verbose)


def _now() -> str:
    return time.strftime("%Y%m%d-%H%M%S")


def _date_changes(config: DictConfig, epochs_done: int) -> None:
    """Write the epoch from which changed values hold into the latest entry of ``config.resumed``."""
    for change in config.get("resumed") or []:
        if change.from_epoch is None:
            change.from_epoch = epochs_done


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


if __name__ == "__main__":
    main()
